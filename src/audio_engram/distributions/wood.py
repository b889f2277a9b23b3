"""Draws from the von Mises-Fisher distribution: the cosine by rejection, the rest in closed form.

Wood (1994), Simulation of the von Mises Fisher distribution, algorithm VM*.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from audio_engram.errors import NumericalError

# At least 0.6 of the proposals are accepted: only a concentration without a square runs out of rounds.
_MOST_ROUNDS = 100
_CHUNK_ROWS = 1024


def draw_cosine(concentration: Tensor, dim: int, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle to the mean direction, float64, one for each concentration.

    NaN where that is not finite, as the state is that it was predicted from: the others are drawn as they are.

    Raises:
        NumericalError: a concentration is so large that its square is no number.
    """
    kappa = concentration.detach().double().reshape(-1)
    cosine, sine = torch.full_like(kappa, torch.nan), torch.full_like(kappa, torch.nan)
    open_rows = kappa.isfinite().nonzero().flatten()
    for _ in range(_MOST_ROUNDS):
        if open_rows.numel() == 0:
            return cosine.view(concentration.shape), sine.view(concentration.shape)
        w, s, accepted = _propose(kappa[open_rows], dim, generator)
        cosine[open_rows], sine[open_rows] = w, s
        open_rows = open_rows[~accepted]
    raise NumericalError(
        f"{open_rows.numel()} von Mises-Fisher rows accept no proposal, the first with concentration "
        f"{kappa[open_rows[0]].item()}: bound the concentration that the model predicts"
    )


def _propose(kappa: Tensor, dim: int, generator: Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    freedom = dim - 1
    b = freedom / (2 * kappa + torch.sqrt(4 * kappa**2 + freedom**2))
    shape = torch.full_like(kappa, 0.5 * freedom)
    left = torch._standard_gamma(shape, generator)
    right = torch._standard_gamma(shape, generator)
    z = left / (left + right)
    below = 1 - (1 - b) * z
    cosine = (1 - (1 + b) * z) / below
    sine = 2 * torch.sqrt(b * z * (1 - z)) / below
    # Both logarithms of Wood's test are of quantities near 0 at large kappa; so written, nothing cancels.
    gap = 2 * b * z / below - 2 * b / (1 + b)  # x0 - w
    x0 = (1 - b) / (1 + b)
    log_ratio = torch.log1p(x0 * gap / (1 - x0 * x0))
    log_uniform = torch.log(torch.rand(kappa.shape, dtype=kappa.dtype, device=kappa.device, generator=generator))
    return cosine, sine, freedom * log_ratio - kappa * gap >= log_uniform


def draw(loc: Tensor, concentration: Tensor, sample_shape: torch.Size, generator: Generator | None) -> Tensor:
    """Unit vectors (*sample_shape, *batch, D) for loc (*batch, D) and concentration (*batch)."""
    dim = loc.shape[-1]
    shape = sample_shape + loc.shape[:-1]
    cosine, sine = draw_cosine(concentration.expand(shape), dim, generator)
    means = loc.detach().reshape(-1, dim)
    n_draws, n_means = sample_shape.numel(), means.shape[0]
    out = torch.empty((n_draws, n_means, dim), dtype=loc.dtype, device=loc.device)
    cosine, sine = (x.to(loc.dtype).reshape(n_draws, n_means) for x in (cosine, sine))
    for s, b in _chunks(n_draws, n_means):
        _fill(out[s, b], means[b], (cosine[s, b], sine[s, b]), generator)
    return out.reshape((*shape, dim))


def _chunks(n_draws: int, n_means: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of about 1,024 rows: each stays in the cache from the normal numbers to the finished rows."""
    per_block = max(1, _CHUNK_ROWS // max(1, n_means))
    for first in range(0, n_draws, per_block):
        for start in range(0, n_means, _CHUNK_ROWS):
            yield slice(first, first + per_block), slice(start, start + _CHUNK_ROWS)


def _fill(out: Tensor, loc: Tensor, angle: tuple[Tensor, Tensor], generator: Generator | None) -> None:
    """Fill `out` (s, b, D) in place: a draw about the first axis, carried to `loc` by a reflection.

    The Householder reflection along u = loc + sign(loc_0) e_0, which is never short, takes the first axis to
    -sign(loc_0) loc.
    """
    cosine, sine = angle
    out.normal_(generator=generator)
    out[..., 0] = 0
    length = torch.linalg.vector_norm(out, dim=-1)
    empty = length == 0
    out[..., 1] += empty
    scale = sine / (length + empty)
    sign = torch.where(loc[:, 0] < 0, -1.0, 1.0).to(out.dtype)
    first = -sign * cosine
    along = torch.matmul(out, loc[0]) if len(loc) == 1 else (out * loc).sum(-1)
    push = -(along * scale + first * (loc[:, 0] + sign)) / (1 + loc[:, 0].abs())
    out.mul_(scale[..., None])
    out[..., 0] = first + push * sign
    out.addcmul_(push[..., None], loc)
