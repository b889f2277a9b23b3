"""Models side by side on the same held-out frames and as sampled trajectories, which are held against real speech."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from audio_engram.experiments.rollouts import baseline_nll, mean_after
from audio_engram.experiments.same_frames import SameFrames
from audio_engram.experiments.stretches import unbroken
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores
from audio_engram.rollout import Corrector, RolloutOptions
from audio_engram.runs import Run
from audio_engram.statistics import Interval
from audio_engram.survival import finite_frames

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

    @property
    def whole(self) -> Int[Tensor, " B"]:
        """For how many steps each sampled trajectory stays finite."""
        return finite_frames(self.traits.latents)


class SameTrajectories(SameFrames):
    """The frames, segments and trajectories that all models of an experiment are tried on.

    Rollouts that are scored advance by the typical step; trajectories are sampled, with the same draws for all.
    """

    def __init__(self, run: Run, experiment: str) -> None:
        self.trajectories = find_trajectories(run)
        super().__init__(run, experiment)
        self.increment_rolled = baseline_nll(run.baseline("increment"), *self.segments)

    def tried(self, name: str, model: nn.Module, corrector: Corrector | None = None) -> Tried:
        """Try a model, with a corrector of its rollouts if one is given."""
        self.run.log(f"{self.experiment}: {name}")
        rolled = self.rolled(model, RolloutOptions(corrector=corrector))
        some = self.trajectories
        sampled = some.sampled(model, some.real.shape[1], self.experiment, corrector)
        parameters = sum(p.numel() for p in model.parameters())
        forced = self.nll(model) if corrector is None else None
        return Tried(name, parameters, forced, rolled, some.manifold.traits(sampled))

    def records(self, one: Tried) -> list[Measurement]:
        """Its figures by themselves."""
        found = [
            *self._of_true_contexts(one),
            self._own_states("delta_nll_rollout", one.name, one.rolled, _nats(one.rolled) - self.increment_rolled),
            self._at_last("state_error", one.name, one.rolled, one.rolled.state_error),
        ]
        some = self.trajectories
        figures = some.manifold.compare(one.traits, some.real_traits, some.bootstrap)
        known = {f"{name}_ratio": figures[name].ratio for name in FIGURES}
        known |= unbroken(one.whole, some.real.shape[1], some.bootstrap)
        return found + [self._sampled(metric, interval, one.name) for metric, interval in known.items()]

    def differences(self, one: Tried, other: Tried) -> list[Measurement]:
        """How the first differs from the second, paired over speakers: below 0, of distances below 1, it is better."""
        some, between, rolled = self.trajectories, f"{one.name} - {other.name}", one.rolled
        times = some.manifold.times_as_far(one.traits, other.traits, some.real_traits, some.bootstrap)
        forced = [] if one.forced is None or other.forced is None else [self.bootstrap.mean(one.forced - other.forced)]
        return [
            *(self.record("delta_nll_difference", interval, between) for interval in forced),
            self._own_states("delta_nll_rollout_difference", between, rolled, _nats(rolled) - _nats(other.rolled)),
            self._at_last("state_error_difference", between, rolled, rolled.state_error - other.rolled.state_error),
            *(self._sampled(f"{name}_times", interval, between) for name, interval in times.items()),
        ]

    def _of_true_contexts(self, one: Tried) -> list[Measurement]:
        if one.forced is None:
            return []
        known = Interval(float(one.parameters), None, None, 0, 0)
        above = self.bootstrap.mean(one.forced - self.increment)
        return [self.record("parameters", known, one.name), self.record("delta_nll", above, one.name)]

    def _own_states(self, metric: str, model: str, rolled: RolloutScores, nats: Float[Tensor, "M S"]) -> Measurement:
        """Mean over steps 2 to the last; at step 1 a rollout still stands on true frames."""
        return self._after(metric, model, rolled, nats, 1)

    def _at_last(self, metric: str, model: str, rolled: RolloutScores, values: Float[Tensor, "M S"]) -> Measurement:
        return self._after(metric, model, rolled, values, self.steps - 1)

    def _after(self, metric: str, model: str, rolled: RolloutScores, values: Tensor, step: int) -> Measurement:
        interval = mean_after(self.run, rolled, values, step)
        return self.record(metric, interval, model, "free_running", self.steps)

    def _sampled(self, metric: str, interval: Interval, model: str) -> Measurement:
        return self.record(metric, interval, model, "sampled", self.trajectories.real.shape[1])


def _nats(rolled: RolloutScores) -> Float[Tensor, "M S"]:
    return rolled.nll.nan_to_num(WORST, posinf=WORST).clamp(max=WORST)
