"""Reparameterised draws from the von Mises-Fisher distribution.

The angle theta to the mean direction has density f proportional to exp(kappa cos theta) sin^(D-2) theta, and
d theta / d kappa = -(dF / d kappa) / f at a fixed value of the distribution function F (Figurnov, Mohamed and
Mnih 2018, formula 6). dF / d kappa is the integral of (cos s - A_D) f(s) from 0 to theta, taken numerically.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from audio_engram.distributions import debye, wood
from audio_engram.distributions.base import standard_normal

_POINTS = 48
_REACH = 12.0  # standard deviations of the angle, beyond which no density is left to integrate


def draw(loc: Tensor, concentration: Tensor, sample_shape: torch.Size, generator: Generator | None) -> Tensor:
    """Unit vectors (*sample_shape, *batch, D) whose gradient reaches loc and concentration."""
    dim, mean = loc.shape[-1], torch.nn.functional.normalize(loc.double(), dim=-1)
    kappa = concentration.double().expand(sample_shape + loc.shape[:-1])
    angle = _Angle.apply(kappa, dim, generator)[..., None]
    noise = standard_normal(kappa.shape + loc.shape[-1:], mean, generator)
    side = torch.nn.functional.normalize(noise - (noise * mean).sum(-1, keepdim=True) * mean, dim=-1)
    return (torch.cos(angle) * mean + torch.sin(angle) * side).to(loc.dtype)


class _Angle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kappa: Tensor, dim: int, generator: Generator | None) -> Tensor:
        cosine, sine = wood.draw_cosine(kappa, dim, generator)
        angle = torch.atan2(sine, cosine)
        ctx.save_for_backward(kappa, angle)
        ctx.dim = dim
        return angle

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        kappa, angle = ctx.saved_tensors
        return grad * angle_slope(angle, kappa, ctx.dim), None, None


def angle_slope(angle: Tensor, kappa: Tensor, dim: int) -> Tensor:
    """d theta / d kappa, integrating on the side of `angle` away from the mode, where nothing cancels."""
    mode, spread = _mode_and_spread(kappa, dim)
    left = angle < mode
    span = _REACH * spread
    reach = torch.where(left, (angle - span).clamp_min(0), (angle + span).clamp_max(np.pi))
    nodes, weights = (x.to(angle.device) for x in _legendre())
    s = angle[..., None] + (reach - angle)[..., None] * nodes
    _, complement = debye.reduced_ratio(kappa, dim / 2 - 1)
    from_mean = complement[..., None] - 2 * torch.sin(0.5 * s).square()  # cos s - A_D
    fall = torch.sin(0.5 * angle).square()[..., None] - torch.sin(0.5 * s).square()
    log_ratio = 2 * kappa[..., None] * fall
    if dim > 2:
        sine = torch.sin(angle).clamp_min(torch.finfo(angle.dtype).tiny)
        log_ratio = log_ratio + (dim - 2) * torch.log(torch.sin(s) / sine[..., None])
    return (reach - angle) * (weights * from_mean * torch.exp(log_ratio)).sum(-1)


def _mode_and_spread(kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The mode of the angle and 1 / sqrt of the curvature of its log-density there."""
    inner = dim - 2
    root = torch.sqrt(inner**2 + 4 * kappa**2)
    return torch.atan2(torch.sqrt(2 * inner * (inner + root)), 2 * kappa), torch.rsqrt(root)


@lru_cache(maxsize=1)
def _legendre() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    return torch.from_numpy(0.5 * (nodes + 1)), torch.from_numpy(0.5 * weights)
