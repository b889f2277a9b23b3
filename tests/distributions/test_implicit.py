"""The reparameterised angle: its slope in kappa against distribution functions that we know otherwise."""

import math

import pytest
import scipy.integrate
import torch
from torch.nn.functional import normalize

from audio_engram.distributions import VonMisesFisher, mean_resultant_length
from audio_engram.distributions.implicit import angle_slope


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 1e4, 1e8])
def test_three_dimensions_are_elementary(kappa):
    """D = 3: F = (1 - exp(-kappa (1 - cos theta))) / (1 - exp(-2 kappa)), differentiated by hand."""
    scale = min(2.0, 5 / kappa)
    # 1 - cos theta; the last stands so far out that the integral from 0 would cancel.
    gap = scale * tensor(0.01, 0.1, 0.3, 0.6, 0.9, 5.0 if kappa > 20 else 0.95)
    angle = 2 * torch.asin(torch.sqrt(0.5 * gap))
    fall, far = torch.exp(-kappa * gap), math.exp(-2 * kappa)
    mass = -math.expm1(-2 * kappa)
    to_kappa = gap * fall / mass + 2 * far * torch.expm1(-kappa * gap) / mass**2
    density = kappa * torch.sin(angle) * fall / mass
    measured = angle_slope(angle, torch.full_like(angle, kappa), 3)
    torch.testing.assert_close(measured, -to_kappa / density, rtol=1e-8 if kappa > 0.1 else 1e-6, atol=0)


@pytest.mark.parametrize("dim", [2, 4, 16, 512])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 20.0, 850.0])
def test_slope_against_quadrature(dim, kappa):
    """The whole integral from 0, on a fine grid, at quantiles of the angle from 0.001 to 0.999."""
    grid = torch.linspace(0, math.pi, 400_001, dtype=torch.float64)
    log_density = kappa * (torch.cos(grid) - 1) + (dim - 2) * torch.log(torch.sin(grid).clamp_min(1e-300))
    density = torch.exp(log_density - log_density.max())
    mass = torch.tensor(scipy.integrate.cumulative_trapezoid(density.numpy(), grid.numpy(), initial=0))
    ratio = mean_resultant_length(tensor(kappa), dim)
    inner = torch.tensor(
        scipy.integrate.cumulative_trapezoid(((torch.cos(grid) - ratio) * density).numpy(), grid.numpy(), initial=0)
    )
    index = torch.searchsorted(mass / mass[-1], tensor(0.001, 0.03, 0.3, 0.5, 0.8, 0.97, 0.999))
    measured = angle_slope(grid[index], torch.full((7,), kappa, dtype=torch.float64), dim)
    torch.testing.assert_close(measured, -inner[index] / density[index], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dim", [2, 3, 512])
@pytest.mark.parametrize("kappa", [0.0, 1e-6, 1.0, 850.0, 1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_gradients_are_finite(dim, kappa, dtype):
    loc = normalize(torch.randn(4, dim, dtype=dtype, generator=torch.Generator().manual_seed(0)), dim=-1)
    leaves = [loc.requires_grad_(), torch.full((4,), kappa, dtype=dtype, requires_grad=True)]
    draws = VonMisesFisher(*leaves).rsample((500,), torch.Generator().manual_seed(1))
    assert draws.dtype == dtype
    assert (torch.linalg.vector_norm(draws.detach().double(), dim=-1) - 1).abs().max() < 1e-6
    for gradient in torch.autograd.grad(draws.square().sum() + draws.sum(), leaves):
        assert torch.isfinite(gradient).all()


def test_mean_cosine_and_its_slope():
    """D = 512, kappa 850, 20,000 draws; five standard errors, once in 10^6."""
    loc = normalize(torch.ones(512, dtype=torch.float64), dim=-1)
    kappa = torch.full((20_000,), 850.0, dtype=torch.float64, requires_grad=True)
    cosines = VonMisesFisher(loc, kappa).rsample(generator=torch.Generator().manual_seed(2)) @ loc
    (slopes,) = torch.autograd.grad(cosines.sum(), kappa)
    one = tensor(850.0).requires_grad_()
    expected = mean_resultant_length(one, 512)
    (slope,) = torch.autograd.grad(expected.sum(), one)
    for sample, exact in ((cosines.detach(), expected), (slopes, slope)):
        assert (sample.mean() - exact).abs() < 5 * sample.std() / math.sqrt(20_000)
