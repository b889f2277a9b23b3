"""Does training on drawn states keep the magnitude of increments, and what does it cost in likelihood?"""

import torch

from audio_engram import numbers
from audio_engram.config import Config
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.errors import UsageError
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.predictability import MARGIN
from audio_engram.experiments.same_frames import SameFrames
from audio_engram.measurements import Measurement
from audio_engram.regimes import REGIMES, Regime, regime
from audio_engram.rollout import RolloutOptions, Step
from audio_engram.runs import Run
from audio_engram.seeds import seed_for

SETTING = "experiments.sampling_regimes"
MODES: dict[str, Step] = {"sampled": "sample", "mean": "mean"}

LONG = Criterion(
    experiment="sampling",
    question="Does training on samples keep the magnitude of rollouts?",
    metric="magnitude_ratio",
    relation="above",
    threshold=0.8,
    reason="Length of the increments at the last step of rollouts that draw every increment, over that of the true "
    "ones: 0.8 to 1.25. And what the training costs on true contexts, in NLL against the teacher-forced model that it "
    f"started from, must lie below {MARGIN} nats per dimension: that much two trainings differ by luck, so that less "
    "is no loss.",
)
SHORT = LONG.model_copy(update={"relation": "below", "threshold": 1.25})


def sampling(run: Run) -> Outcome:
    """Unrolled trainings and the teacher-forced models that they start from: magnitudes in rollout, and ΔNLL."""
    regimes = unrolled_regimes(run.config)
    tried: dict[str, _Tried] = {}
    outcome, same = Outcome(), SameFrames(run, LONG.experiment)
    for name in dict.fromkeys((*(one.start for one in regimes), *(one.name for one in regimes))):
        run.log(f"sampling: {REGIMES[name].words}")
        tried[name] = _Tried(same, REGIMES[name])
        outcome.measurements += tried[name].measurements
    for one in regimes:
        others = [name for name in dict.fromkeys((one.start, one.control)) if name in tried]
        losses = [tried[one.name].loss(tried[name]) for name in others]
        outcome.measurements += losses
        if one.train["step"] == "sample":
            control = tried.get(one.control)
            outcome.findings.append(_judge(tried[one.name], losses[0], tried[one.start], control))
    return outcome


def unrolled_regimes(config: Config) -> list[Regime]:
    """The trainings that are compared.

    Raises:
        UsageError: for one that does not exist or is not on the model's own states.
    """
    own = [name for name, one in REGIMES.items() if one.start]
    for name in config.experiments.sampling_regimes:
        if not regime(name, SETTING).start:
            raise UsageError(f"{SETTING}: {name}: trains on true contexts alone: use {', '.join(own)}")
    return [REGIMES[name] for name in config.experiments.sampling_regimes]


class _Tried:
    """One training: nats on true contexts, and the length of its increments at every step of free-running rollouts."""

    def __init__(self, same: SameFrames, one: Regime) -> None:
        self.same, self.regime = same, one
        self.model = same.run.trained(one)
        self.nll = same.nll(self.model)
        self.ratios = {mode: self._ratios(mode, step) for mode, step in MODES.items()}

    def _ratios(self, mode: str, step: Step) -> list[Measurement]:
        """Sum of predicted over sum of true magnitudes at each step that has any."""
        same, run = self.same, self.same.run
        generator = torch.Generator(run.device).manual_seed(seed_for(run.config.seed, same.experiment))
        rolled = same.rolled(self.model, RolloutOptions(step, generator=generator))
        found = []
        for s in range(same.steps):
            keep = rolled.valid[:, s]
            interval = run.bootstrap(rolled.speaker[keep, s]).ratio(
                rolled.magnitude[keep, s], rolled.true_magnitude[keep, s]
            )
            found.append(same.record("magnitude_ratio", interval, self.regime.name, mode, s + 1))
        return found

    @property
    def last(self) -> Measurement:
        """The magnitude ratio that is judged."""
        return self.ratios["sampled"][-1]

    @property
    def measurements(self) -> list[Measurement]:
        above = self.same.bootstrap.mean(self.nll - self.same.increment)
        forced = self.same.record("delta_nll", above, self.regime.name)
        return [forced, *(m for some in self.ratios.values() for m in some)]

    def loss(self, other: "_Tried") -> Measurement:
        """Nats a frame that this training is worse by than another, on the same frames."""
        between = f"{self.regime.name} - {other.regime.name}"
        interval = self.same.bootstrap.mean(self.nll - other.nll)
        return self.same.record("delta_nll_difference", interval, between)


def _judge(tried: _Tried, loss: Measurement, start: _Tried, control: _Tried | None) -> Finding:
    tolerance = MARGIN * tried.same.run.frames().dim
    cheap = SHORT.model_copy(update={"metric": "delta_nll_difference", "threshold": tolerance})
    criterion, measured = decisive([(LONG, tried.last), (SHORT, tried.last), (cheap, loss)])
    beside = [f"{show(start.last)} after teacher forcing alone"]
    if control is not None and control is not start:
        beside.append(f"{show(control.last)} after {control.regime.words}")
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured),
        cause=criterion.cause(measured),
        words=f"{tried.regime.words}: at step {tried.same.steps} of {numbers.plural(tried.last.n_frames, 'rollout')} "
        f"that draw every increment, their length over that of the true ones is {show(tried.last)} (1 is right; "
        f"{numbers.threshold(LONG.threshold)} to {numbers.threshold(SHORT.threshold)} passes; {', '.join(beside)}; "
        f"{show(tried.ratios['mean'][-1])} where rollouts take means). On true contexts its NLL less that of teacher "
        f"forcing is {show(loss)} nats a frame (lower is better; {cheap.bar}, since so much is luck).",
        would_change="Longer unrolled training (experiments.unroll_epochs), more weight on true contexts "
        "(train.teacher_weight), or another estimator (experiments.sampling_regimes).",
    )
