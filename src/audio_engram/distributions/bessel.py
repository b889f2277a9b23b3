"""The von Mises-Fisher normaliser, its slope, and their inverse, exact in float64 for every dimension.

All functions take float32 or float64, work in float64 inside and give back the dtype they were given.
Slopes are series of their own in a custom backward: differentiating the series of the value cancels at small
concentration.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from audio_engram.distributions import debye
from audio_engram.errors import UsageError

_NEWTON_STEPS = 3
_CHUNK_ELEMENTS = 1 << 15  # keeps the temporaries of a Newton step in the cache


def _order(dim: int) -> float:
    if dim < 2:
        raise UsageError(f"a direction needs at least 2 dimensions, got {dim}: give latents with more channels")
    return dim / 2 - 1


class _Ratio(torch.autograd.Function):
    """A(x) = I_{order+1}(x) / I_order(x), or 1 - A(x), with slope A' = 1 - A^2 - (2 order + 1) A / x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: float, complement: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.order, ctx.complement = order, complement
        ratio, rest = debye.reduced_ratio(x, order)
        return rest if complement else x * ratio

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = _ratio_slope(x, ctx.order)
        return (-grad * slope if ctx.complement else grad * slope), None, None


def _ratio_slope(x: Tensor, order: float) -> Tensor:
    ratio, complement = debye.reduced_ratio(x, order)
    return complement * (1 + x * ratio) - (2 * order + 1) * ratio


class _LogReducedBessel(torch.autograd.Function):
    """log(x^-order I_order(x)), whose slope is A(x); scaled: minus x, whose slope is A(x) - 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: float, scaled: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.order, ctx.scaled = order, scaled
        value = debye.scaled_log(x, order)
        return value if scaled else value + x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = _Ratio.apply(x, ctx.order, ctx.scaled)
        return (-grad * slope if ctx.scaled else grad * slope), None, None


def log_bessel_i(order: int | float, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """log I_order(x) for order >= 0 and x >= 0; -inf at x = 0 unless the order is 0."""
    wide = x.double()
    value = _LogReducedBessel.apply(wide, float(order), False)
    return (value + torch.xlogy(torch.full_like(wide, order), wide)).to(x.dtype)


def log_normalizer(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    """log C_D(kappa) of the von Mises-Fisher density C_D exp(kappa mu.d) on the unit sphere of R^D.

    C_D = kappa^(D/2-1) / ((2 pi)^(D/2) I_{D/2-1}(kappa)) (Mardia and Jupp 2000, 9.3.4); -log area at kappa 0.
    """
    value = _LogReducedBessel.apply(concentration.double(), _order(dim), False)
    return (-0.5 * dim * math.log(2 * math.pi) - value).to(concentration.dtype)


def shifted_log_normalizer(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    """log C_D(kappa) + kappa, the log-density at the mode, without cancellation at large kappa."""
    value = _LogReducedBessel.apply(concentration.double(), _order(dim), True)
    return (-0.5 * dim * math.log(2 * math.pi) - value).to(concentration.dtype)


def mean_resultant_length(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    """A_D(kappa) = I_{D/2}(kappa) / I_{D/2-1}(kappa), the mean cosine to the mean direction."""
    return _Ratio.apply(concentration.double(), _order(dim), False).to(concentration.dtype)


def mean_resultant_complement(concentration: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    """1 - A_D(kappa), relatively exact at large kappa."""
    return _Ratio.apply(concentration.double(), _order(dim), True).to(concentration.dtype)


def concentration_from_mean_cosine(mean_cosine: Float[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch"]:
    """The concentration whose mean cosine A_D is the given one in [0, 1]; infinite at 1. Not differentiable.

    Start of Banerjee et al. (2005, 4.4), then Newton on 1 / (1 - A_D), which is nearly linear at both ends.

    Raises:
        UsageError: a value outside [0, 1].
    """
    cosine = mean_cosine.detach().double()
    if not bool(((cosine >= 0) & (cosine <= 1)).all()):
        raise UsageError("a mean cosine lies outside [0, 1]: pass the length of a mean of unit vectors")
    pieces = [_concentration(piece, dim) for piece in cosine.reshape(-1).split(_CHUNK_ELEMENTS)]
    return torch.cat(pieces).view(cosine.shape).to(mean_cosine.dtype)


def _concentration(cosine: Tensor, dim: int) -> Tensor:
    order, rest = _order(dim), 1 - cosine
    kappa = cosine * (dim - cosine * cosine) / (rest * (1 + cosine))
    for _ in range(_NEWTON_STEPS):
        kappa = _newton_step(kappa, rest, order)
    return torch.where(rest > 0, kappa, torch.inf)


def _newton_step(kappa: Tensor, rest: Tensor, order: float) -> Tensor:
    ratio, complement = debye.reduced_ratio(kappa, order)
    slope = complement * (1 + kappa * ratio) - (2 * order + 1) * ratio
    return kappa + (complement - rest) * complement / (rest * slope)
