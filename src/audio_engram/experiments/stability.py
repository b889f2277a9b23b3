"""Is a sampled free-running rollout still speech, and which training keeps it so?"""

from typing import Any

import torch
from torch import Tensor

from audio_engram import numbers
from audio_engram.decision import ANSWERS, Criterion, Finding, decisive
from audio_engram.experiments.decoded import ORIGINAL, Decoded, can_be_heard
from audio_engram.experiments.followed import Followed
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.predictability import cell
from audio_engram.experiments.stretches import (
    figures,
    followed,
    horizons,
    judged_end,
    lived,
    not_whole,
    stays_whole,
    stretches,
)
from audio_engram.experiments.trajectories import Trajectories, find_trajectories
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score
from audio_engram.regimes import Regime, regime
from audio_engram.runs import Run
from audio_engram.statistics import Interval
from audio_engram.survival import survival

ANCHORS = ("teacher-forced", "shuffled frames", "Gaussian frames")  # that are played beside original and round trip
CRITERION = Criterion(
    experiment="stability",
    question="Are sampled free-running rollouts still like real speech after 20 s?",
    metric="frechet_latents_ratio",
    relation="below",
    threshold=1.5,
    reason="Fréchet distance of the stretch before 20 s to real stretches of other speakers, over that of real ones; "
    "with increments of 0.8 to 1.25 times the real median length, no step that is not finite, and at least 95 % of the "
    "teacher-forced excess of the best model that is trained on true contexts alone: standing still and forgetting are "
    "no stability.",
)
LONG = CRITERION.model_copy(update={"metric": "magnitude_p50_ratio", "relation": "above", "threshold": 0.8})
SHORT = CRITERION.model_copy(update={"metric": "magnitude_p50_ratio", "relation": "below", "threshold": 1.25})
LIKELY = CRITERION.model_copy(update={"metric": "excess_share", "relation": "above", "threshold": 0.95})


def stability(run: Run) -> Outcome:
    """Every training regime: sampled rollouts at every horizon beside real stretches, and what it costs in ΔNLL."""
    outcome = Outcome()
    regimes = [regime(name) for name in run.config.experiments.regimes]
    some = find_trajectories(run)
    anchors = some.anchors(run.model("mdn"))
    outcome.measurements += _references(some, anchors)
    excess = {one.name: _above_trivial(run, one) for one in regimes}
    plain = {one.name: excess[one.name] for one in regimes if not one.train}
    best = min(plain.values(), key=lambda nats: float(nats.mean()), default=None)
    if best is None or float(best.mean()) >= 0:
        best = None  # nothing above the baselines, of which a share could be kept
    judged, heard = [], {}
    for one in regimes:
        run.log(f"stability: sampled rollouts of {one.words}")
        batches = some.batches(run.drawing(one), max(horizons(some)), one.name)
        rolled = followed(some, batches, run.config.experiments.decoded)
        judged.append(_Judged(some, one, rolled, (excess[one.name], best)))
        outcome.measurements += judged[-1].measurements
        heard[one.name] = rolled.beginning
    if can_be_heard(run):
        _decode(some, anchors, heard, outcome)
    outcome.findings.append(_judge(judged, outcome.measurements))
    return outcome


def _decode(some: Trajectories, anchors: dict[str, Tensor], heard: dict[str, Tensor], outcome: Outcome) -> None:
    """Figures of some of the rollouts as audio, and what is played of the first."""
    some.run.log("stability: rollouts as sound")
    played = {name: anchors[name] for name in ANCHORS}
    decoded = Decoded(some, played, heard)
    found = decoded.outcome()
    outcome.measurements += found.measurements
    outcome.warnings += found.warnings
    decoded.keep({name: regime(name).words for name in heard})


def _references(some: Trajectories, anchors: dict[str, Tensor]) -> list[Measurement]:
    """Real utterances, real halves and the anchors, by the same figures."""
    run, found, ends = some.run, [], horizons(some)
    for name, latents in anchors.items():
        compared = some.manifold.compare(some.manifold.traits(latents), some.real_traits, some.bootstrap)
        step = some.real.shape[1]
        found += [_record(run, name, f"{metric}_ratio", one.ratio, step) for metric, one in compared.items()]
        if name == "teacher-forced":
            halves = {metric: one.halves for metric, one in compared.items()}
            found += [_record(run, "real halves", f"{metric}_ratio", i, step) for metric, i in halves.items()]
    lengths = torch.tensor([len(z) for z in some.whole])
    padded = torch.nn.utils.rnn.pad_sequence(some.whole, batch_first=True)
    shares = survival(some.manifold.range.diverge(padded, lengths), torch.tensor(ends).double(), some.bootstrap)
    return found + [_record(run, "real", "survival", i, end) for end, i in zip(ends, shares, strict=True)]


def _record(run: Run, model: str, metric: str, interval: Interval, step: int = 1, mode: str = "sampled") -> Measurement:
    return run.measure(interval, experiment="stability", model=model, metric=metric, step=step, mode=mode)


def _above_trivial(run: Run, one: Regime) -> Tensor:
    """Nats per frame above the best trivial baseline, teacher-forced at lag 1 on held-out frames."""
    scored, windows = cell(run, 1, "real"), run.windows("test", 1)
    ar1 = predictor(run.baseline("ar1"), reads_utterance=False)
    mine = score(predictor(run.drawing(one), reads_utterance=False), windows, windows.with_valid_target(), ar1)
    return mine.nll - scored.scores[scored.best_trivial()].nll


class _Judged:
    """A regime's rollouts beside real stretches; `excess` is its own and that of the best plain training."""

    def __init__(
        self,
        some: Trajectories,
        regime: Regime,
        rolled: Followed,
        excess: tuple[Tensor, Tensor | None],
    ) -> None:
        self.some, self.regime, self.excess = some, regime, excess
        of = stretches(some, rolled)
        self.measurements = [*figures(some, of, self._record), *lived(some, rolled, self._record), *self._likelihood()]

    def _likelihood(self) -> list[Measurement]:
        mine, best = self.excess
        run = self.some.run
        b = cell(run, 1, "real").bootstrap
        found = [self._record("delta_nll_excess", b.mean(mine), mode="teacher_forced")]
        if best is not None:
            found.append(self._record("excess_share", b.ratio(mine, best), mode="teacher_forced"))
        return found

    def _record(self, metric: str, interval: Interval, step: int = 1, mode: str = "sampled") -> Measurement:
        return _record(self.some.run, self.regime.name, metric, interval, step, mode)

    def one(self, metric: str, **what: Any) -> Measurement:
        """The record of a metric; of several the one that is judged."""
        wanted = [
            m for m in self.measurements if m.metric == metric and all(getattr(m, k) == v for k, v in what.items())
        ]
        limit = judged_end(self.some)
        return max((m for m in wanted if m.step <= limit), key=lambda m: m.step, default=wanted[-1])

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        magnitude = self.one("magnitude_p50_ratio")
        found = [(CRITERION, self.one("frechet_latents_ratio")), (LONG, magnitude), (SHORT, magnitude)]
        share = [m for m in self.measurements if m.metric == "excess_share"]
        broken = stays_whole(CRITERION, self.one("finite_share"))
        return [*broken, *found, *((LIKELY, one) for one in share)]


def _judge(judged: list[_Judged], measured: list[Measurement]) -> Finding:
    """One regime is enough: the one with the best verdict; of several that meets most conditions, and is nearest."""

    def merit(one: _Judged) -> tuple[int, int, float]:
        criterion, measured = decisive(one.conditions)
        met = sum(criterion.judge(measured) == "pass" for criterion, measured in one.conditions)
        value = one.one("frechet_latents_ratio").value
        rank = list(ANSWERS).index(criterion.judge(measured))
        return -rank, met - len(one.conditions), -(float("inf") if value is None else value)

    best = max(judged, key=merit)
    criterion, decided = decisive(best.conditions)
    step = best.one("frechet_latents_ratio").step
    seconds = step / best.some.run.codec.frame_rate
    return Finding(
        criterion=criterion,
        measured=decided,
        verdict=criterion.judge(decided),
        cause=criterion.cause(decided),
        words=f"{best.regime.words}: in the stretch before {seconds:.0f} s {best.some.counted} are "
        f"{show(best.one('frechet_latents_ratio'))} times as far from real stretches as these from one another "
        f"(Fréchet; lower is nearer; {CRITERION.bar}), their increments "
        f"{show(best.one('magnitude_p50_ratio'))} times as long ({numbers.threshold(LONG.threshold)} to "
        f"{numbers.threshold(SHORT.threshold)} passes); "
        f"{show(best.one('survival', step=step))} have not diverged.{best.some.fewer}"
        f"{not_whole(best.one('finite_share'))} {_likelihood(best)}"
        f"{_voiced(measured, best.regime.name)}{_anchors(measured)}",
        would_change="Another training regime (experiments.regimes), a longer context or more speech.",
    )


def _likelihood(best: _Judged) -> str:
    """What the training knows on true contexts, and how much of what could be known that is."""
    told = f"Its teacher-forced excess is {show(best.one('delta_nll_excess'))} nats a frame (lower is better)"
    share = [m for m in best.measurements if m.metric == "excess_share"]
    beside = [f", {show(m)} times that of the best training on true contexts ({LIKELY.bar})" for m in share]
    return f"{told}{''.join(beside)}."


def _voiced(measured: list[Measurement], name: str) -> str:
    """How much of the decoded rollouts is speech; no verdict rests on it, but no verdict is worth much without."""
    shares = {m.model: m for m in measured if m.metric == "speech_share" and m.value is not None}
    if name not in shares or ORIGINAL not in shares:
        return ""
    return (
        f" Of {numbers.plural(shares[name].n_frames, 'rollout')} that were decoded {show(shares[name])} of the time is "
        f"speech (recordings: {show(shares[ORIGINAL])})."
    )


def _anchors(measured: list[Measurement]) -> str:
    """What the distance says of frames that are no rollout at all: how much it asks for on these latents."""
    of = {m.model: m for m in measured if m.metric == CRITERION.metric}
    named = {"shuffled frames": "", "Gaussian frames": "", "teacher-forced": " draws"}
    told = [f"{name}{what} {show(of[name])}" for name, what in named.items() if name in of]
    return f" By the same distance: {'; '.join(told)}." if told else ""
