"""The component of a magnitude that a polar draw chooses: its log-weight, and gradients against enumeration."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from audio_engram.distributions import (
    CoupledConcentration,
    LogNormal,
    LogNormalMixture,
    Polar,
    PolarMixture,
    VonMisesFisherMixture,
)
from audio_engram.estimators import GumbelSoftmax, Marginal, Reinforce
from audio_engram.forcing import free_running
from audio_engram.rollout import RolloutOptions, rollout

F64 = torch.float64
START = torch.tensor([[[0.3, -0.2]]], dtype=F64)
FUTURE = torch.tensor([[[0.8, 0.4], [0.1, 0.9]]], dtype=F64)


class Toy(nn.Module):
    """Two log-normals in the plane, weights, means and scales linear in the last state, and kappa(m)."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([[0.2, -0.4], [0.8, -0.6]], dtype=F64))
        self.means = nn.Parameter(torch.tensor([[0.5, -0.8], [-0.3, 0.2]], dtype=F64))
        self.scales = nn.Parameter(torch.tensor([[-1.2, -0.9], [0.1, 0.2]], dtype=F64))
        self.concentration = nn.Parameter(torch.tensor([0.6, 0.3], dtype=F64))

    def forward(self, context):
        last = context[:, -1]
        logits, loc, log_scale = (p[0] + p[1] * last[:, :1] for p in (self.weights, self.means, self.scales))
        kappa = CoupledConcentration(self.concentration[0] + 0 * last[:, 0], self.concentration[1].exp())
        angle = 0.4 + 0.7 * last[:, 1]
        towards = torch.stack([angle.cos(), angle.sin()], dim=1)
        return Polar(towards, kappa, LogNormalMixture(logits, loc, log_scale.exp()))


@cache
def exact():
    """The gradient of the expected loss: components enumerated, log m by Gauss-Hermite, angles by the trapezium."""
    toy = Toy()
    nodes, shares = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(64))
    angle = torch.arange(64, dtype=F64) * 2 * math.pi / 64
    directions = torch.stack([angle.cos(), angle.sin()], dim=1)
    first = toy(START)
    loss = -first.log_prob(FUTURE[:, 0] - START[:, 0]).sum()
    for k, weight in enumerate(first.magnitude.weights[0]):
        length = torch.exp(first.magnitude.loc[0, k] + first.magnitude.scale[0, k] * nodes)
        around = first._directions(length[:, None]).log_prob(directions.expand(64, 64, 2)).exp() * 2 * math.pi / 64
        states = START[0] + length[:, None, None] * directions
        target = (FUTURE[:, 1] - FUTURE[:, 0]).expand(64 * 64, 2)
        nll = -toy(states.reshape(-1, 1, 2)).log_prob(target).view(64, 64)
        loss = loss + weight * (shares[:, None] * around * nll).sum() / math.sqrt(2 * math.pi)
    names, parameters = zip(*toy.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss / 2, parameters), strict=True))


def off(make, *arguments, n=200, batch=64):
    """How many standard errors the mean gradient of each parameter is from the exact one, at worst."""
    toy, generator, rows = Toy(), torch.Generator().manual_seed(0), []
    truth, valid = FUTURE.expand(batch, 2, 2), torch.ones(batch, 2, dtype=torch.bool)
    for _ in range(n):
        estimator = make(generator, *arguments)
        rolled = rollout(toy, START.expand(batch, 1, 2), free_running(2), truth, RolloutOptions(estimator))
        loss = -rolled.log_probs.mean() + estimator.correction(-rolled.log_probs, valid)
        rows.append(torch.autograd.grad(loss, list(toy.parameters())))
    found = dict(zip(exact(), (torch.stack(one) for one in zip(*rows, strict=True)), strict=True))
    return {
        name: float(((one.mean(0) - exact()[name]) / (one.std(0) / n**0.5)).abs().max()) for name, one in found.items()
    }


def test_reinforce_is_unbiased_where_a_magnitude_has_components():
    """Fourteen numbers within five standard errors: fails by chance once in 10^5; the seed is fixed."""
    assert max(off(Reinforce).values()) < 5


def test_the_marginal_estimator_misses_the_weights_of_magnitudes():
    """The rest within five standard errors: fails by chance once in 10^5; the seed is fixed."""
    found = off(Marginal)
    assert found.pop("weights") > 20
    assert max(found.values()) < 5


def test_a_relaxed_magnitude_is_the_less_biased_the_colder():
    hot, cold = off(GumbelSoftmax, 1.0), off(GumbelSoftmax, 0.1)
    for name in ("weights", "means"):
        assert hot[name] > 10
        assert cold[name] < hot[name] / 3


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def narrow():
    """Components so narrow that a draw tells which it is of."""
    logits, log_m = torch.randn(40, 3, dtype=F64, generator=seeded(1)), torch.tensor([-1.0, 0.0, 1.0], dtype=F64)
    return LogNormalMixture(logits, log_m.expand(40, 3), torch.full((40, 3), 1e-3, dtype=F64))


def polar(magnitude):
    loc = normalize(torch.randn(40, 5, dtype=F64, generator=seeded(2)), dim=1)
    return Polar(loc, torch.full((40,), 3.0, dtype=F64), magnitude)


def polar_mixture():
    logits, loc = (torch.randn(40, *shape, dtype=F64, generator=seeded(3)) for shape in ((2,), (2, 5)))
    kappa = torch.full((40, 2), 1e6, dtype=F64)
    return PolarMixture(VonMisesFisherMixture(logits, normalize(loc, dim=2), kappa), narrow())


def of_length(draw):
    return (draw.norm(dim=1, keepdim=True).log() - narrow().loc).abs().argmin(1, keepdim=True)


def of_direction(draw):
    return (normalize(draw, dim=1).unsqueeze(1) * polar_mixture().directions.loc).sum(2).argmax(1, keepdim=True)


def test_the_choice_is_that_of_the_draw():
    draw, log_weight = polar(narrow()).choose(seeded(5))
    expected = narrow().logits.log_softmax(1).gather(1, of_length(draw))[:, 0]
    torch.testing.assert_close(log_weight, expected)
    draw, log_weight = polar_mixture().choose(seeded(5))
    expected = narrow().logits.log_softmax(1).gather(1, of_length(draw))[:, 0]
    expected += polar_mixture().directions.logits.log_softmax(1).gather(1, of_direction(draw))[:, 0]
    torch.testing.assert_close(log_weight, expected)


def test_a_law_without_a_choice_has_no_log_weight():
    density = polar(LogNormal(torch.zeros(40, dtype=F64), torch.ones(40, dtype=F64)))
    draw, log_weight = density.choose(seeded(5))
    assert torch.equal(draw, density.rsample(generator=seeded(5)))
    assert not log_weight.any()
    assert torch.equal(draw, density.relaxed(0.5, seeded(5)))


@pytest.mark.parametrize("density", [polar(narrow()), polar_mixture()], ids=["polar", "mixture of directions"])
def test_a_cold_relaxed_draw_is_a_draw(density):
    """Shares of 40 x 1,000 choices within 0.08, five standard errors: fails by chance once in 10^4; seeds are fixed."""
    draws = torch.stack([density.relaxed(1e-3, seeded(seed)) for seed in range(1000)])
    apart = (draws.norm(dim=2, keepdim=True).log() - narrow().loc).abs()
    assert (apart.min(2).values < 0.01).double().mean() > 0.98
    shares = torch.stack([(apart.argmin(2) == k).double().mean(0) for k in range(3)], dim=1)
    torch.testing.assert_close(shares, narrow().weights, rtol=0, atol=0.08)
    if isinstance(density, PolarMixture):
        cosine = (normalize(draws, dim=2).unsqueeze(2) * density.directions.loc).sum(3)
        assert (cosine.max(2).values > 0.99).double().mean() > 0.98
        shares = torch.stack([(cosine.argmax(2) == k).double().mean(0) for k in range(2)], dim=1)
        torch.testing.assert_close(shares, density.directions.logits.softmax(1), rtol=0, atol=0.08)
