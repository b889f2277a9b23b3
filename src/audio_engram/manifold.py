"""Is a free-running rollout still speech? Figures of sets of trajectories, each beside real ones.

One true future cannot be foretold, so that a rollout is not compared with it but with what real speech is like: with
held-out real trajectories of the same speakers, number and length. docs/manifold.md says what each figure is and how it
is read.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.against_real import Figure, Halves
from audio_engram.group_moments import finite_pairs
from audio_engram.neighbours import earlier_distance, nearest_distance
from audio_engram.set_distances import frechet_figure, frechet_times, median_distance, mmd_figure
from audio_engram.statistics import Interval, SpeakerBootstrap
from audio_engram.survival import RealRange, motion
from audio_engram.trajectory_figures import (
    CovarianceFigures,
    effective_rank,
    magnitudes,
    quantile_figure,
    share_figure,
    shared_means,
    total_variance,
    variance_quantile,
)
from audio_engram.window_space import WindowSpace

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95}
RARE = 0.05  # of real training windows move less, or come as near to their own past


@dataclass(frozen=True)
class ManifoldOptions:
    """Frames in a window, principal components at most, windows in a row that make a divergence (25 are 2 s at
    12.5 Hz), and the most frames of a set whose neighbours are sought."""

    window: int = 4
    components: int = 32
    hold: int = 25
    neighbour_frames: int = 4096
    seed: int = 0


@dataclass(frozen=True)
class Traits:
    """A set of trajectories and what is measured of each; see docs/manifold.md for the quantities."""

    latents: Float[Tensor, "B S D"]
    points: dict[str, Float[Tensor, "B _ _"]]
    magnitude: Float[Tensor, "B S1"]
    motion: Float[Tensor, "B M"]
    to_past: Float[Tensor, "B M"]
    to_training: Float[Tensor, "B N"]


class Manifold:
    """What real trajectories are like, from those of training speakers; nothing is fitted on any other.

    `train` are real trajectories (standardised latents), best of the length of those that will be measured.

    Raises:
        ValueError: if they are shorter than `window + hold - 1` frames, or a window of increments.
        DataError: if they do not vary.
    """

    def __init__(self, train: Float[Tensor, "B S D"], options: ManifoldOptions | None = None) -> None:
        self.options = options or ManifoldOptions()
        window, components = self.options.window, self.options.components
        self._frames = train.flatten(0, 1)
        self._spaces = {
            "latents": WindowSpace(train, window, components),
            "increments": WindowSpace(train.diff(dim=1), window, components),
        }
        self.range = RealRange(self._spaces["latents"], train, self.options.hold)
        self._bandwidth = {name: median_distance(self._points(name, train).flatten(0, 1)) for name in self._spaces}
        self._repeated = _low_quantile(self._to_past(train))
        self._still = _low_quantile(motion(train, window))
        self._last: tuple[Tensor, SpeakerBootstrap, Halves, CovarianceFigures] | None = None

    @property
    def explained(self) -> dict[str, float]:
        """The share of the training windows' variance that the components hold, of latents and of increments."""
        return {name: space.explained for name, space in self._spaces.items()}

    def traits(self, latents: Float[Tensor, "B S D"]) -> Traits:
        """What figures are made of; of the real trajectories it need be asked only once.

        Raises:
            ValueError: if D is not that of the training trajectories.
        """
        if latents.shape[-1] != self._frames.shape[-1]:
            raise ValueError(f"{latents.shape[-1]} dimensions; those of training have {self._frames.shape[-1]}")
        return Traits(
            latents=latents,
            points={name: self._points(name, latents) for name in self._spaces},
            magnitude=magnitudes(latents),
            motion=motion(latents, self.options.window),
            to_past=self._to_past(latents),
            to_training=self._to_training(latents),
        )

    def compare(self, generated: Traits, real: Traits, bootstrap: SpeakerBootstrap) -> dict[str, Figure]:
        """Every figure; row by row both sets are of one speaker, and `bootstrap` is over the speakers of the rows.

        What is not finite is left out of figures, window by window, and of distances in both sets:
        `survival.finite_frames` says how much that is.

        Raises:
            ValueError: if the sets differ in shape.
        """
        shapes = [tuple(some.latents.shape) for some in (generated, real)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"generated {shapes[0]}, real {shapes[1]}: cut them alike")
        return self._distances(generated, real, bootstrap) | self._quantiles_and_shares(generated, real, bootstrap)

    def times_as_far(
        self, one: Traits, other: Traits, real: Traits, bootstrap: SpeakerBootstrap
    ) -> dict[str, Interval]:
        """How many times as far from real windows `one` is as `other` (Fréchet): below 1 it is nearer to speech.

        Row by row all three are of one speaker, so that the two are compared on the same people.
        """
        halves = Halves(bootstrap, self._generator())
        found = {}
        for name in self._spaces:
            pairs = [finite_pairs(some.points[name], real.points[name], halves.group) for some in (one, other)]
            found[f"frechet_{name}"] = frechet_times(pairs[0], pairs[1], halves)
        return found

    def _distances(self, generated: Traits, real: Traits, bootstrap: SpeakerBootstrap) -> dict[str, Figure]:
        halves, covariance = self._beside(real.latents, bootstrap)
        found = {}
        for name in self._spaces:
            windows = finite_pairs(generated.points[name], real.points[name], halves.group)
            found[f"frechet_{name}"] = frechet_figure(windows, halves)
            found[f"mmd_{name}"] = mmd_figure(windows, halves, self._bandwidth[name])
        middles = shared_means(generated.points["latents"], real.points["latents"])
        between = CovarianceFigures(middles[1], {"variance_between": total_variance}, halves)
        return found | covariance(generated.latents) | between(middles[0])

    def _beside(self, real: Float[Tensor, "B S D"], bootstrap: SpeakerBootstrap) -> tuple[Halves, CovarianceFigures]:
        """What distances to these real frames have in common; that of the last ones is kept."""
        if self._last is None or self._last[0] is not real or self._last[1] is not bootstrap:
            halves = Halves(bootstrap, self._generator())
            of = {f"variance_{name}": partial(variance_quantile, q=q) for name, q in QUANTILES.items()}
            figures = CovarianceFigures(real, {**of, "effective_rank": effective_rank}, halves)
            self._last = real, bootstrap, halves, figures
        return self._last[2:]

    def _quantiles_and_shares(self, generated: Traits, real: Traits, bootstrap: SpeakerBootstrap) -> dict[str, Figure]:
        lengths, copied = (generated.magnitude, real.magnitude), (generated.to_training, real.to_training)
        moving, past = (generated.motion, real.motion), (generated.to_past, real.to_past)
        found = {
            "frozen": share_figure(moving, self._still, bootstrap, self._generator()),
            "repetition": share_figure(past, self._repeated, bootstrap, self._generator()),
        }
        for name, q in QUANTILES.items():
            found[f"magnitude_{name}"] = quantile_figure(lengths, q, bootstrap, self._generator())
            found[f"copying_{name}"] = quantile_figure(copied, q, bootstrap, self._generator())
        return found

    def _points(self, name: str, latents: Float[Tensor, "B S D"]) -> Float[Tensor, "B M k"]:
        """Windows that do not overlap."""
        z = latents if name == "latents" else latents.diff(dim=1)
        return self._spaces[name](z, stride=self.options.window)

    def _to_past(self, latents: Float[Tensor, "B S D"]) -> Float[Tensor, "B M"]:
        """Distance of every window to the nearest one before it that shares no frame with it."""
        return earlier_distance(self._spaces["latents"](latents), self.options.window)

    def _to_training(self, latents: Float[Tensor, "B S D"]) -> Float[Tensor, "B N"]:
        """Distances to the nearest training frame, of frames spread evenly over the trajectories."""
        every = -(-latents[..., 0].numel() // self.options.neighbour_frames)
        some = latents[:, ::every]
        return nearest_distance(some.flatten(0, 1), self._frames).view(some.shape[:2])

    def _generator(self) -> torch.Generator:
        # The same halves for every figure of every set, so that differences between sets are no luck of the draw.
        return torch.Generator().manual_seed(self.options.seed)


def _low_quantile(values: Float[Tensor, "B M"]) -> float:
    finite = values.flatten()[values.flatten().isfinite()]
    return float(finite.sort().values[int(RARE * len(finite))])
