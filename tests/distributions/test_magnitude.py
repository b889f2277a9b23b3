import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from audio_engram.distributions import LogNormal, LogNormalMixture


def tensor(*values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def mixture() -> LogNormalMixture:
    logits = torch.tensor([[0.3, -1.0], [2.0, 2.0]], dtype=torch.float64)
    loc = torch.tensor([[0.0, 3.0], [-1.0, 1.0]], dtype=torch.float64)
    return LogNormalMixture(logits, loc, torch.tensor([[0.5, 0.2], [0.3, 0.3]], dtype=torch.float64))


def test_log_normal_against_scipy():
    m = torch.tensor([0.01, 0.5, 1.0, 30.0], dtype=torch.float64)
    ours = LogNormal(torch.full((4,), 0.7, dtype=torch.float64), torch.full((4,), 0.4, dtype=torch.float64))
    theirs = scipy.stats.lognorm(s=0.4, scale=math.exp(0.7))
    torch.testing.assert_close(ours.log_prob(m), torch.tensor(theirs.logpdf(m.numpy())))
    assert ours.mean[0].item() == pytest.approx(theirs.mean(), rel=1e-12)
    assert ours.median[0].item() == pytest.approx(theirs.median(), rel=1e-12)
    assert ours.expected_log[0].item() == 0.7


def test_density_is_float64_whatever_the_parameters():
    ours = LogNormal(torch.zeros(2), torch.ones(2))
    assert ours.log_prob(torch.ones(2)).dtype == torch.float64
    assert ours.sample((3,)).dtype == torch.float32


def test_mixture_density_is_the_weighted_sum():
    ours = mixture()
    m = torch.tensor([0.7, 2.5], dtype=torch.float64)
    for row in range(2):
        parts = [
            w * scipy.stats.lognorm(s=s, scale=math.exp(c)).pdf(m[row].item())
            for w, c, s in zip(ours.weights[row], ours.loc[row].tolist(), ours.scale[row].tolist(), strict=True)
        ]
        assert ours.log_prob(m)[row].item() == pytest.approx(math.log(sum(parts)), rel=1e-12)


def test_one_component_is_the_log_normal():
    loc, scale = tensor(0.2, -1.0), tensor(0.5, 2.0)
    many = LogNormalMixture(torch.zeros(2, 1, dtype=torch.float64), loc[:, None], scale[:, None])
    one = LogNormal(loc, scale)
    m = tensor(0.3, 4.0)
    for name in ("mean", "median", "expected_log"):
        torch.testing.assert_close(getattr(many, name), getattr(one, name))
    torch.testing.assert_close(many.log_prob(m), one.log_prob(m))


@pytest.mark.parametrize("ours", [LogNormal(tensor(0.2, -1.0), tensor(0.5, 1.0)), mixture()])
def test_samples_follow_the_figures(ours):
    """40,000 draws; five standard errors fail by chance once in 10^6."""
    draws = ours.sample((40_000,), torch.Generator().manual_seed(0))
    assert draws.shape == (40_000, 2)
    for sampled, expected in ((draws, ours.mean), (draws.log(), ours.expected_log)):
        assert ((sampled.mean(0) - expected).abs() < 5 * sampled.std(0) / 200).all()
    share_below = (draws < ours.median).double().mean(0)
    assert ((share_below - 0.5).abs() < 5 * 0.5 / 200).all()


def test_mixture_median_halves_the_mass_and_carries_its_gradient():
    ours = mixture()
    for row in range(2):
        mass = scipy.integrate.quad(
            lambda u, r=row: math.exp(ours.log_prob(torch.full((2,), math.exp(u), dtype=torch.float64))[r] + u),
            -8,
            math.log(ours.median[row].item()),
            limit=200,
        )[0]
        assert mass == pytest.approx(0.5, abs=1e-8)
    leaves = [x.clone().requires_grad_() for x in (ours.logits, ours.loc, ours.scale)]
    # The middle of the second row lies in a gap of the density, where differences fail: first row only.
    assert torch.autograd.gradcheck(lambda a, b, c: LogNormalMixture(a[:1], b[:1], c[:1]).median, leaves, atol=1e-6)


def test_median_of_far_apart_components_is_finite():
    far = LogNormalMixture(torch.zeros(1, 2), torch.tensor([[-20.0, 20.0]]), torch.full((1, 2), 0.1))
    assert torch.isfinite(far.median).all()


@pytest.mark.parametrize("ours", [LogNormal(tensor(0.2, -1.0), tensor(0.5, 1.0)), mixture()])
def test_first_moment_rule(ours):
    """E[m f(m)] for f = sigmoid against quadrature over log m."""
    points, weights = ours.first_moment_rule(32)
    measured = (weights * torch.sigmoid(points)).sum(-1)
    grid = np.linspace(-9, 9, 20_001)
    m = torch.tensor(np.exp(grid))[:, None].expand(-1, 2)
    integrand = torch.exp(ours.log_prob(m)) * m * m * torch.sigmoid(m)
    exact = scipy.integrate.simpson(integrand.numpy(), x=grid, axis=0)
    torch.testing.assert_close(measured, torch.tensor(exact), rtol=1e-6, atol=0)


def test_rsample_is_reparameterised():
    loc = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def draw(a, b):
        return LogNormal(a, b).rsample((4,), torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, (loc, scale))
    assert not LogNormal(loc, scale).sample((4,)).requires_grad
