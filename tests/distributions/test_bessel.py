"""The normaliser and its slopes against mpmath with 50 digits; `reference` is the generator."""

import math
import subprocess
import sys

import mpmath
import pytest
import torch

from audio_engram.distributions import (
    concentration_from_mean_cosine,
    log_bessel_i,
    log_normalizer,
    mean_resultant_length,
)
from audio_engram.distributions.bessel import mean_resultant_complement, shifted_log_normalizer
from audio_engram.errors import UsageError

# 33, 34 and 35 stand on both sides of the order from which the expansion is used directly.
DIMS = (2, 3, 4, 5, 8, 16, 33, 34, 35, 64, 512, 2048)
KAPPAS = (1e-12, 1e-6, 1e-3, 0.1, 1.0, 3.0, 16.0, 100.0, 701.843, 3e3, 1.6e5, 1e8)


def reference(dim: int, kappa: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """log C_D(kappa) and A_D(kappa)."""
    with mpmath.workdps(50):
        order, x = mpmath.mpf(dim) / 2 - 1, mpmath.mpf(kappa)
        below, above = mpmath.besseli(order, x), mpmath.besseli(order + 1, x)
        log_c = order * mpmath.log(x) - (order + 1) * mpmath.log(2 * mpmath.pi) - mpmath.log(below)
        return log_c, above / below


def log_area(dim: int) -> float:
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


@pytest.fixture(scope="module", params=DIMS)
def table(request):
    dim = request.param
    values, ratios = zip(*(reference(dim, kappa) for kappa in KAPPAS), strict=True)
    return dim, values, ratios


def relative_errors(measured, exact):
    return [float(abs((mpmath.mpf(float(m)) - e) / e)) for m, e in zip(measured, exact, strict=True)]


def scaled_errors(measured, exact, dim):
    floor = max(1.0, abs(log_area(dim)))
    return [float(abs(mpmath.mpf(float(m)) - e) / max(floor, abs(e))) for m, e in zip(measured, exact, strict=True)]


def test_log_normalizer_in_both_precisions(table):
    dim, values, _ = table
    wide = torch.tensor(KAPPAS, dtype=torch.float64)
    assert max(scaled_errors(log_normalizer(wide, dim), values, dim)) < 1e-12
    narrow = log_normalizer(wide.float(), dim)
    assert narrow.dtype == torch.float32
    exact = [reference(dim, float(k))[0] for k in wide.float()]
    assert max(scaled_errors(narrow, exact, dim)) < 2e-7


def test_shifted_log_normalizer_does_not_cancel(table):
    dim, values, _ = table
    exact = [value + mpmath.mpf(kappa) for value, kappa in zip(values, KAPPAS, strict=True)]
    shifted = shifted_log_normalizer(torch.tensor(KAPPAS, dtype=torch.float64), dim)
    assert max(scaled_errors(shifted, exact, dim)) < 1e-13


def test_mean_resultant_length_and_complement(table):
    dim, _, ratios = table
    wide = torch.tensor(KAPPAS, dtype=torch.float64)
    assert max(relative_errors(mean_resultant_length(wide, dim), ratios)) < 1e-12
    assert max(relative_errors(mean_resultant_complement(wide, dim), [1 - r for r in ratios])) < 1e-12
    exact = [reference(dim, float(k))[1] for k in wide.float()]
    assert max(relative_errors(mean_resultant_length(wide.float(), dim), exact)) < 2e-7


def test_slope_of_log_normalizer(table):
    dim, _, ratios = table
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-7)):
        kappa = torch.tensor(KAPPAS, dtype=dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(log_normalizer(kappa, dim).sum(), kappa)
        exact = ratios if dtype == torch.float64 else [reference(dim, float(k))[1] for k in kappa.detach()]
        assert max(relative_errors(-slope, exact)) < tolerance


def test_second_derivative(table):
    dim, _, ratios = table
    kappa = torch.tensor(KAPPAS, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_normalizer(kappa, dim).sum(), kappa, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), kappa)
    with mpmath.workdps(50):
        exact = [-(1 - a * a - (dim - 1) / mpmath.mpf(k) * a) for k, a in zip(KAPPAS, ratios, strict=True)]
    # A' is a difference of terms kappa times larger than itself.
    for error, k in zip(relative_errors(second, exact), KAPPAS, strict=True):
        assert error < 1e-13 * max(10, k)


def test_shifted_slope_is_the_complement():
    kappa = torch.tensor([0.0, 2.0, 1e6], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(shifted_log_normalizer(kappa, 64).sum(), kappa)
    torch.testing.assert_close(slope, mean_resultant_complement(kappa.detach(), 64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dim", DIMS)
def test_zero_concentration_is_the_uniform_density(dim):
    kappa = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = log_normalizer(kappa, dim)
    (slope,) = torch.autograd.grad(value.sum(), kappa)
    assert value.item() == pytest.approx(-log_area(dim), rel=1e-13, abs=1e-13)
    assert slope.item() == 0
    assert mean_resultant_length(kappa.detach(), dim).item() == 0


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_never_nan_or_infinite(dim, dtype):
    kappa = torch.cat([torch.zeros(1), torch.logspace(-30, 8, 500)]).to(dtype).requires_grad_()
    value = log_normalizer(kappa, dim)
    (slope,) = torch.autograd.grad(value.sum(), kappa, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), kappa)
    assert value.dtype == dtype
    for tensor in (value, slope, second):
        assert torch.isfinite(tensor).all()
    assert (slope <= 0).all()
    assert (value.diff() <= 1e-12 * max(1.0, abs(log_area(dim)))).all()


def test_gradients_are_those_of_the_functions():
    kappa = torch.tensor([0.3, 2.0, 40.0], dtype=torch.float64, requires_grad=True)
    for dim in (2, 7, 80):
        for function in (
            log_normalizer,
            shifted_log_normalizer,
            mean_resultant_length,
            mean_resultant_complement,
        ):
            assert torch.autograd.gradcheck(lambda k, f=function, d=dim: f(k, d), kappa)
        assert torch.autograd.gradgradcheck(lambda k, d=dim: log_normalizer(k, d), kappa)


def test_figures_of_the_published_dimension():
    """D = 512: mean cosine 0.7 is kappa 701.843 (not the shortcut's 852); kappa 850 is cosine 0.743491."""
    cosine = torch.tensor(0.7, dtype=torch.float64)
    assert concentration_from_mean_cosine(cosine, 512).item() == pytest.approx(701.843, abs=5e-4)
    kappa = torch.tensor(850.0, dtype=torch.float64)
    assert mean_resultant_length(kappa, 512).item() == pytest.approx(0.743491, abs=5e-7)


def test_three_dimensions_are_elementary():
    kappa = torch.tensor([0.1, 1.0, 5.0, 300.0], dtype=torch.float64)
    expected = torch.log(kappa / (2 * math.pi)) - kappa - torch.log1p(-torch.exp(-2 * kappa))
    torch.testing.assert_close(log_normalizer(kappa, 3), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("order", [0, 0.5, 1, 10.25, 255, 1023])
def test_log_bessel_i(order):
    x = torch.tensor([1e-8, 0.5, 20.0, 713.0, 1e6], dtype=torch.float64)
    with mpmath.workdps(50):
        exact = [mpmath.log(mpmath.besseli(order, mpmath.mpf(float(v)))) for v in x]
    for measured, value in zip(log_bessel_i(order, x), exact, strict=True):
        assert measured.item() == pytest.approx(float(value), rel=1e-13, abs=1e-13)
    at_zero = log_bessel_i(order, torch.zeros(1, dtype=torch.float64)).item()
    assert at_zero == (pytest.approx(0, abs=1e-14) if order == 0 else -math.inf)


@pytest.mark.parametrize("dim", DIMS)
def test_concentration_from_mean_cosine_inverts(dim):
    """Against mpmath: one exact Newton step from the answer shows its error."""
    cosines = (1e-8, 1e-3, 0.1, 0.5, 0.7, 0.9, 0.99, 1 - 1e-6)
    answers = concentration_from_mean_cosine(torch.tensor(cosines, dtype=torch.float64), dim)
    for cosine, answer in zip(cosines, answers, strict=True):
        kappa = float(answer)
        _, ratio = reference(dim, kappa)
        with mpmath.workdps(50):
            slope = 1 - ratio**2 - (dim - 1) / mpmath.mpf(kappa) * ratio
            error = abs((ratio - mpmath.mpf(cosine)) / slope)
        assert float(error * (1 - cosine)) < 1e-11


def test_concentration_from_mean_cosine_at_the_ends():
    kappa = concentration_from_mean_cosine(torch.tensor([0.0, 1.0]), 512)
    assert kappa.tolist() == [0.0, math.inf]
    assert concentration_from_mean_cosine(torch.zeros(2, 0), 512).shape == (2, 0)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_a_cosine_outside_its_range_is_refused(wrong):
    with pytest.raises(UsageError, match="mean cosine"):
        concentration_from_mean_cosine(torch.tensor([0.5, wrong]), 512)


def test_one_dimension_is_refused():
    with pytest.raises(UsageError, match="at least 2"):
        log_normalizer(torch.ones(1), 1)


COMPILED = """
import warnings
import torch
from audio_engram.distributions import log_normalizer, mean_resultant_length

warnings.filterwarnings("error", message=".*lru_cache.*")
kappa = torch.tensor([0.0, 3.0, 850.0], dtype=torch.float64, requires_grad=True)
value = torch.compile(lambda k: log_normalizer(k, 512), backend="aot_eager", fullgraph=True)(kappa)
torch.testing.assert_close(value, log_normalizer(kappa, 512))
(slope,) = torch.autograd.grad(value.sum(), kappa)
torch.testing.assert_close(-slope, mean_resultant_length(kappa.detach(), 512))
"""


@pytest.mark.slow
def test_the_compiler_takes_it_in_one_piece():
    """Without executed annotations; tracing the exact arithmetic behind the coefficients would warn."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=120)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    kappa = torch.logspace(-6, 8, 50, dtype=torch.float64)
    for dim in (2, 64, 512):
        there = log_normalizer(kappa.cuda(), dim).cpu()
        torch.testing.assert_close(there, log_normalizer(kappa, dim), rtol=1e-12, atol=1e-12)
