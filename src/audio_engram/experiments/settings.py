"""What settings alone make impossible, whatever the data: refused before anything is encoded or written."""

from audio_engram.config import Config
from audio_engram.errors import MissingError
from audio_engram.experiments.correctors import check_levels
from audio_engram.experiments.sampling import unrolled_regimes
from audio_engram.extras import lacking, remedy
from audio_engram.regimes import regime

TREE, ALL = "tree", "all"
"""In place of names: what the decision tree asks for, one after another, or everything there is."""


def check_settings(config: Config) -> None:
    """Refuse settings that no experiment could run with.

    Raises:
        UsageError: for a training regime that does not exist, or is on true contexts alone where one on own states is
            wanted; for a noise level that denoisers are not trained at, where correctors may be asked for.
        MissingError: if listeners are asked whose extra is not installed.
    """
    settings = config.experiments
    for name in settings.regimes:
        regime(name)
    unrolled_regimes(config)
    regime(settings.correction.regime, "experiments.correction.regime")
    if {TREE, ALL, "correction"} & set(settings.names):
        check_levels(config)
    if settings.listeners and (reason := lacking("metrics")):
        raise MissingError(f"experiments.listeners: {reason}: {remedy('metrics')}, or set it to false")
