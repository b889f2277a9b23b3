"""What calibration asks: experiments, worlds, whether there is anything to find, and what is known of it."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from audio_engram.data.worlds import WORLDS

SPEAKERS, UTTERANCES = 24, 2
OTHER_SIZES = {
    "structure": (40, 4),
    "structure on regimes": (64, 4),
    "archetypes": (24, 1),
    "archetypes on planes": (24, 4),
    "memory": (18, 1),
    "memory on chained": (18, 3),
    "sampling": (16, 2),
    "correction": (16, 3),
    "correction on ar": (16, 2),
    "stability on correlated": (16, 3),
}
"""`structure` has 256 clusters of contexts, which need 100 frames each, and more for what they leave of the variance of
held-out speakers to be near that of training ones. The k-means of `archetypes` cost the most, but a speaker must have
several of the planes. A memory learns 64 addresses on `chained`. Elsewhere 16 speakers leave 6 for the test, the fewest
that a verdict rests on, and of `correction` 4 for validation, the fewest that choose a corrector."""
LEAST_SEEDS, FEWER = 4, 16

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
    "structure": {"experiments": {"structure_lags": [1]}},
    "sampling": {
        "model": {"components": 1},
        "train": {"epochs": 1, "teacher_weight": 0.0, "patience": 20},
        "experiments": {"sampling_regimes": ["mdn-sampled"], "unroll_epochs": 6},
    },
    "memory": {
        "model": {"context": 2, "width": 32, "memory": {"prototypes": 64, "learned": False}},
        "train": {"epochs": 6, "batch_size": 256, "learning_rate": 3e-3},
        "experiments": _STRETCHES | {"memories": ["blend"], "trajectories": 2, "max_segments": 256, "steps": 2},
    },
    "correction": {
        "data": {"validation": 0.25},
        "model": {"components": 1},
        "train": {"epochs": 1, "learning_rate": 1e-6},
        "score": {"width": 32, "epochs": 2},
        "experiments": _STRETCHES
        | {"max_segments": 512, "correction": {"levels": [0.4], "steps": [1], "seconds": 2.4}},
    },
    "correction on ar": {"model": {"min_scale": 1.5}},
    "two_stage": {"experiments": _STRETCHES},
    "stability": {"model": {"components": 1}, "experiments": _STRETCHES | {"regimes": ["mdn", "vmf"]}},
}
"""What experiments change of the settings: for the sake of time, because a world has no more, or to make an answer
known. `sampling` gives no weight to true contexts while it trains on drawn ones; the prototypes of `memory` stay where
they start; `correction` corrects a model that stays where it starts, which is diagonal AR(1), and on `ar` draws more
widely than frames lie; with one component the `mdn` of `stability` draws dimensions that do not go together."""


@dataclass(frozen=True)
class Row:
    """An experiment on a world, and why its answer is known; in a null world there is nothing that may pass."""

    experiment: str
    world: str
    null: bool
    reason: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Speakers, and utterances of each."""
        usual = OTHER_SIZES.get(self.experiment, (SPEAKERS, UTTERANCES))
        return OTHER_SIZES.get(f"{self.experiment} on {self.world}", usual)

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the configuration, without seed and corpus."""
        of_experiment = _merged(SETTINGS, OTHER_SETTINGS.get(self.experiment, {}))
        return _merged(of_experiment, OTHER_SETTINGS.get(f"{self.experiment} on {self.world}", {}))

    def seeds(self, asked: int) -> int:
        """How many are drawn where an experiment is asked about so many null worlds, which its rows share. Of what
        should pass fewer: they tell more than half from half sooner than 5 % from never."""
        if not self.null:
            return min(asked, max(LEAST_SEEDS, asked // FEWER))
        return ceil(asked / sum(one.null and one.experiment == self.experiment for one in PLAN))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(values[key], of) for key, of in changes.items() if isinstance(values.get(key), dict)}
    return values | changes | both


_ASKED: dict[str, tuple[tuple[str, bool, str], ...]] = {
    "predictability": (
        ("ar", False, "The frame before tells a turn that no baseline knows."),
        ("noise", True, "The mean of all frames is the best guess of the next."),
        ("correlated", True, "Diagonal AR(1) is the best guess of the next frame."),
        ("shuffled", True, "Frames in random order have no dynamics."),
        ("pulses", True, "Diagonal AR(1) is the best guess of the next frame."),
        ("headings", False, "The frame before tells a turn that no baseline knows."),
        ("strides", False, "The frames before tell a length that no baseline knows."),
    ),
    "magnitude": (
        ("strides", False, "How far out a frame is tells how long the next increments are."),
        ("headings", True, "Magnitudes are drawn by themselves: contexts foretell directions alone."),
        ("noise", True, "Where it is judged, at a lag of 2, no context tells anything."),
    ),
    "factorisation": (
        ("ar", False, "The frame before tells every later one by a linear rule."),
        ("noise", True, "Beyond the first step there is nothing to foretell."),
    ),
    "injection": (
        ("ar", False, "True directions keep a rollout by a process that can be foretold."),
        ("noise", True, "Nothing can be foretold that true directions could keep a rollout to."),
        ("correlated", True, "Diagonal AR(1) is the best guess, and forgets within a few frames."),
    ),
    "structure": (
        ("regimes", False, "Each of 32 states has its own next one, which a cluster around it tells."),
        ("noise", True, "There is nothing but regression to the mean."),
        ("resonance", True, "A filter of Gaussian noise is its own phase-randomised null."),
        ("correlated", True, "A filter of Gaussian noise is its own phase-randomised null."),
        ("pulses", True, "Diagonal AR(1) with its own residuals is the process itself."),
    ),
    "archetypes": (
        ("chained", False, "There are 64 directions, each followed by the next."),
        ("archetypes", True, "Its directions exist, but no context foretells them."),
        ("noise", True, "No direction is preferred."),
        ("correlated", True, "Its increments are the Gaussian of the null."),
        ("planes", True, "Directions crowd into planes, in each of which none is preferred."),
    ),
    "memory": (
        ("chained", False, "Prototypes start at 64 directions and stay there, and the increment before selects one."),
        ("noise", True, "The way back from the last frame is all there is, which the head has by itself."),
        ("correlated", True, "No direction is selected: a part of the way back is all that contexts tell."),
    ),
    "sampling": (
        ("walk", False, "What follows does not depend on frames, drawn or true: there is nothing to unlearn."),
        ("noise", True, "True increments do not lead back from drawn frames: the way back is unlearned."),
    ),
    "two_stage": (
        ("noise", True, "Frames stay about their mean, from which a sum that does not know its place walks away."),
        ("strides", True, "Frames stay about their mean, from which a sum that does not know its place walks away."),
    ),
    "correction": (
        (
            "ar",
            False,
            "The model stays at diagonal AR(1) and draws too widely: a denoiser knows how far out frames lie, and "
            "given the frame before it knows the turn.",
        ),
        ("noise", True, "The model stays at diagonal AR(1), which is the process itself."),
        ("correlated", True, "The model stays at diagonal AR(1), whose mean is right: no state error to take off."),
    ),
    "stability": (
        ("noise", False, "A diagonal Gaussian around a linear mean is the process itself."),
        ("ar", False, "A diagonal Gaussian around a linear mean is the process itself."),
        (
            "correlated",
            True,
            "Neither a diagonal Gaussian nor a von Mises-Fisher keeps draws on the few axes of frames.",
        ),
    ),
}
"""Of every experiment the worlds, whether they are null worlds of it, and by what construction that is known. The
directions of `archetypes` exist, but no context foretells them; contexts foretell directions of `headings` alone."""
PLAN = tuple(Row(experiment, *asked) for experiment, some in _ASKED.items() for asked in some)

JUDGED_AT = {"predictability": 1, "magnitude": 2}
"""The lag at which an experiment is judged, and its figures compared with what the world says of them."""


def _planted(name: str) -> tuple[tuple[dict[str, Any], float], ...]:
    """Where each figure of a world's clusters of directions is measured, and its truth."""
    known = WORLDS[name]().clusters()
    at = {"model": next(f"K = {one.value:.0f}" for one in known if one.metric == "found_k"), "data": "real"}
    return tuple(({"metric": one.metric} | ({} if one.metric == "found_k" else at), one.value) for one in known)


TRUTHS = {("archetypes", name): _planted(name) for name in ("chained", "archetypes")}
"""What is known besides the analytic figures of a world. The accuracy is what the best classifier reaches."""
