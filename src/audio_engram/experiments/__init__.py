"""One question per file; every experiment takes a run and gives back measurements and findings."""

from collections.abc import Callable

from audio_engram.errors import UsageError, did_you_mean
from audio_engram.experiments.archetypes import archetypes
from audio_engram.experiments.correction import correction
from audio_engram.experiments.factorisation import factorisation
from audio_engram.experiments.injection import injection
from audio_engram.experiments.lengths import check_lengths
from audio_engram.experiments.magnitude import magnitude
from audio_engram.experiments.memory import memory
from audio_engram.experiments.outcome import Outcome
from audio_engram.experiments.predictability import predictability
from audio_engram.experiments.representation import check_codecs, representation
from audio_engram.experiments.sampling import sampling
from audio_engram.experiments.settings import ALL, TREE, check_settings
from audio_engram.experiments.smoothing import smoothing
from audio_engram.experiments.stability import stability
from audio_engram.experiments.structure import structure
from audio_engram.experiments.two_stage import two_stage
from audio_engram.runs import Run

EXPERIMENTS: dict[str, Callable[[Run], Outcome]] = {
    "predictability": predictability,
    "magnitude": magnitude,
    "factorisation": factorisation,
    "injection": injection,
    "representation": representation,
    "smoothing": smoothing,
    "structure": structure,
    "archetypes": archetypes,
    "stability": stability,
    "sampling": sampling,
    "memory": memory,
    "correction": correction,
    "two_stage": two_stage,
}

__all__ = [
    "ALL",
    "EXPERIMENTS",
    "TREE",
    "Outcome",
    "archetypes",
    "check_codecs",
    "check_lengths",
    "check_names",
    "check_settings",
    "correction",
    "factorisation",
    "injection",
    "magnitude",
    "memory",
    "predictability",
    "representation",
    "sampling",
    "smoothing",
    "stability",
    "structure",
    "two_stage",
]


def check_names(names: tuple[str, ...]) -> None:
    """Raises: UsageError for an experiment that does not exist."""
    if names in ((TREE,), (ALL,)):
        return
    for name in names:
        if name in (TREE, ALL):
            raise UsageError(f"experiments: {name} stands for others: name it alone")
        if name not in EXPERIMENTS:
            hint = did_you_mean(name, EXPERIMENTS, f"use {', '.join(EXPERIMENTS)}")
            raise UsageError(f"experiments: {name}: no such experiment: {hint}")
