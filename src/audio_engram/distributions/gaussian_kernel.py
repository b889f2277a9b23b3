"""Log-densities of many diagonal Gaussians at once, in pieces that stay in the cache.

The temporaries of a batch of 2,048 with 8 components of 512 dimensions would be 33 MB each, which the C
library maps and page-faults anew every time; forward and backward therefore walk over the batch, with the
slopes written out.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_ELEMENTS = 1 << 18


def component_log_prob(
    delta: Float[Tensor, "*shape D"], loc: Float[Tensor, "*batch K D"], log_scale: Float[Tensor, "*batch K D"]
) -> Float[Tensor, "*shape K"]:
    """log N(delta; loc_k, exp(log_scale_k)) for every component, summed in float64.

    Half-precision parameters, as a head under autocast gives them, are widened piece by piece.
    """
    delta = delta.to(torch.promote_types(delta.dtype, torch.float32))
    shape = torch.broadcast_shapes(delta.shape[:-1], loc.shape[:-2])
    n_components, dim = loc.shape[-2:]
    flat = delta.expand(*shape, dim).reshape(-1, dim)
    locs, log_scales = (x.expand(*shape, n_components, dim).reshape(-1, n_components, dim) for x in (loc, log_scale))
    return _ComponentLogProb.apply(flat, locs, log_scales).view(*shape, n_components)


def _chunks(loc: Tensor) -> Iterator[slice]:
    row = max(1, loc.shape[1] * loc.shape[2])
    rows = max(1, _CHUNK_ELEMENTS // row) if loc.device.type == "cpu" else max(1, len(loc))
    return (slice(i, i + rows) for i in range(0, len(loc), rows))


def _standardised(delta: Tensor, loc: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    difference = delta[:, None] - loc
    inverse = torch.exp(-log_scale.to(difference.dtype))
    return difference.mul_(inverse), inverse


class _ComponentLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, delta: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
        ctx.save_for_backward(delta, loc, log_scale)
        out = torch.empty(loc.shape[:-1], dtype=torch.float64, device=loc.device)
        for rows in _chunks(loc):
            z, _ = _standardised(delta[rows], loc[rows], log_scale[rows])
            z.square_().mul_(0.5).add_(log_scale[rows])
            torch.sum(z, -1, dtype=torch.float64, out=out[rows])
        return out.add_(0.5 * loc.shape[-1] * math.log(2 * math.pi)).neg_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        delta, loc, log_scale = ctx.saved_tensors
        to_delta, to_loc, to_scale = (
            torch.empty_like(delta),
            torch.empty_like(loc),
            torch.empty_like(log_scale),
        )
        for rows in _chunks(loc):
            z, inverse = _standardised(delta[rows], loc[rows], log_scale[rows])
            weight = grad[rows].to(z.dtype)[..., None]
            torch.sub(z * z, 1, out=to_scale[rows]).mul_(weight)
            torch.mul(z.mul_(weight), inverse, out=to_loc[rows])
            torch.sum(to_loc[rows], 1, out=to_delta[rows]).neg_()
        return to_delta, to_loc, to_scale
