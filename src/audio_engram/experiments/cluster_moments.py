"""Means of increments by cluster, and how much of held-out increments they explain."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.cluster_criteria import SMALLEST
from audio_engram.data.windows import Windows

CHUNK = 8192


@dataclass(frozen=True)
class Means:
    """Count, mean and variance of the training increments in every cluster that is kept, and of all increments.

    `row` says where a label's cluster stands, -1 for one that is left out: of many thousand labels few are kept, and
    only these take memory.
    """

    count: Float[Tensor, " K"]
    mean: Float[Tensor, "K D"]
    variance: Float[Tensor, "K D"]
    n: int
    total_mean: Float[Tensor, " D"]
    total_variance: Float[Tensor, " D"]
    row: Int[Tensor, " L"]

    def rows(self, labels: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
        """Where the labels' clusters stand, -1 for those that are left out or were never seen in training."""
        known = labels < len(self.row)
        return torch.where(known, self.row[labels.where(known, 0)], -1)

    @property
    def ratio(self) -> float:
        """Within over total variance of the training frames in clusters that are kept, without bias."""
        n = self.count
        within = self.variance.sum(1)
        total = within * (n - 1) / n + (self.mean - self.total_mean).square().sum(1)
        return float((n * within).sum() / (n * total).sum())


def cluster_means(windows: Windows, index: Int[Tensor, " M"], labels: Int[Tensor, " M"]) -> Means:
    """Moments of increments by cluster, in float64."""
    sizes = torch.bincount(labels)
    kept = (sizes >= SMALLEST).nonzero().flatten()
    row = torch.full_like(sizes, -1)
    row[kept] = torch.arange(len(kept))
    # The last row is for the frames of clusters that are left out: they count among all.
    sums = torch.zeros(len(kept) + 1, windows.frames.dim, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    for part, label in zip(index.split(CHUNK), labels.split(CHUNK), strict=True):
        delta, place = windows.increments(part).double(), row[label] % len(sums)
        sums.index_add_(0, place, delta)
        squares.index_add_(0, place, delta.square())
    count, n = sizes[kept].double(), len(labels)
    mean, total_mean = sums[:-1] / count.unsqueeze(1), sums.sum(0) / n
    spread = squares[:-1] - count.unsqueeze(1) * mean.square()
    return Means(
        count,
        mean,
        (spread / (count - 1).unsqueeze(1)).clamp(min=1e-12),
        n,
        total_mean,
        ((squares.sum(0) - n * total_mean.square()) / (n - 1)).clamp(min=1e-12),
        row,
    )


@dataclass(frozen=True)
class Explained:
    """Held-out frames whose cluster is kept: squared errors, log-likelihood gained, and who said them."""

    within: Float[Tensor, " M"]
    total: Float[Tensor, " M"]
    gained: Float[Tensor, " M"]
    confidence: Float[Tensor, " M"]
    place: Int[Tensor, " M"]
    share: float

    def only(self, chosen: Bool[Tensor, " M"]) -> "Explained":
        """Some of the frames."""
        within, total, gained = self.within[chosen], self.total[chosen], self.gained[chosen]
        return Explained(within, total, gained, self.confidence[chosen], self.place[chosen], self.share)


def explain(
    means: Means, windows: Windows, index: Int[Tensor, " M"], labels: Int[Tensor, " M"], sure: Tensor
) -> Explained:
    """Score held-out increments against the training mean of their cluster.

    The mean of n frames is off by a share 1/n of their variance, so squared errors are divided by 1 + 1/n: of clusters
    that mean nothing the expected ratio is 1.
    """
    rows = means.rows(labels)
    known = rows >= 0
    index, rows, share = index[known], rows[known], float(known.double().mean()) if len(known) else 0.0
    parts = [
        _errors(means, windows.increments(part).double(), row)
        for part, row in zip(index.split(CHUNK), rows.split(CHUNK), strict=True)
    ]
    within, total, gained = (torch.cat(one) for one in zip(*parts, strict=True)) if parts else [torch.zeros(0)] * 3
    return Explained(within, total, gained, sure[known], windows.target[index], share)


def _errors(means: Means, delta: Float[Tensor, "M D"], row: Int[Tensor, " M"]) -> tuple[Tensor, Tensor, Tensor]:
    off, off_total = (delta - means.mean[row]).square(), (delta - means.total_mean).square()
    variance = means.variance[row]
    gained = 0.5 * ((means.total_variance / variance).log() + off_total / means.total_variance - off / variance).sum(1)
    within = off.sum(1) / (1 + 1 / means.count[row])
    return within, off_total.sum(1) / (1 + 1 / means.n), gained
