"""What calibration asks: experiments, worlds, whether there is anything to find, and what is known of it."""

from dataclasses import dataclass
from typing import Any

from audio_engram.data.worlds import WORLDS

SPEAKERS, UTTERANCES = 24, 2
OTHER_SIZES = {"structure": (40, 4), "archetypes": (24, 1), "archetypes on planes": (24, 4)}
"""`structure` has 256 clusters of contexts, which need 100 frames each; the k-means of `archetypes` cost the most, but
a speaker must have several of the planes."""
LEAST_SEEDS = 4

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "data": {"test": 0.4},
    "model": {"width": 64, "components": 2},
    "train": {"epochs": 12, "batch_size": 512, "learning_rate": 2e-3, "precision": "float32"},
    "experiments": {
        "lags": [1],
        "surrogate_lags": [1],
        "ceiling_lags": [1, 8],
        "structure_lags": [1, 2],
        "archetype_counts": [32, 64, 80],
        "steps": 8,
        "unrolls": [8],
        "unroll_epochs": 3,
        "resamples": 1000,
    },
}
_STRETCHES = {"stretch_seconds": 2.4, "horizons": [2.4], "trajectories": 24}
OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "sampling": {"train": {"epochs": 4}},
    "memory": {"model": {"memory": {"prototypes": 32}}, "experiments": _STRETCHES | {"memories": ["blend"]}},
    "correction": {
        "experiments": _STRETCHES | {"correction": {"levels": [0.2, 0.8], "steps": [1], "seconds": 2.4}},
        "score": {"width": 64, "epochs": 6},
    },
    "two_stage": {"experiments": _STRETCHES},
    "stability": {"experiments": _STRETCHES | {"regimes": ["mdn", "mdn-tied"]}},
}
"""What experiments change of the settings, for the sake of time or because a world has no more."""


@dataclass(frozen=True)
class Row:
    """An experiment on a world; in a null world there is nothing that may pass."""

    experiment: str
    world: str
    null: bool

    @property
    def size(self) -> tuple[int, int]:
        """Speakers, and utterances of each."""
        usual = OTHER_SIZES.get(self.experiment, (SPEAKERS, UTTERANCES))
        return OTHER_SIZES.get(f"{self.experiment} on {self.world}", usual)

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the configuration, without seed and corpus."""
        return _merged(SETTINGS, OTHER_SETTINGS.get(self.experiment, {}))

    def seeds(self, asked: int) -> int:
        """How many seeds are drawn: fewer tell more than half from half than 5 % from never."""
        return asked if self.null else min(asked, max(LEAST_SEEDS, asked // 4))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(values[key], of) for key, of in changes.items() if isinstance(values.get(key), dict)}
    return values | changes | both


PLAN = (
    Row("predictability", "ar", False),
    Row("predictability", "noise", True),
    Row("predictability", "correlated", True),
    Row("predictability", "shuffled", True),
    Row("predictability", "pulses", True),
    Row("predictability", "headings", False),
    Row("predictability", "strides", False),
    Row("magnitude", "strides", False),
    Row("magnitude", "headings", True),
    Row("magnitude", "noise", True),
    Row("factorisation", "ar", False),
    Row("factorisation", "noise", True),
    Row("injection", "ar", False),
    Row("injection", "noise", True),
    Row("injection", "correlated", True),
    Row("structure", "regimes", False),
    Row("structure", "noise", True),
    Row("structure", "resonance", True),
    Row("structure", "correlated", True),
    Row("structure", "pulses", True),
    Row("archetypes", "chained", False),
    Row("archetypes", "archetypes", True),
    Row("archetypes", "noise", True),
    Row("archetypes", "correlated", True),
    Row("archetypes", "planes", True),
)
"""`archetypes` is a null world of its experiment: its directions exist, but no context foretells them. `headings` is
one of `magnitude`: contexts foretell directions alone."""

JUDGED_AT = {"predictability": 1, "magnitude": 2}
"""The lag at which an experiment is judged, and its figures compared with what the world says of them."""


def _planted(name: str) -> tuple[tuple[dict[str, Any], float], ...]:
    """Where each figure of a world's clusters of directions is measured, and its truth."""
    known = WORLDS[name]().clusters()
    at = {"model": next(f"K = {one.value:.0f}" for one in known if one.metric == "found_k"), "data": "real"}
    return tuple(({"metric": one.metric} | ({} if one.metric == "found_k" else at), one.value) for one in known)


TRUTHS = {("archetypes", name): _planted(name) for name in ("chained", "archetypes")}
"""What is known besides the analytic figures of a world. The accuracy is what the best classifier reaches."""
