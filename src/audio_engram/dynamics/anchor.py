"""A memory of training states, and the corrector that pulls a drifting state back toward them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor

from audio_engram.data.frames import Frames
from audio_engram.dynamics.prototypes import check_size
from audio_engram.errors import UsageError
from audio_engram.seeds import generator_for, seed_for

MOST = 65536  # frames that k-means sees


@dataclass(frozen=True)
class Anchor:
    """Moves a latent by `strength` of the way to the soft mean of its `nearest` stored states.

    Their weights are softmax(-d² / (2 h²)) with h² the mean of their squared distances d², so that the width follows
    how densely states lie (Loftsgaarden & Quesenberry 1965). A state that is not finite stays so, and disturbs no
    other row.

    Raises:
        UsageError: for a strength outside 0 to 1, or another number of neighbours than 1 to all.
    """

    states: Float[Tensor, "K D"]
    strength: float
    nearest: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"anchor strength {self.strength:g}: use 0 (as it is) to 1 (onto the stored states)")
        check_nearest(self.nearest, len(self.states))

    def __call__(self, latent: Float[Tensor, "B D"], context: Float[Tensor, "B W D"]) -> Float[Tensor, "B D"]:
        """The latent on its way to the states around it."""
        states = self.states.to(latent)
        place, weight = neighbours(latent, states, self.nearest)
        return torch.lerp(latent, torch.einsum("bk,bkd->bd", weight, states[place]), self.strength)


def neighbours(
    rows: Float[Tensor, "B D"], among: Float[Tensor, "K D"], count: int
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B N"]]:
    """The places of the `count` nearest of others, and their soft weights (see `Anchor`)."""
    place = torch.cdist(rows.detach(), among).topk(count, dim=1, largest=False).indices
    # Again, exactly: matrix products lose the distances of what lies close.
    square = (rows.unsqueeze(1) - among[place]).square().sum(2)
    width = square.mean(1, keepdim=True).clamp(min=torch.finfo(square.dtype).tiny)
    return place, (-0.5 * square / width).softmax(1)


def training_states(
    frames: Frames, entries: int, seed: int, how: Literal["subset", "k-means"] = "k-means"
) -> Float[Tensor, "K D"]:
    """Standardised frames of the training split, drawn at random or the centroids of k-means.

    Raises:
        UsageError: for more entries than the training split has frames.
    """
    check_size(entries, int(frames.in_split("train").sum()), "memory of states")
    rows = frames.z[frames.in_split("train")]
    if how == "subset":
        return rows[drawn(len(rows), entries, seed)]
    return centroids(rows[drawn(len(rows), max(MOST, entries), seed)], entries, seed)


def centroids(rows: Float[Tensor, "N D"], count: int, seed: int) -> Float[Tensor, "K D"]:
    """Euclidean k-means (scikit-learn's, which has the same result on one machine for one seed)."""
    means = KMeans(count, n_init=1, random_state=seed_for(seed, "memory", "k-means") % 2**32).fit(rows.numpy())
    return torch.from_numpy(means.cluster_centers_).to(rows)


def drawn(available: int, count: int, seed: int) -> Int[Tensor, " N"]:
    """At most `count` places, each once, in order."""
    return torch.randperm(available, generator=generator_for(seed, "memory", "rows"))[:count].sort().values


def check_nearest(nearest: int, entries: int) -> None:
    """Raises: UsageError for a number of neighbours that a memory does not have."""
    if not 1 <= nearest <= entries:
        raise UsageError(f"memory of {entries} entries, the nearest {nearest} wanted: use 1 to {entries}")
