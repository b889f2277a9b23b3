"""Uniform (Debye) asymptotic expansion of the modified Bessel function, in log form.

With r = sqrt(order^2 + x^2) and t = order / r,

    log(x^-order I_order(x)) = r - order log(order + r) - log(2 pi r) / 2 + W(t),

which has no singularity at x = 0 (DLMF 10.41.3 after taking the logarithm of the sum). For a fixed order
the correction W is one polynomial in t, so a value costs two logarithms, and its slope is another polynomial.
Orders under `SMALLEST_ORDER` are reached from above by the backward recurrence; all its terms are positive.
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

SMALLEST_ORDER = 16.0
_MOST_TERMS = 14
_TOLERANCE = 1e-16

Polynomial = list[Fraction]


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    product = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] += x * y
    return product


def _plus(a: Polynomial, b: Polynomial) -> Polynomial:
    short, long = sorted((a, b), key=len)
    return [x + (short[i] if i < len(short) else 0) for i, x in enumerate(long)]


def _derivative(a: Polynomial) -> Polynomial:
    return [i * x for i, x in enumerate(a)][1:] or [Fraction(0)]


def _integral(a: Polynomial) -> Polynomial:
    return [Fraction(0)] + [x / (i + 1) for i, x in enumerate(a)]


@lru_cache(maxsize=1)
def _log_terms() -> list[Polynomial]:
    """The polynomials D_k(t) of W = sum_k D_k(t) / order^k, exactly.

    DLMF 10.41.9 for the sum S = e^W reads order S' = (h S')' + g S with h = t^2 (1 - t^2) / 2 and
    g = (1 - 5 t^2) / 8; hence order W' = (h W')' + h W'^2 + g, solved term by term.
    """
    h = [Fraction(0), Fraction(0), Fraction(1, 2), Fraction(0), Fraction(-1, 2)]
    slopes: list[Polynomial] = [[Fraction(1, 8), Fraction(0), Fraction(-5, 8)]]
    while len(slopes) < _MOST_TERMS:
        squares: Polynomial = [Fraction(0)]
        for left, right in zip(slopes[:-1], reversed(slopes[:-1]), strict=True):
            squares = _plus(squares, _times(left, right))
        slopes.append(_plus(_derivative(_times(h, slopes[-1])), _times(h, squares)))
    return [_integral(slope) for slope in slopes]


def _largest(polynomial: Polynomial) -> float:
    points = (i / 64 for i in range(65))
    return max(abs(sum(float(c) * t**j for j, c in enumerate(polynomial))) for t in points)


@lru_cache(maxsize=1)
def _term_sizes() -> list[float]:
    return [_largest(polynomial) for polynomial in _log_terms()]


@lru_cache(maxsize=256)
def _coefficients(order: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    total: Polynomial = [Fraction(0)]
    for k, (polynomial, size) in enumerate(zip(_log_terms(), _term_sizes(), strict=True), start=1):
        if size < _TOLERANCE * order**k:
            break
        total = _plus(total, [c / Fraction(order) ** k for c in polynomial])
    value = tuple(float(c) for c in total)
    return value, (0.5, *(j * c for j, c in enumerate(value) if j))


@torch.compiler.assume_constant_result
def coefficients(order: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients of W(t) and of 1/2 + t W'(t) for one order, with as many terms as that order needs.

    Wrapped once more because the compiler looks through a cache and would trace the exact arithmetic.
    """
    return _coefficients(order)


def _horner(t: Tensor, polynomial: tuple[float, ...]) -> Tensor:
    value = torch.full_like(t, polynomial[-1])
    for c in reversed(polynomial[:-1]):
        value.mul_(t).add_(c)
    return value


def _shift(order: float) -> int:
    return max(0, math.ceil(SMALLEST_ORDER - order))


def _large_order_log(x: Tensor, r: Tensor, order: float) -> Tensor:
    """log(x^-order I_order(x)) - x; r - x is written so that it does not cancel."""
    correction = _horner(order / r, coefficients(order)[0])
    return order**2 / (r + x) - order * torch.log(order + r) - 0.5 * torch.log(2 * math.pi * r) + correction


def _large_order_ratio(x: Tensor, r: Tensor, order: float) -> tuple[Tensor, Tensor]:
    correction = _horner(order / r, coefficients(order)[1]) / (r * r)
    ratio = 1 / (r + order) - correction
    complement = (order + order**2 / (r + x)) / (r + order) + x * correction
    return ratio, complement


def reduced_ratio(x: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """I_{order+1}(x) / (x I_order(x)) and 1 - I_{order+1}(x) / I_order(x), both without cancellation."""
    start = order + _shift(order)
    ratio, complement = _large_order_ratio(x, torch.sqrt(x * x + start**2), start)
    for step in range(_shift(order), 0, -1):
        double = 2 * (order + step)
        ratio = 1 / (double + x * x * ratio)
        complement = (double - x * complement) * ratio
    return ratio, complement


def scaled_log(x: Tensor, order: float) -> Tensor:
    """log(x^-order I_order(x)) - x for x >= 0 in float64."""
    start = order + _shift(order)
    r = torch.sqrt(x * x + start**2)
    value = _large_order_log(x, r, start)
    if start == order:
        return value
    ratio, _ = _large_order_ratio(x, r, start)
    product = torch.ones_like(x)
    for step in range(_shift(order), 0, -1):
        quotient = 2 * (order + step) + x * x * ratio
        ratio = 1 / quotient
        product = product * quotient
    return value + torch.log(product)
