"""Models side by side on the same held-out frames: on true contexts, and in rollouts that are given no true frame."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.experiments.rollouts import free_rollouts, rollout_segments
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores, predictor, score
from audio_engram.rollout import RolloutOptions
from audio_engram.runs import Run
from audio_engram.statistics import Interval


class SameFrames:
    """The held-out frames and segments that all models of an experiment are tried on."""

    def __init__(self, run: Run, experiment: str) -> None:
        self.run, self.experiment, self.steps = run, experiment, run.config.experiments.steps
        self.windows = run.windows("test", 1)
        self.index = self.windows.with_valid_target()
        self.segments = rollout_segments(run, self.steps)
        self.bootstrap = run.bootstrap(run.frames().speaker[self.windows.target[self.index]])
        self.increment = self.nll(run.baseline("increment"))

    def nll(self, model: nn.Module) -> Float[Tensor, " M"]:
        """Nats of every true increment, given the true context."""
        ar1 = predictor(self.run.baseline("ar1"), reads_utterance=False)
        return score(predictor(model, reads_utterance=False), self.windows, self.index, ar1).nll

    def rolled(self, model: nn.Module, options: RolloutOptions) -> RolloutScores:
        """Free-running rollouts from the segments."""
        return free_rollouts(self.run, model, self.segments, options)

    def record(
        self, metric: str, interval: Interval, model: str, mode: str = "teacher_forced", step: int = 1, **what: Any
    ) -> Measurement:
        """A record of the experiment."""
        known = {"experiment": self.experiment, "model": model, "metric": metric, "mode": mode, "step": step}
        return self.run.measure(interval, **(known | what))
