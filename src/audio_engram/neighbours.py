"""Distances to the nearest of many rows, or of the same trajectory's past, through chunked matrix products."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.seeding import chunk_rows


def nearest_distance(
    rows: Float[Tensor, "M D"], among: Float[Tensor, "N D"], chunk: int | None = None
) -> Float[Tensor, " M"]:
    """Euclidean distance of each row to the nearest of others, float64; NaN for a row that is not finite.

    The nearest is found in the rows' own type, through `|y|^2 - 2 x.y`, whose rounding can take a neighbour that is
    farther by a share of about 1e-6; the distance to it is then taken exactly, so that a copy has distance 0.
    """
    place = nearest_place(rows, among.to(rows.dtype), chunk)
    parts = zip(rows.split(8192), place.split(8192), strict=True)
    return torch.cat([torch.linalg.vector_norm(part.double() - among[at].double(), dim=1) for part, at in parts])


def nearest_place(
    rows: Float[Tensor, "M D"], among: Float[Tensor, "N D"], chunk: int | None = None
) -> Int[Tensor, " M"]:
    """The place of the nearest of others; any for a row that is not finite."""
    half = among.square().sum(1) / 2
    place = torch.empty(len(rows), dtype=torch.long)
    size = chunk or chunk_rows(rows, len(among))
    for part, out in zip(rows.split(size), place.split(size), strict=True):
        torch.argmin(torch.addmm(half, part, among.T, alpha=-1), 1, out=out)
    return place


def earlier_distance(points: Float[Tensor, "B M k"], gap: int) -> Float[Tensor, "B M"]:
    """Distance of each point to the nearest one at least `gap` before it on its trajectory; NaN where there is none.

    Differences are exact (no matrix product), because a loop's distance is 0.
    """
    n = points.shape[1]
    found = torch.full(points.shape[:2], torch.nan, dtype=torch.float64)
    early = torch.arange(n)[None, :] <= torch.arange(n)[:, None] - gap
    for one, out in zip(points.double(), found, strict=True):
        apart = torch.cdist(one, one, compute_mode="donot_use_mm_for_euclid_dist")
        # A window that is not finite is near to nothing.
        apart = apart.masked_fill(~early | apart.isnan(), torch.inf)
        nearest = apart.amin(1)
        out[:] = torch.where(nearest.isfinite(), nearest, torch.nan)
    return found
