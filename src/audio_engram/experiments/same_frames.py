"""Models side by side on the same held-out frames: on true contexts, in free running, and as sampled trajectories."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.experiments.rollouts import baseline_nll, rollout_segments
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.forcing import free_running
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores, predictor, score, score_rollouts
from audio_engram.rollout import Corrector, RolloutOptions
from audio_engram.runs import Run
from audio_engram.statistics import Interval

FIGURES = ("frechet_latents", "frechet_increments", "magnitude_p50")
WORST = 1e9  # nats: what exploded counts as an enormous loss, not as a missing one


@dataclass(frozen=True)
class Tried:
    """What one model does: nats of every true increment (None under a corrector, which moves rollouts alone), states
    that it rolls out to, trajectories that it samples."""

    name: str
    parameters: int
    forced: Float[Tensor, " M"] | None
    rolled: RolloutScores
    traits: Traits


class SameFrames:
    """The held-out frames, segments and trajectories that all models of an experiment are tried on.

    Rollouts that are scored advance by the typical step; trajectories are sampled, with the same draws for all.
    """

    def __init__(self, run: Run, experiment: str) -> None:
        self.run, self.experiment, self.steps = run, experiment, run.config.experiments.steps
        self.trajectories = find_trajectories(run)
        self.windows = run.windows("test", 1)
        self.index = self.windows.with_valid_target()
        self.segments, self.some = rollout_segments(run, self.steps)
        self.ar1 = run.baseline("ar1")
        increment = run.baseline("increment")
        self.increment = self._forced(increment)
        self.increment_rolled = baseline_nll(increment, self.segments, self.some)
        self.bootstrap = run.bootstrap(run.frames().speaker[self.windows.target[self.index]])

    def tried(self, name: str, model: nn.Module, corrector: Corrector | None = None) -> Tried:
        """Try a model, with a corrector of its rollouts if one is given."""
        self.run.log(f"{self.experiment}: {name}")
        mask = {name: free_running(self.steps)}
        options = RolloutOptions(corrector=corrector)
        rolled = score_rollouts(model, self.segments, self.some, mask, self.ar1.last, options)
        some = self.trajectories
        sampled = some.sampled(model, some.real.shape[1], self.experiment, corrector)
        parameters = sum(p.numel() for p in model.parameters())
        forced = self._forced(model) if corrector is None else None
        return Tried(name, parameters, forced, rolled[name], some.manifold.traits(sampled))

    def records(self, one: Tried) -> list[Measurement]:
        """Its figures by themselves."""
        found = [
            *self._of_true_contexts(one),
            self._rolled("delta_nll_rollout", one.name, one.rolled, _nats(one.rolled) - self.increment_rolled),
            self._at_last("state_error", one.name, one.rolled, one.rolled.state_error),
        ]
        some = self.trajectories
        figures = some.manifold.compare(one.traits, some.real_traits, some.bootstrap)
        return found + [self._sampled(f"{name}_ratio", figures[name].ratio, one.name) for name in FIGURES]

    def differences(self, one: Tried, other: Tried) -> list[Measurement]:
        """How the first differs from the second, paired over speakers: below 0, of distances below 1, it is better."""
        some, between, rolled = self.trajectories, f"{one.name} - {other.name}", one.rolled
        times = some.manifold.times_as_far(one.traits, other.traits, some.real_traits, some.bootstrap)
        forced = [] if one.forced is None or other.forced is None else [self.bootstrap.mean(one.forced - other.forced)]
        return [
            *(self.record("delta_nll_difference", interval, between) for interval in forced),
            self._rolled("delta_nll_rollout_difference", between, rolled, _nats(rolled) - _nats(other.rolled)),
            self._at_last("state_error_difference", between, rolled, rolled.state_error - other.rolled.state_error),
            *(self._sampled(f"{name}_times", interval, between) for name, interval in times.items()),
        ]

    def record(
        self, metric: str, interval: Interval, model: str, mode: str = "teacher_forced", step: int = 1, **what: Any
    ) -> Measurement:
        """A record of the experiment."""
        known = {"experiment": self.experiment, "model": model, "metric": metric, "mode": mode, "step": step}
        return self.run.measure(interval, **(known | what))

    def _of_true_contexts(self, one: Tried) -> list[Measurement]:
        if one.forced is None:
            return []
        known = Interval(float(one.parameters), None, None, 0, 0)
        above = self.bootstrap.mean(one.forced - self.increment)
        return [self.record("parameters", known, one.name), self.record("delta_nll", above, one.name)]

    def _rolled(self, metric: str, model: str, rolled: RolloutScores, nats: Float[Tensor, "M S"]) -> Measurement:
        """Mean over steps 2 to the last; at step 1 a rollout still stands on true frames."""
        return self._over(metric, model, rolled, nats, 1)

    def _at_last(self, metric: str, model: str, rolled: RolloutScores, values: Float[Tensor, "M S"]) -> Measurement:
        return self._over(metric, model, rolled, values, self.steps - 1)

    def _over(self, metric: str, model: str, rolled: RolloutScores, values: Tensor, start: int) -> Measurement:
        valid = rolled.valid[:, start:]
        interval = self.run.bootstrap(rolled.speaker[:, start:][valid]).mean(values[:, start:][valid])
        return self.record(metric, interval, model, "free_running", self.steps)

    def _sampled(self, metric: str, interval: Interval, model: str) -> Measurement:
        return self.record(metric, interval, model, "sampled", self.trajectories.real.shape[1])

    def _forced(self, model: nn.Module) -> Float[Tensor, " M"]:
        ar1 = predictor(self.ar1, reads_utterance=False)
        return score(predictor(model, reads_utterance=False), self.windows, self.index, ar1).nll


def _nats(rolled: RolloutScores) -> Float[Tensor, "M S"]:
    return rolled.nll.nan_to_num(WORST, posinf=WORST).clamp(max=WORST)
