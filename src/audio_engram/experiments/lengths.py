"""How many frames after a context the experiments ask for, checked before the first of them trains a model."""

from collections.abc import Collection, Iterator

from audio_engram.config import Config
from audio_engram.data.frames import SPLITS
from audio_engram.dynamics.prototypes import check_size
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.correctors import check_correction
from audio_engram.experiments.magnitude import CLEAN_LAG
from audio_engram.experiments.sampling import unrolled_regimes
from audio_engram.experiments.trajectories import stretch_frames
from audio_engram.regimes import regime
from audio_engram.runs import Run
from audio_engram.train import check_estimator

ROLLED = {"stability", "memory", "correction", "two_stage"}
Need = tuple[str, int, tuple[str, ...]]
"""Where it is configured, the steps, and the splits that must have them."""


def check_lengths(run: Run, names: Collection[str] | None = None) -> None:
    """Refuse recordings that are too short for what the experiments `names` (the configured ones) need.

    Raises:
        DataError: naming the setting to lower; or of a split in which nothing moves.
        UsageError: for a training regime that does not exist, or a memory larger than the training split.
    """
    asked = set(run.config.experiments.names if names is None else names)
    _check_moving(run)
    _check_rollouts(run, asked)
    _check_estimators(run.config, asked)
    if "correction" in asked:
        check_correction(run)
    for setting, steps, splits in needs(run.config, asked):
        for split in splits:
            run.check_length(split, steps, setting)
    if has_memory(run.config, asked):
        available = len(run.windows("train", 1).with_valid_target())
        check_size(run.config.model.memory.prototypes, available, "model.memory.prototypes")


def _check_moving(run: Run) -> None:
    """What no experiment can do without: increments that have a direction."""
    frames = run.frames()
    for split in SPLITS:
        moving = frames.moving[frames.in_split(split)]
        if len(moving) and not bool(moving.any()):
            raise DataError(
                f"{split} split: no frame differs from the one before it (digital silence): use other speech or latents"
            )


def _check_estimators(config: Config, names: set[str]) -> None:
    tried = [regime(name) for name in config.experiments.regimes] if "stability" in names else []
    tried += unrolled_regimes(config) if "sampling" in names else []
    for one in tried:
        check_estimator(config.train.model_copy(update=one.train))


def _check_rollouts(run: Run, names: set[str]) -> None:
    """What experiments ask that hold sampled rollouts against real stretches."""
    if not names & ROLLED:
        return
    stretch = stretch_frames(run)
    for split in ("train", "test"):
        run.check_length(split, stretch, "experiments.stretch_seconds")
    far = max(run.config.experiments.horizons) * run.codec.frame_rate
    if names & {"stability", "two_stage"} and round(far) < stretch:
        raise UsageError(
            f"experiments.horizons: none reaches a stretch of {stretch / run.codec.frame_rate:.3g} s: "
            "go further, or lower experiments.stretch_seconds"
        )
    if "two_stage" in names:
        run.check_length("validation", stretch, "experiments.stretch_seconds")
        if run.config.model.context < 2:
            raise UsageError("experiment two_stage: model.context = 1: holds no direction: use 2 or more")


def has_memory(config: Config, names: set[str]) -> bool:
    """Whether any model of these experiments has prototypes."""
    regimes = [regime(name) for name in config.experiments.regimes] if "stability" in names else []
    return config.model.memory.on or "memory" in names or any(one.memory for one in regimes)


def _unrolls(config: Config) -> list[int]:
    """The steps that trainings of the experiment stability go on their own states."""
    return [int(regime(name).train.get("unroll", 1)) for name in config.experiments.regimes]


def needs(config: Config, names: set[str]) -> Iterator[Need]:
    """The longest runs of frames that these experiments cut."""
    settings = config.experiments
    if names & {"predictability", "magnitude"}:
        yield "experiments.lags", max(settings.lags), SPLITS
        yield "experiments.surrogate_lags", max((1, *settings.surrogate_lags)), SPLITS
    if "magnitude" in names:
        yield "experiment magnitude", CLEAN_LAG, SPLITS
    if "archetypes" in names:
        yield "experiment archetypes", 1, SPLITS
    if "structure" in names:
        yield "experiments.structure_lags", max(settings.structure_lags), ("train", "test")
    if "memory" in names:
        yield "experiment memory", 1, SPLITS
    if names & {"factorisation", "injection", "memory", "sampling", "correction"}:
        both = names & {"factorisation", "correction"}
        yield "experiments.steps", settings.steps, ("validation", "test") if both else ("test",)
    if "factorisation" in names:
        yield "experiments.ceiling_lags", max(settings.ceiling_lags), SPLITS
        yield "experiments.unrolls", max((1, *settings.unrolls)), ("train", "validation")
    if "sampling" in names:
        unrolls = [int(one.train["unroll"]) for one in unrolled_regimes(config)]
        yield "experiments.sampling_regimes", max(unrolls), ("train", "validation")
    if "stability" in names:
        yield "experiments.regimes", max(_unrolls(config)), ("train", "validation")
