"""k-means++ on the unit sphere: seeds that lie far apart (Arthur and Vassilvitskii 2007)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Entries of the block of cosines held at once: 2 MB stay in a core's cache, a GPU wants few large kernels.
CHUNK, CUDA_CHUNK = 1 << 19, 1 << 26


def further_seeds(
    rows: Float[Tensor, "N D"], near: Float[Tensor, " N"], count: int, generator: torch.Generator
) -> Int[Tensor, " S"]:
    """Draw rows by k-means++ (Arthur and Vassilvitskii 2007), given the distances `near` to the seeds there are.

    Fewer than `count` come back when all rows lie on a seed. A seed is a row drawn in proportion to its distance
    1 - cos, half the squared one, to the nearest seed so far. Several are drawn at once from distances that have gone
    stale, and each is kept with probability new / stale distance: rejection makes the draw exact, and the distances of
    all rows are brought up to date by one matrix product for many seeds.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        cumulative = near.double().cpu().cumsum(0)
        if not cumulative[-1] > 0:
            break
        # As many as there are already: then few are drawn near one another.
        size = min(len(chosen) + 1, 2 * (count - len(chosen)))
        # Above 0 and up to the total: so no row is drawn that lies on a seed.
        draws = (1 - torch.rand(size, generator=generator, dtype=torch.float64)) * cumulative[-1]
        picks = torch.searchsorted(cumulative, draws).to(rows.device)
        kept = picks[_accepted(rows[picks], near[picks], generator).to(rows.device)][: count - len(chosen)]
        near = torch.minimum(near, nearness(rows, rows[kept]))
        chosen += kept.tolist()
    return torch.tensor(chosen, dtype=torch.long, device=rows.device)


def _accepted(
    candidates: Float[Tensor, "S D"], stale: Float[Tensor, " S"], generator: torch.Generator
) -> Bool[Tensor, " S"]:
    """Reject those that have come too near to the ones kept before them."""
    apart = distance(candidates @ candidates.T).double().cpu()
    now = stale.double().cpu()
    bar = torch.rand(len(stale), generator=generator, dtype=torch.float64) * now
    kept = torch.zeros(len(stale), dtype=torch.bool)
    for place in range(len(stale)):
        if now[place] > bar[place]:
            kept[place] = True
            now = torch.minimum(now, apart[place])
    return kept


def nearness(rows: Float[Tensor, "N D"], seeds: Float[Tensor, "S D"]) -> Float[Tensor, " N"]:
    """Return each row's distance 1 - cos to the nearest seed."""
    return distance(torch.cat([(part @ seeds.T).amax(1) for part in rows.split(chunk_rows(rows, len(seeds)))]))


def distance(cosines: Tensor) -> Tensor:
    """1 - cos, and nothing where rounding could have made it."""
    apart = 1 - cosines
    return apart.masked_fill_(apart <= 16 * torch.finfo(cosines.dtype).eps, 0)


def chunk_rows(rows: Tensor, columns: int) -> int:
    """How many rows of so many cosines make a block."""
    return max(1, (CUDA_CHUNK if rows.is_cuda else CHUNK) // max(1, columns))
