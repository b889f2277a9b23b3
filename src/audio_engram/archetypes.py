"""Directions of increments, the nulls they are held against, and how tightly clusters hold them."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.clustering import assign, cluster_sums
from audio_engram.codecs.pca import Moments, principal_components
from audio_engram.data.windows import Windows
from audio_engram.seeds import generator_for

Kind = Literal["real", "gaussian", "random_pairs"]
EXPLAINED = 0.9
CHUNK = 8192
LEAST_PART = 1e-6  # of a unit vector: what float32 leaves of one that lies across all components


@dataclass(frozen=True)
class Increments:
    """Standardised increments (M, D) with the window whose context goes before each, and the speaker of each."""

    delta: Float[Tensor, "M D"]
    index: Int[Tensor, " M"]
    speaker: Int[Tensor, " M"]

    def above(self, magnitude: float) -> "Increments":
        """Those that are longer: short increments are mostly noise, and so are their directions."""
        return self.where(self.delta.norm(dim=1) > magnitude)

    def where(self, kept: Bool[Tensor, " M"]) -> "Increments":
        """Those that are kept."""
        return replace(self, delta=self.delta[kept], index=self.index[kept], speaker=self.speaker[kept])


def increments(windows: Windows, kind: Kind, covariance: Moments | None, seed: int) -> Increments:
    """The increments of a split, or one of their two nulls in the same places.

    `gaussian` draws them from a normal distribution with the mean and covariance of `covariance`, those of training:
    anisotropy alone. `random_pairs` leads from the last frame of the context to a random frame of the same utterance:
    differencing alone, of what this recording is like.
    """
    index = windows.with_valid_target()
    place = windows.target[index]
    speaker = windows.frames.speaker[place]
    if kind == "real":
        return Increments(windows.increments(index), index, speaker)
    generator = generator_for(seed, "archetypes", kind, windows.split)
    if kind == "gaussian":
        assert covariance is not None
        return Increments(gaussian_rows(covariance, len(index), generator), index, speaker)
    utterance = windows.frames.utterance[place]
    order = torch.argsort(utterance, stable=True)
    shuffled = torch.randperm(len(utterance), generator=generator)
    other = torch.empty_like(place)
    other[order] = place[shuffled[torch.argsort(utterance[shuffled], stable=True)]]
    delta = windows.frames.z[other] - windows.frames.z[place - 1]
    kept = delta.norm(dim=1) > 0
    return Increments(delta[kept], index[kept], speaker[kept])


def moments_of(rows: Float[Tensor, "M D"]) -> Moments:
    """Mean and covariance of rows."""
    moments = Moments()
    moments.add(rows)
    return moments


def gaussian_rows(moments: Moments, n: int, generator: torch.Generator) -> Float[Tensor, "M D"]:
    """Rows drawn from the Gaussian with this mean and covariance."""
    values, vectors = torch.linalg.eigh(moments.covariance)
    root = vectors * values.clamp(min=0).sqrt()
    mean = moments.mean
    parts = [
        mean + torch.randn(min(CHUNK, n - start), len(root), generator=generator, dtype=torch.float64) @ root.T
        for start in range(0, n, CHUNK)
    ]
    return torch.cat(parts).float()


@dataclass(frozen=True)
class Space:
    """The principal components of training directions that explain 90 % of their variance; a direction is a unit
    vector in them."""

    vectors: Float[Tensor, "D k"]

    def directions(self, delta: Float[Tensor, "M D"]) -> Float[Tensor, "M k"]:
        """Unit vectors among the components."""
        rows = torch.nn.functional.normalize(delta, dim=1) @ self.vectors
        return torch.nn.functional.normalize(rows, dim=1)

    def covers(self, delta: Float[Tensor, "M D"]) -> Bool[Tensor, " M"]:
        """Whether an increment has any part among the components; one that has none has no direction there."""
        return (torch.nn.functional.normalize(delta, dim=1) @ self.vectors).norm(dim=1) > LEAST_PART

    def back(self, centres: Float[Tensor, "K k"]) -> Float[Tensor, "K D"]:
        """Unit vectors among the latents' own dimensions."""
        return centres @ self.vectors.T


def fit_space(delta: Float[Tensor, "M D"]) -> Space:
    """Fit on training increments."""
    moments = moments_of(torch.nn.functional.normalize(delta, dim=1))
    return Space(principal_components(moments, EXPLAINED)[0].float())


@dataclass(frozen=True)
class Held:
    """Per direction: its cluster, the cosine to its centroid, and its squared distances for explained variance."""

    labels: Int[Tensor, " M"]
    cosine: Float[Tensor, " M"]
    within: Float[Tensor, " M"]
    total: Float[Tensor, " M"]


def hold(rows: Float[Tensor, "M k"], centres: Float[Tensor, "K k"], train: Float[Tensor, "N k"], own: Tensor) -> Held:
    """Assign directions, with means (not unit centroids) of the training directions `train` in clusters `own`."""
    labels, cosine = assign(rows, centres)
    means, mean = cluster_mean(train, own, len(centres))
    return Held(labels, cosine, (rows - means[labels]).square().sum(1), (rows - mean).square().sum(1))


def unit_means(
    delta: Float[Tensor, "N D"], labels: Int[Tensor, " N"], otherwise: Float[Tensor, "K D"]
) -> Float[Tensor, "K D"]:
    """Mean direction of each cluster's increments in all their dimensions; that of an empty one is `otherwise`."""
    sums = cluster_sums(torch.nn.functional.normalize(delta, dim=1), labels, len(otherwise), False)
    length = sums.norm(dim=1, keepdim=True)
    return torch.where(length > 0, sums / length.clamp(min=1e-30), otherwise.double()).to(delta.dtype)


def cosines(delta: Float[Tensor, "M D"], prototypes: Float[Tensor, "K D"]) -> Float[Tensor, " M"]:
    """Cosine of each increment to the nearest prototype."""
    return assign(torch.nn.functional.normalize(delta, dim=1), prototypes)[1]


def cluster_mean(rows: Float[Tensor, "N k"], labels: Int[Tensor, " N"], n: int) -> tuple[Tensor, Tensor]:
    """Mean of each cluster and of all; an empty cluster has the mean of all."""
    sums = torch.zeros(n, rows.shape[1], dtype=torch.float64).index_add(0, labels, rows.double())
    count = torch.bincount(labels, minlength=n).double().unsqueeze(1)
    mean = rows.double().mean(0)
    return torch.where(count > 0, sums / count.clamp(min=1), mean).to(rows.dtype), mean.to(rows.dtype)


def size_entropy(labels: Int[Tensor, " N"], n: int) -> float:
    """Entropy of the cluster sizes over log K: 1 where all are alike."""
    share = torch.bincount(labels, minlength=n).double() / len(labels)
    return float(-(share * share.clamp(min=1e-300).log()).sum() / torch.tensor(float(n)).log())
