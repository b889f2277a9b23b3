"""Two densities in one: written out, integrated, drawn from, and the bound on what it costs."""

import math

import pytest
import torch
from scipy import integrate, stats

from audio_engram.distributions import DiagonalGaussian, DiagonalGaussianMixture, Either

B, D = 5, 3


def gaussian(seed, dim=D, batch=B):
    generator = torch.Generator().manual_seed(seed)
    loc, log_scale = (torch.randn(batch, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    return DiagonalGaussian(loc, (0.3 * log_scale).exp())


def numbers(*shape, seed=9):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pdf(law, delta):
    return stats.multivariate_normal.pdf(delta, law.loc.flatten(), law.scale.flatten() ** 2)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_density_is_the_weighted_sum_of_both(share):
    one, other, delta = gaussian(0), gaussian(1), numbers(B, D)
    found = Either(one, other, share).log_prob(delta)
    for b in range(B):
        first, second = (pdf(DiagonalGaussian(x.loc[b], x.scale[b]), delta[b]) for x in (one, other))
        assert float(found[b]) == pytest.approx(math.log(share * first + (1 - share) * second), rel=1e-10)


def test_density_integrates_to_one():
    law = Either(gaussian(0, 1, 1), gaussian(1, 1, 1), 0.7)
    total, _ = integrate.quad(lambda x: float(law.log_prob(torch.tensor([[x]]).double()).exp()), -40, 40, limit=500)
    assert total == pytest.approx(1.0, abs=1e-8)


def test_a_mixture_of_gaussians_in_two_parts_is_the_whole():
    logits, log_scale = torch.tensor([[0.3, -1.0]]).double(), torch.tensor([[[0.2], [-0.4]]]).double().expand(1, 2, D)
    loc, share = numbers(1, 2, D), float(logits.softmax(-1)[0, 0])
    whole = DiagonalGaussianMixture(logits, loc, log_scale)
    parts = Either(*(DiagonalGaussian(loc[:, k], log_scale[:, k].exp()) for k in (0, 1)), share)
    delta = numbers(1, D, seed=3)
    torch.testing.assert_close(parts.log_prob(delta), whole.log_prob(delta))
    torch.testing.assert_close(parts.mean, whole.mean)


def test_it_never_costs_more_than_the_share_says_however_far_the_other_is():
    likely, share = gaussian(0), 0.9
    far = DiagonalGaussian(likely.loc + 1e4, likely.scale)
    delta = likely.sample(torch.Size([100]), torch.Generator().manual_seed(0))
    lost = likely.log_prob(delta) - Either(far, likely, share).log_prob(delta)
    torch.testing.assert_close(lost, torch.full_like(lost, -math.log(1 - share)))
    near = likely.log_prob(delta) - Either(gaussian(1), likely, share).log_prob(delta)
    assert float(near.max()) <= -math.log(1 - share) + 1e-12


def test_draws_come_from_the_one_as_often_as_the_share_says_and_rows_choose_for_themselves():
    near, far = (
        DiagonalGaussian(torch.zeros(B, D), torch.ones(B, D)),
        DiagonalGaussian(torch.full((B, D), 100.0), torch.ones(B, D)),
    )
    drawn = Either(near, far, 0.8).sample(torch.Size([4000]), torch.Generator().manual_seed(0))
    first = drawn < 50
    assert bool((first.all(-1) | ~first.any(-1)).all())  # a draw is of one density in all dimensions
    # 4000 draws a row: 4.5 standard errors of a binomial, which 5 rows miss in 4 of 100,000 seeds.
    torch.testing.assert_close(first[..., 0].double().mean(0), torch.full((B,), 0.8).double(), rtol=0, atol=0.0285)
    assert len(first[..., 0].double().T.corrcoef().round(decimals=1).unique()) == 2  # 1 with itself, 0 with others


def test_draws_follow_the_seed_and_their_mean_is_the_mean():
    law = Either(gaussian(0), gaussian(1), 0.6)
    first, again, other = (law.sample(torch.Size([50_000]), torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    error = first.std(0) / math.sqrt(50_000)
    assert float(((first.mean(0) - law.mean) / error).abs().max()) < 5  # 15 means: fails at 1 in 100,000 seeds


def test_gradient_reaches_both():
    locs = [torch.zeros(B, D, requires_grad=True), torch.ones(B, D, requires_grad=True)]
    law = Either(*(DiagonalGaussian(loc, torch.ones(B, D)) for loc in locs), 0.5)
    law.rsample(torch.Size([20]), torch.Generator().manual_seed(0)).sum().backward()
    assert all(bool(loc.grad.ne(0).all()) for loc in locs)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match="share"):
        Either(gaussian(0), gaussian(1), share)


def test_densities_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(5, 3\) and \(4, 3\)"):
        Either(gaussian(0), gaussian(1, batch=4), 0.5)
