"""Mean and covariance of rows under weights of the groups they belong to, from sums that are taken once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Points:
    """Rows of numbers, all finite, in float64, and the group (of speakers) of each."""

    rows: Float[Tensor, "M k"]
    group: Int[Tensor, " M"]


def finite_pairs(
    generated: Float[Tensor, "B M k"], real: Float[Tensor, "B M k"], group: Int[Tensor, " B"]
) -> tuple[Points, Points]:
    """The frames or windows of paired trajectories that are finite in both, so that sets stay of one size."""
    groups = group.repeat_interleave(real.shape[1])
    rows = generated.flatten(0, 1), real.flatten(0, 1)
    whole = rows[0].isfinite().all(1) & rows[1].isfinite().all(1)
    one, other = (Points(some[whole].double(), groups[whole]) for some in rows)
    return one, other


class GroupMoments:
    """Counts, sums and products of each group; `centre` is taken off first and put back, which saves digits."""

    def __init__(self, points: Points, n_groups: int, centre: Float[Tensor, " k"]) -> None:
        self._centre = centre
        parts = [points.rows[points.group == g] - centre for g in range(n_groups)]
        self._count = torch.tensor([float(len(part)) for part in parts], dtype=torch.float64)
        self._sum = torch.stack([part.sum(0) for part in parts])
        self._products = torch.stack([part.T @ part for part in parts])

    def __call__(self, weights: Float[Tensor, "R G"]) -> tuple[Float[Tensor, "R k"], Float[Tensor, "R k k"]]:
        """Mean and covariance (divisor n - 1) for every row of weights; NaN of fewer than two rows."""
        n = (weights @ self._count)[:, None]
        mean = (weights @ self._sum) / n
        products = (weights @ self._products.flatten(1)).view(-1, *self._products.shape[1:])
        covariance = (products - n[..., None] * mean[:, :, None] * mean[:, None, :]) / (n[..., None] - 1)
        return mean + self._centre, covariance
