"""Accuracy and speed of the distributions. Run: python benchmarks/distributions.py"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mpmath
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from audio_engram.distributions import (
    DiagonalGaussianMixture,
    LogNormal,
    Polar,
    VonMisesFisher,
    concentration_from_mean_cosine,
    log_normalizer,
    mean_resultant_length,
)
from timing import Row, ratio, row, single_thread, warm_allocator

DIM, N = 512, 1_000_000


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _forward_backward(function: Callable[[Tensor], Tensor], kappa: Tensor) -> Callable[[], None]:
    leaf = kappa.clone().requires_grad_()
    ones = torch.ones_like(kappa)

    def work() -> None:
        torch.autograd.grad(function(leaf), leaf, ones)

    return work


def accuracy_rows() -> Iterator[Row]:
    """Largest errors over D 2..2048 and kappa 1e-6..1e8 against mpmath with 50 digits."""
    grid = [(dim, 10.0**e) for dim in (2, 3, 16, 34, 512, 2048) for e in range(-6, 9)]
    for dtype, demand in ((torch.float64, 1e-12), (torch.float32, 2e-7)):
        errors = [_errors(dim, torch.tensor(kappa, dtype=dtype)) for dim, kappa in grid]
        for name, worst in zip(("log C", "A_D", "-dlogC/dkappa"), map(max, zip(*errors, strict=True)), strict=True):
            yield row(f"{name} error, {str(dtype).removeprefix('torch.')}", worst, demand)


def _errors(dim: int, kappa: Tensor) -> tuple[float, float, float]:
    """Of log C on the scale max(1, |log C|, |log C(0)|); relative of A_D and of the slope."""
    leaf = kappa.clone().requires_grad_()
    value = log_normalizer(leaf, dim)
    (slope,) = torch.autograd.grad(value, leaf)
    with mpmath.workdps(50):
        order, x, half = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa.item()), mpmath.mpf(dim) / 2
        below = mpmath.besseli(order, x)
        log_c = order * mpmath.log(x) - half * mpmath.log(2 * mpmath.pi) - mpmath.log(below)
        log_c0 = mpmath.loggamma(half) - mpmath.log(2) - half * mpmath.log(mpmath.pi)
        ratio = mpmath.besseli(order + 1, x) / below
        error = abs(value.item() - log_c) / max(1, abs(log_c), abs(log_c0))
        of_ratio = abs(mean_resultant_length(kappa, dim).item() / ratio - 1)
        return float(error), float(of_ratio), float(abs(-slope.item() / ratio - 1))


def normalizer_rows() -> Iterator[Row]:
    """log C_512 forward and backward on 1e6 float64 against torch.log."""
    kappa = torch.rand(N, dtype=torch.float64, generator=_generator()) * 2000
    eager = ratio(_forward_backward(lambda k: log_normalizer(k, DIM), kappa), lambda: torch.log(kappa))
    yield row("log C forward+backward, D=512, 1e6 float64, eager / log", eager, 75)
    compiled = torch.compile(lambda k: log_normalizer(k, DIM))
    yield row(
        "log C forward+backward, D=512, 1e6 float64, compiled / log",
        ratio(_forward_backward(compiled, kappa), lambda: torch.log(kappa)),
        5.5,
    )


def inversion_rows() -> Iterator[Row]:
    """Concentration from the mean cosine on 131,072 float64 (1 MB) and on 1e6."""
    for n in (1 << 17, N):
        cosine = torch.rand(n, dtype=torch.float64, generator=_generator())
        yield row(
            f"kappa from mean cosine, D=512, {n} float64 / log",
            ratio(lambda c=cosine: concentration_from_mean_cosine(c, DIM), lambda c=cosine: torch.log(c)),
            60,
        )


def sampling_rows() -> Iterator[Row]:
    """10,000 directions of 512 dimensions at kappa 850 against as many normal numbers."""
    generator, n = _generator(), 10_000
    many = torch.nn.functional.normalize(torch.randn(n, DIM, generator=generator), dim=-1)
    one_mean = VonMisesFisher(many[0], torch.tensor(850.0))
    many_means = VonMisesFisher(many, torch.full((n,), 850.0))

    def floor() -> Tensor:
        return torch.randn(n, DIM, generator=generator)

    one = ratio(lambda: one_mean.sample((n,), generator), floor)
    yield row("vMF sampling 1e4 x 512, one mean / randn", one, 1.7)
    yield row(
        "vMF sampling 1e4 x 512, many means / randn",
        ratio(lambda: many_means.sample(generator=generator), floor),
        1.9,
    )


def loss_rows() -> Iterator[Row]:
    """Log-density forward and backward, batch 2,048 x 512, against the GEMMs of its training step."""
    generator, batch = _generator(), 2048
    delta = torch.randn(batch, DIM, generator=generator)
    polar, polar_leaves = _polar(batch, generator)
    mixture, mixture_leaves = _mixture(batch, generator)
    for name, density, leaves, outputs, demand in (
        ("vMF x log-normal", polar, polar_leaves, DIM + 3, 0.12),
        ("MDN, K=8", mixture, mixture_leaves, 8 * (2 * DIM + 1), 0.15),
    ):
        yield row(
            f"{name} log-density forward+backward / GEMMs of its step",
            ratio(
                lambda d=density, x=leaves: torch.autograd.grad(d.log_prob(delta).mean(), x),
                _products(batch, outputs, generator),
                rounds=3,
            ),
            demand,
        )


def _polar(batch: int, generator: torch.Generator) -> tuple[Polar, list[Tensor]]:
    loc = torch.nn.functional.normalize(torch.randn(batch, DIM, generator=generator), dim=-1)
    leaves = [loc, torch.full((batch,), 700.0), torch.zeros(batch), torch.ones(batch)]
    for leaf in leaves:
        leaf.requires_grad_()
    return Polar(leaves[0], leaves[1], LogNormal(leaves[2], leaves[3])), leaves


def _mixture(batch: int, generator: torch.Generator) -> tuple[DiagonalGaussianMixture, list[Tensor]]:
    shapes = [(batch, 8), (batch, 8, DIM), (batch, 8, DIM)]
    leaves = [torch.randn(shape, generator=generator).mul_(0.1).requires_grad_() for shape in shapes]
    return DiagonalGaussianMixture(*leaves), leaves


def _products(batch: int, outputs: int, generator: torch.Generator) -> Callable[[], None]:
    """The GEMMs of one step of 8 x 512 -> 1024 -> 1024 -> outputs: forward and two backward each."""
    sizes = [(8 * DIM, 1024), (1024, 1024), (1024, outputs)]
    pairs = [(torch.randn(batch, i, generator=generator), torch.randn(i, o, generator=generator)) for i, o in sizes]

    def work() -> None:
        for index, (x, w) in enumerate(pairs):
            y = x @ w
            x.T @ y
            if index:
                y @ w.T

    return work


def rows() -> Iterator[Row]:
    """All rows."""
    single_thread()
    warm_allocator()
    for part in (accuracy_rows, normalizer_rows, inversion_rows, sampling_rows, loss_rows):
        yield from part()


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
