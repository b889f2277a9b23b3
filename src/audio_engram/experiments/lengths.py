"""How many frames after a context the experiments ask for, checked before the first of them trains a model."""

from collections.abc import Iterator

from audio_engram.config import Config
from audio_engram.data.frames import SPLITS
from audio_engram.dynamics.prototypes import check_size
from audio_engram.experiments.magnitude import CLEAN_LAG
from audio_engram.experiments.trajectories import stretch_frames
from audio_engram.regimes import regime
from audio_engram.runs import Run

Need = tuple[str, int, tuple[str, ...]]
"""Where it is configured, the steps, and the splits that must have them."""


def check_lengths(run: Run) -> None:
    """Refuse recordings that are too short for what a later experiment needs.

    Raises:
        DataError: naming the setting to lower.
        UsageError: for a training regime that does not exist, or a memory larger than the training split.
    """
    if {"stability", "memory"} & set(run.config.experiments.names):
        for split in ("train", "test"):
            run.check_length(split, stretch_frames(run), "experiments.stretch_seconds")
    for setting, steps, splits in needs(run.config):
        for split in splits:
            run.check_length(split, steps, setting)
    if has_memory(run.config):
        available = len(run.windows("train", 1).with_valid_target())
        check_size(run.config.model.memory.prototypes, available, "model.memory.prototypes")


def has_memory(config: Config) -> bool:
    """Whether any model of the configured experiments has prototypes."""
    names = config.experiments.names
    regimes = [regime(name) for name in config.experiments.regimes] if "stability" in names else []
    return config.model.memory.on or "memory" in names or any(one.memory for one in regimes)


def _unrolls(config: Config) -> list[int]:
    """The steps that trainings of the experiment stability go on their own states."""
    return [int(regime(name).train.get("unroll", 1)) for name in config.experiments.regimes]


def needs(config: Config) -> Iterator[Need]:
    """The longest runs of frames that the configured experiments cut."""
    settings, names = config.experiments, set(config.experiments.names)
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
    if names & {"factorisation", "injection", "memory"}:
        yield "experiments.steps", settings.steps, ("validation", "test") if "factorisation" in names else ("test",)
    if "factorisation" in names:
        yield "experiments.ceiling_lags", max(settings.ceiling_lags), SPLITS
        yield "experiments.unrolls", max((1, *settings.unrolls)), ("train", "validation")
    if "stability" in names:
        yield "experiments.regimes", max(_unrolls(config)), ("train", "validation")
