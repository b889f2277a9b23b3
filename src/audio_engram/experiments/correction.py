"""Does a corrector that follows a learned score bring rollouts nearer to speech and to the truth?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import inf, isnan, log

from jaxtyping import Float, Int
from torch import Tensor, nn

from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.experiments.correctors import recipes
from audio_engram.experiments.followed import Wanted, follow
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.rollouts import free_rollouts, mean_after
from audio_engram.experiments.stretches import horizons, survived, unbroken
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores
from audio_engram.regimes import regime
from audio_engram.rollout import Corrector, RolloutOptions
from audio_engram.runs import Run
from audio_engram.score.correction import broken_step
from audio_engram.statistics import Interval
from audio_engram.survival import Divergence, finite_frames

NONE = "uncorrected"
MOST_SEGMENTS = 1024  # of a split: a corrector may call its denoiser many times for each step
FIGURES = ("frechet_latents", "frechet_increments", "magnitude_p50", "variance_p50", "effective_rank")

CRITERION = Criterion(
    experiment="correction",
    question="Does score correction help rollouts?",
    metric="frechet_latents_times",
    relation="below",
    threshold=1.0,
    reason="Fréchet distance of the end of sampled rollouts to real stretches, with the corrector over without it, on "
    "the same speakers; and the state error of free-running rollouts by the typical step, with less without, below "
    "\N{MINUS SIGN}1 % of it: a pull inwards takes next to nothing off that of a model that is right. Both intervals "
    "must lie on the good side: pulling everything to the mean lowers the state error alone, and noise the distance "
    "alone. The corrector is chosen on validation speakers.",
)
LEAST = 0.01  # of the state error without a corrector
WHOLE = CRITERION.model_copy(update={"metric": "corrector_broken_share", "threshold": 0.001})

Make = Callable[[], Corrector]
_MODES = {"free_running": "by the typical step", "sampled": "sampled"}


def correction(run: Run) -> Outcome:
    """Rollouts of one model without and with every corrector, on validation and on held-out speakers."""
    settings = run.config.experiments.correction
    model = run.drawing(regime(settings.regime))
    return compare(run, model, {one.name: partial(one.make, run) for one in recipes(settings)})


def compare(run: Run, model: nn.Module, correctors: Mapping[str, Make]) -> Outcome:
    """Try every corrector on the rollouts of a model; judge the one that validation speakers prefer."""
    validation, test = (_Split(run, model, split) for split in ("validation", "test"))
    outcome = Outcome(measurements=test.alone(NONE, test.plain))
    tried, judged = {}, {}
    for name, make in correctors.items():
        run.log(f"correction: {name}")
        tried[name], judged[name] = validation.compared(name, make), test.compared(name, make)
        outcome.measurements += tried[name].differences + tried[name].broken + judged[name].measurements
    best = min(tried, key=lambda name: tried[name].merit)
    why = _why(list(tried.values()))
    outcome.findings.append(_judge(judged[best], why, show(_plain_error(outcome.measurements))))
    return outcome


@dataclass(frozen=True)
class _Rolled:
    """Rollouts of a model: scored ones by the typical step, of sampled ones the distance to the true state at the same
    step, the end and when each diverged; how many steps each stays finite, and where a corrector broke it (0: nowhere).
    """

    scores: RolloutScores
    drawn_error: Float[Tensor, " B"]
    traits: Traits
    divergence: Divergence
    finite: dict[str, Int[Tensor, " _"]]
    broken: dict[str, Int[Tensor, " _"]]


class _Split:
    """The segments and trajectories of a split, and what the model does on them by itself."""

    def __init__(self, run: Run, model: nn.Module, split: str) -> None:
        settings = run.config.experiments
        self.run, self.model, self.split, self.steps = run, model, split, settings.steps
        self.some = find_trajectories(run, split)
        self.windows = run.windows(split, self.steps)
        self.index = self.windows.evenly(min(MOST_SEGMENTS, settings.max_segments))
        self.stretch = self.some.real.shape[1]
        self.length = max(self.stretch, round(settings.correction.seconds * run.codec.frame_rate))

    @cached_property
    def plain(self) -> _Rolled:
        """Without a corrector."""
        return self.rollouts(None)

    def rollouts(self, make: Make | None) -> _Rolled:
        """Rollouts with a corrector; increments are drawn by the same random numbers as without."""
        options = RolloutOptions(corrector=make() if make else None)
        scores = free_rollouts(self.run, self.model, (self.windows, self.index), options)
        some, last = self.some, min(self.steps, self.stretch)
        batches = some.batches(self.model, self.length, "correction", make() if make else None)
        wanted = Wanted((self.length,), self.stretch, (len(some.context), last))
        drawn = follow(batches, wanted, some.manifold.range)
        finite = {"free_running": finite_frames(scores.state_error.unsqueeze(2)), "sampled": drawn.finite}
        alone = self.plain.finite if make else finite
        broken = {mode: broken_step(finite[mode], alone[mode]) for mode in finite}
        error = (drawn.beginning[:, -1] - some.real[:, last - 1]).norm(dim=1)
        traits = some.manifold.traits(drawn.stretches[self.length])
        return _Rolled(scores, error, traits, drawn.divergence, finite, broken)

    @cached_property
    def plain_error(self) -> float:
        """State error without a corrector."""
        return self.at_last(self.plain.scores.state_error).value

    @property
    def nearer(self) -> Criterion:
        """By how much a corrector must lower it."""
        return CRITERION.model_copy(update={"metric": "state_error_difference", "threshold": -LEAST * self.plain_error})

    def compared(self, name: str, make: Make) -> "_Compared":
        """With a corrector beside without."""
        rolled = self.rollouts(make)
        return _Compared(self, name, rolled)

    def alone(self, name: str, rolled: _Rolled) -> list[Measurement]:
        """The figures of one kind of rollouts."""
        some = self.some
        found = [self.record("state_error", self.at_last(rolled.scores.state_error), name, "free_running")]
        whole = unbroken(rolled.finite["sampled"], self.length, some.bootstrap)
        found += [self.record(metric, interval, name, "sampled") for metric, interval in whole.items()]
        ends = [end for end in horizons(some) if end < self.length]
        found += survived(some, rolled.divergence, [*ends, self.length], partial(self._survival, name))
        if bool(rolled.traits.latents.isfinite().all(2).any()):
            figures = some.manifold.compare(rolled.traits, some.real_traits, some.bootstrap)
            found += [self.record(f"{figure}_ratio", figures[figure].ratio, name, "sampled") for figure in FIGURES]
        return found

    def at_last(self, values: Tensor) -> Interval:
        """Mean at the last step."""
        return mean_after(self.run, self.plain.scores, values, self.steps - 1, self.split)

    def _survival(self, name: str, metric: str, interval: Interval, step: int) -> Measurement:
        return self.record(metric, interval, name, "sampled", step)

    def record(self, metric: str, interval: Interval, model: str, mode: str, step: int | None = None) -> Measurement:
        """A record of this split; of the last step unless another is given."""
        step = step or (self.steps if mode == "free_running" else self.length)
        what = {"metric": metric, "model": model, "mode": mode, "step": step, "split": self.split}
        return self.run.measure(interval, experiment="correction", **what)


class _Compared:
    """Rollouts with a corrector, less or over those without."""

    def __init__(self, on: _Split, name: str, rolled: _Rolled) -> None:
        self.on, self.name, self.rolled = on, name, rolled
        some, difference = on.some, rolled.scores.state_error - on.plain.scores.state_error
        times = some.manifold.times_as_far(rolled.traits, on.plain.traits, some.real_traits, some.bootstrap)
        between = f"{name} - {NONE}"
        self.state = on.record("state_error_difference", on.at_last(difference), between, "free_running")
        self.times = on.record("frechet_latents_times", times["frechet_latents"], between, "sampled")
        increments = on.record("frechet_increments_times", times["frechet_increments"], between, "sampled")
        drawn = some.bootstrap.mean(rolled.drawn_error - on.plain.drawn_error)
        sampled = on.record("sampled_state_error_difference", drawn, between, "sampled")
        self.differences = [self.state, sampled, self.times, increments]
        self.broken = [m for mode in rolled.broken for m in self._breaks(mode)]

    def _breaks(self, mode: str) -> list[Measurement]:
        """The share of rollouts that the corrector broke, and the first step at which it broke one (0: none)."""
        on, steps = self.on, self.rolled.broken[mode]
        rows = steps > 0
        first = float(steps[rows].min()) if bool(rows.any()) else 0.0
        n = len(steps)
        share = Interval(float(rows.double().mean()), None, None, n, on.some.bootstrap.n_speakers)
        step = Interval(first, None, None, n, on.some.bootstrap.n_speakers)
        return [
            on.record("corrector_broken_share", share, self.name, mode),
            on.record("corrector_broken_step", step, self.name, mode),
        ]

    @property
    def measurements(self) -> list[Measurement]:
        return [*self.differences, *self.broken, *self.on.alone(self.name, self.rolled)]

    @property
    def merit(self) -> float:
        """The worse of the two conditions, as the log of a ratio: below 0 both are better than without."""
        if self.broke or self.state.value is None or self.times.value is None:
            return inf
        error, times = 1 + self.state.value / self.on.plain_error, self.times.value
        worse = max(log(error) if error > 0 else -inf, log(times) if times > 0 else -inf)
        return inf if isnan(worse) else worse

    @property
    def broke(self) -> list[Measurement]:
        """The shares of rollouts that it broke, where it did."""
        return [m for m in self.broken if m.metric == "corrector_broken_share" and m.value]

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        # A share of 0 has no interval: no rollout broke, which is all that can be asked.
        broke = [(WHOLE, m.model_copy(update={"low": m.value, "high": 1.0})) for m in self.broke]
        return [*broke, (CRITERION, self.times), (self.on.nearer, self.state)]


def _plain_error(measurements: list[Measurement]) -> Measurement:
    return next(m for m in measurements if (m.model, m.metric) == (NONE, "state_error"))


def _why(tried: list[_Compared]) -> str:
    """Why one of the correctors is judged; empty where too few validation speakers can tell them apart."""
    if len(tried) == 1:
        return "the only corrector"
    if any(one.merit < inf for one in tried):
        return "the corrector that validation speakers prefer"
    if all(one.broke for one in tried):
        return "the first of the correctors, all of which broke rollouts of validation speakers"
    return ""


def _judge(judged: _Compared, why: str, without: str) -> Finding:
    criterion, measured = decisive(judged.conditions)
    on = judged.on
    if not why:
        return Finding(
            criterion=criterion,
            measured=measured,
            verdict="undecided",
            cause="none chosen",
            words=f"No corrector could be chosen: of too few validation speakers distances have no value. Of "
            f"{judged.name}, the first, held-out speakers say {show(judged.times)} (distance to real stretches over "
            f"that without it; {CRITERION.bar}).",
            would_change="More validation speakers with long utterances, or one corrector alone "
            "(experiments.correction).",
        )
    words = (
        f"{judged.name}, {why}: after {on.length / on.run.codec.frame_rate:.0f} s "
        f"{on.some.counted} are {show(judged.times)} times as far from real stretches with it as without (Fréchet; "
        f"lower is nearer to speech; {CRITERION.bar}). The state error at step {on.steps} is {without} without it and "
        f"changes by {show(judged.state)} with it (lower is nearer to the truth; {on.nearer.bar}).{on.some.fewer}"
    )
    for share, step in zip(judged.broken[::2], judged.broken[1::2], strict=True):
        if share.value:
            words += f" It broke {share.value:.0%} of rollouts ({_MODES[share.mode]}), first at step {step.value:.0f}."
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured),
        cause=criterion.cause(measured),
        words=words,
        would_change="Other noise levels, step sizes or numbers of steps (experiments.correction), a larger denoiser "
        "(score), or a model whose rollouts leave more to correct.",
    )
