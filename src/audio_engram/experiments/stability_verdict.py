"""Which training keeps sampled rollouts like speech: conditions, the one that is judged, and what is said of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audio_engram import numbers
from audio_engram.decision import ANSWERS, Condition, Criterion, Finding, decisive
from audio_engram.experiments.decoded import ORIGINAL
from audio_engram.experiments.outcome import show
from audio_engram.experiments.predictability import MARGIN
from audio_engram.experiments.stretches import not_whole, stays_whole
from audio_engram.measurements import Measurement
from audio_engram.regimes import Regime, regime

CRITERION = Criterion(
    experiment="stability",
    question="Are sampled free-running rollouts still like real speech?",
    metric="frechet_latents_ratio",
    relation="below",
    threshold=1.5,
    reason="Fréchet distance of the stretch before 20 s (or the last horizon before that) to real stretches of other "
    "speakers, over that of real ones; with increments of 0.8 to 1.25 times the real median length, no step up to the "
    "last horizon that is not finite, and at least 95 % of the teacher-forced excess of the best model that is trained "
    f"on true contexts alone, or, where that has none, an NLL within {MARGIN} nats per dimension of its: standing "
    "still and forgetting are no stability.",
)
LONG = CRITERION.model_copy(update={"metric": "magnitude_p50_ratio", "relation": "above", "threshold": 0.8})
SHORT = CRITERION.model_copy(update={"metric": "magnitude_p50_ratio", "relation": "below", "threshold": 1.25})
LIKELY = CRITERION.model_copy(update={"metric": "excess_share", "relation": "above", "threshold": 0.95})
TIMES = "frechet_latents_times"
NAMED = {
    "frechet_latents_ratio": "the distance to real stretches is {} times that among these",
    "magnitude_p50_ratio": "increments are {} times as long as real ones",
    "excess_share": "its teacher-forced excess is {} times the best",
    "delta_nll_difference": "its NLL on true contexts less the best is {} nats a frame",
    "finite_share": "only {} of its rollouts stay finite to the last horizon",
}
"""What each condition measures, in words."""
MOST_DIVERGED = 0.1  # of recordings, by bounds that hardly any should leave


@dataclass(frozen=True)
class Horizon:
    """Where rollouts are judged: the step, how many of them are a second, in a sentence how many rollouts, and how many
    dimensions latents have."""

    end: int
    frame_rate: float
    counted: str
    dim: int

    @property
    def no_worse(self) -> Criterion:
        """What likelihood must be where nothing is predictable, and no share of it can be kept."""
        return CRITERION.model_copy(update={"metric": "delta_nll_difference", "threshold": MARGIN * self.dim})


@dataclass(frozen=True)
class Judged:
    """A training, all that was measured of it, and where it is judged."""

    regime: Regime
    measurements: Sequence[Measurement]
    at: Horizon

    def one(self, metric: str) -> Measurement:
        """The record of a metric; of several the one that is judged."""
        wanted = [m for m in self.measurements if m.metric == metric]
        return max((m for m in wanted if m.step <= self.at.end), key=lambda m: m.step, default=wanted[-1])

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        magnitude = self.one("magnitude_p50_ratio")
        found = [(CRITERION, self.one(CRITERION.metric)), (LONG, magnitude), (SHORT, magnitude)]
        likely = [
            (asked, m) for asked in (LIKELY, self.at.no_worse) for m in self.measurements if m.metric == asked.metric
        ]
        broken = stays_whole(CRITERION, self.one("finite_share"))
        return [*broken, *found, *likely]

    @property
    def unmet(self) -> list[tuple[Criterion, Measurement]]:
        """Those that do not hold, or are open."""
        return [(criterion, m) for criterion, m in self.conditions if criterion.judge(m) != "pass"]

    @property
    def finite(self) -> float:
        """The distance of what is finite of rollouts; without end where there is none."""
        value = self.one(CRITERION.metric).value
        return float("inf") if value is None else value

    @property
    def distance(self) -> float:
        """That is judged; without end where not all rollouts have one."""
        return self.finite if self.one("finite_share").value == 1.0 else float("inf")


def judge(at: Horizon, judged: Sequence[Judged], measured: Sequence[Measurement]) -> Finding:
    """One training is enough: the one with the best verdict; of several that meets most conditions, and is nearest."""

    def merit(one: Judged) -> tuple[int, int, float]:
        criterion, decided = decisive(one.conditions)
        return -list(ANSWERS).index(criterion.judge(decided)), -len(one.unmet), -one.distance

    best = max(judged, key=merit)
    criterion, decided = decisive(best.conditions)
    cautions = (
        _luckiest(judged, criterion.judge(decided)),
        _bought(best.regime),
        _voiced(measured, best.regime.name),
        _in_random_order(measured),
    )
    return Finding(
        criterion=criterion,
        measured=decided,
        verdict=criterion.judge(decided),
        cause=criterion.cause(decided),
        words=f"{best.regime.words}: {_conditions(at, best)}{_nearest(judged, best)}{_broken(judged, best)}",
        conditions=tuple(Condition(criterion=asked, measured=m) for asked, m in best.conditions),
        caution=" ".join(filter(None, cautions)),
        more=_more(at, best, measured),
        would_change="Another training regime (experiments.regimes: utterance features, a transformer over a longer "
        "model.context), or more speech.",
    )


def recordings_diverge(at: Horizon, measured: Sequence[Measurement]) -> list[str]:
    """The warning that survival is of little worth, where the bounds call many recordings divergent."""
    real = _recordings(at, measured)
    if real is None or real.value is None or real.value >= 1 - MOST_DIVERGED:
        return []
    return [
        f"Stability: of the recordings themselves {show(real)} have not diverged by {_seconds(at, real)} under the "
        "bounds of survival. Hold rollouts against that and not against 1."
    ]


def _conditions(at: Horizon, best: Judged) -> str:
    """How many of the conditions hold, and the first that does not."""
    n, unmet = len(best.conditions), best.unmet
    until = _seconds(at, best.one(CRITERION.metric))
    distance = _told(CRITERION, best.one(CRITERION.metric))
    if not unmet:
        return f"in the stretch before {until} all of {n} conditions hold; {distance}."
    held = f"in the stretch before {until} {n - len(unmet)} of {n} conditions hold"
    missed = " and ".join(_told(*one) for one in unmet)
    return f"{held}; {missed}."


def _told(criterion: Criterion, measured: Measurement) -> str:
    # A share of rollouts that stay finite has a made-up interval, so that it can be judged.
    value = numbers.number(measured.value) if criterion.metric == "finite_share" else show(measured)
    return f"{NAMED[criterion.metric].format(value)} ({criterion.bar})"


def _nearest(judged: Sequence[Judged], best: Judged) -> str:
    """The training that is nearer than the one that is judged, and what it misses; none where that is the nearest."""
    near = min(judged, key=lambda one: one.distance)
    if near.distance >= best.distance:
        return ""
    missed = " and ".join(_told(*one) for one in near.unmet if one[0] != CRITERION or len(near.unmet) == 1)
    return f" Nearest is {near.regime.words} ({show(near.one(CRITERION.metric))}), but {missed}."


def _broken(judged: Sequence[Judged], best: Judged) -> str:
    """The training that is nearer than all others by what is finite of its rollouts, where not all is."""
    near = min(judged, key=lambda one: one.finite)
    if near is best or near.finite >= min(one.distance for one in judged):
        return ""
    nearer = f"{near.regime.words} is nearer ({show(near.one(CRITERION.metric))})"
    return f" By its finite frames {nearer}, but {_told(*near.conditions[0])}."


def _luckiest(judged: Sequence[Judged], verdict: str) -> str:
    """That the best of several was chosen on the speakers that it is judged by, where that can have made it pass."""
    if verdict != "pass" or len(judged) == 1:
        return ""
    return (
        f"It is the best of {len(judged)} trainings on the speakers that judge it: were none better than the bar, one "
        f"could pass by luck in up to {min(1.0, 0.025 * len(judged)):.0%} of runs."
    )


def _bought(regime: Regime) -> str:
    """What a likelihood is worth where most draws have nothing to do with it."""
    if regime.share == 1.0:
        return ""
    return (
        f"{regime.share:.0%} of its draws are stored residuals: whatever these are like, the others hold the "
        f"likelihood to within {-math.log(1 - regime.share):.3g} nats."
    )


def _in_random_order(measured: Sequence[Measurement]) -> str:
    """What the distance says of true frames in random order: how much it asks for on these latents."""
    of = {m.metric: m for m in measured if m.model == "shuffled frames"}
    latents, increments = (of.get(f"frechet_{what}_ratio") for what in ("latents", "increments"))
    if latents is None or increments is None:
        return ""
    little = ", and would pass" if CRITERION.judge(latents) == "pass" else ""
    return (
        f"By the same distance true frames in random order are at {show(latents)}{little} "
        f"({show(increments)} by increments)."
    )


def _voiced(measured: Sequence[Measurement], name: str) -> str:
    """How much of the decoded rollouts is speech; no verdict rests on it, but no verdict is worth much without."""
    shares = {m.model: m for m in measured if m.metric == "speech_share" and m.value is not None}
    if name not in shares or ORIGINAL not in shares:
        return ""
    return f"Of its decoded sound {show(shares[name])} is speech, of recordings {show(shares[ORIGINAL])}."


def _more(at: Horizon, best: Judged, measured: Sequence[Measurement]) -> str:
    """What no verdict rests on."""
    of = {m.model: m for m in measured if m.metric == CRITERION.metric}
    beside = {"Gaussian frames": "Gaussian frames", "teacher-forced": "draws from true contexts"}
    anchors = "; ".join(f"{words} {show(of[name])}" for name, words in beside.items() if name in of)
    excess = f"Its teacher-forced excess is {show(best.one('delta_nll_excess'))} nats a frame (lower is better)."
    told = [
        f"{at.counted}{not_whole(best.one('finite_share'))}",
        f"{show(best.one('survival'))} of them have not diverged by then{_lived(at, measured)}.",
        f"{excess} By the same distance (lower is nearer): {anchors}.",
        _controls(best, measured),
    ]
    return " ".join(filter(None, told))


def _controls(best: Judged, measured: Sequence[Measurement]) -> str:
    """How much nearer it is than what it must beat."""
    mine = [m for m in measured if m.metric == TIMES and m.model.startswith(f"{best.regime.name} - ")]
    told = "; ".join(f"{regime(m.model.partition(' - ')[2]).words} {show(m)}" for m in mine)
    return f"Its distance over that of other trainings (below 1 is nearer): {told}." if told else ""


def _lived(at: Horizon, measured: Sequence[Measurement]) -> str:
    """Survival of recordings at the last horizon that they reach."""
    real = _recordings(at, measured)
    return "" if real is None else f", and {show(real)} of recordings by {_seconds(at, real)}"


def _recordings(at: Horizon, measured: Sequence[Measurement]) -> Measurement | None:
    lived = [m for m in measured if (m.model, m.metric) == ("real", "survival") and m.n_frames]
    return max((m for m in lived if m.step <= at.end), key=lambda m: m.step, default=None)


def _seconds(at: Horizon, measured: Measurement) -> str:
    return f"{numbers.threshold(float(f'{measured.step / at.frame_rate:.2g}'))} s"
