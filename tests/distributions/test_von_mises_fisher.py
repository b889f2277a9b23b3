import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.nn.functional import normalize

from audio_engram.distributions import VonMisesFisher, VonMisesFisherMixture, mean_resultant_length
from audio_engram.distributions.bessel import shifted_log_normalizer
from audio_engram.errors import NumericalError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> torch.Tensor:
    return normalize(torch.randn(*shape, dtype=dtype, generator=generator(seed)), dim=-1)


def cosine_cdf(dim: int, kappa: float, points: int = 20_001):
    """The distribution function of the cosine by the trapezoid rule over the angle."""
    spread = min(math.pi, 12 * math.sqrt(dim / max(kappa, 1e-3)))
    angle = torch.linspace(0, spread, points, dtype=torch.float64)
    log_density = kappa * (torch.cos(angle) - 1) + (dim - 2) * torch.log(torch.sin(angle).clamp_min(1e-300))
    density = torch.exp(log_density - log_density.max()).numpy()
    mass = scipy.integrate.cumulative_trapezoid(density, angle.numpy(), initial=0)
    return lambda cosine: (
        1
        - torch.tensor(mass / mass[-1])[
            torch.searchsorted(angle, torch.acos(torch.as_tensor(cosine)).clamp(max=spread)).clamp(max=points - 1)
        ].numpy()
    )


# One sample in 10,000 fails each of these by chance; the seeds are fixed, so that a pass stays a pass.
@pytest.mark.parametrize("dim", [2, 3, 10, 512])
@pytest.mark.parametrize("kappa", [0.0, 1.0, 50.0, 850.0])
def test_cosines_follow_their_marginal(dim, kappa):
    loc = unit(dim)
    draws = VonMisesFisher(loc, torch.tensor(kappa, dtype=torch.float64)).sample((5_000,), generator())
    cosines = (draws @ loc).clamp(-1, 1).numpy()
    assert scipy.stats.kstest(cosines, cosine_cdf(dim, kappa)).pvalue > 1e-4


@pytest.mark.parametrize("dim", [2, 3, 512])
def test_the_rest_of_the_direction_is_uniform(dim):
    """Cosines to a direction orthogonal to the mean are symmetric; p > 1e-4 fails once in 10,000."""
    loc, other = unit(dim), unit(dim, seed=5)
    side = normalize(other - (other @ loc) * loc, dim=-1)
    draws = VonMisesFisher(loc, torch.tensor(20.0, dtype=torch.float64)).sample((5_000,), generator())
    along = (draws @ side).numpy()
    assert scipy.stats.ks_2samp(along, -along[::-1]).pvalue > 1e-4
    spread = (1 - (draws @ loc).square()).mean().item() / (dim - 1)
    # The mean square has a relative standard error under 2 sqrt(2/5000) = 0.04; six of them.
    assert (along**2).mean() == pytest.approx(spread, rel=0.24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 3, 17, 512, 2048])
@pytest.mark.parametrize("kappa", [0.0, 1e-6, 1.0, 850.0, 1e8])
def test_samples_are_unit_vectors(dtype, dim, kappa):
    loc = unit(3, dim, dtype=dtype)
    draws = VonMisesFisher(loc, torch.full((3,), kappa, dtype=dtype)).sample((50,), generator())
    assert draws.shape == (50, 3, dim)
    assert draws.dtype == dtype
    lengths = torch.linalg.vector_norm(draws.double(), dim=-1)
    assert (lengths - 1).abs().max() < 1e-6


@pytest.mark.parametrize("axis", [1.0, -1.0])
def test_a_mean_along_the_first_axis(axis):
    loc = torch.zeros(6, dtype=torch.float64)
    loc[0] = axis
    draws = VonMisesFisher(loc, torch.tensor(1e4, dtype=torch.float64)).sample((100,), generator())
    assert (draws @ loc).min() > 0.99


def test_sample_mean_is_the_mean_for_many_means_and_blocks():
    """2,500 means and 3 draws cross the 1,024-row blocks both ways."""
    loc = unit(2_500, 8)
    kappa = torch.linspace(0, 40, 2_500, dtype=torch.float64)
    cosines = (VonMisesFisher(loc, kappa).sample((40,), generator()) * loc).sum(-1)
    expected = mean_resultant_length(kappa, 8)
    # Each mean of 40 cosines has a standard deviation under 1/sqrt(40 * 8); 2,500 of them average to 1.1e-3.
    assert (cosines.mean() - expected.mean()).abs() < 6e-3
    block = (cosines.mean(0) - expected).view(25, 100).mean(1)
    assert block.abs().max() < 6 / math.sqrt(40 * 8 * 100)


def test_the_same_generator_gives_the_same_sample():
    directions = VonMisesFisher(unit(5, 16), torch.full((5,), 30.0, dtype=torch.float64))
    first, second = (directions.sample((7,), generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, directions.sample((7,), generator(4)))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("how", ["sample", "rsample"])
def test_a_concentration_that_is_not_finite_has_no_draw_and_leaves_the_others(wrong, how):
    kappa = torch.full((5000,), 3.0, dtype=torch.float64)
    kappa[::2] = wrong
    loc = unit(1, 4, dtype=torch.float64).expand(5000, -1)
    draws = getattr(VonMisesFisher(loc, kappa), how)(generator=generator())
    assert bool(draws[::2].isnan().all())
    assert draws[1::2].norm(dim=-1) == pytest.approx(1)
    # 2,500 draws of known mean: a deviation of five standard errors, at most 1 / sqrt(2500), is beyond chance.
    expected = VonMisesFisher(loc[1], kappa[1]).mean
    torch.testing.assert_close(draws[1::2].mean(0), expected, atol=0.1, rtol=0)


def test_a_concentration_without_a_square_ends_the_draw():
    with pytest.raises(NumericalError, match="concentration 1e\\+200"):
        VonMisesFisher(unit(4, dtype=torch.float64), torch.tensor(1e200, dtype=torch.float64)).sample((3,), generator())


def test_normal_numbers_that_are_all_zero_still_give_a_unit_vector(monkeypatch):
    """In two dimensions of float32 one draw in about 10^7 has a tangent of length exactly 0."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, generator=None: self.zero_())
    draws = VonMisesFisher(unit(2, dtype=torch.float32), torch.tensor(1.0)).sample((10,), generator())
    assert (torch.linalg.vector_norm(draws, dim=-1) - 1).abs().max() < 1e-6


def test_two_dimensions_are_von_mises():
    angle = torch.linspace(-3, 3, 41, dtype=torch.float64)
    points = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    loc = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for kappa in (0.0, 0.5, 20.0, 1e4):
        ours = VonMisesFisher(loc, torch.tensor(kappa, dtype=torch.float64)).log_prob(points)
        theirs = scipy.stats.vonmises(kappa).logpdf(angle.numpy()) if kappa else -math.log(2 * math.pi)
        torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=torch.float64).expand(41), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dim", [3, 16, 100])
def test_log_prob_and_entropy_against_scipy(dim):
    loc, kappa = unit(dim), 12.5
    theirs = scipy.stats.vonmises_fisher(loc.numpy(), kappa)
    ours = VonMisesFisher(loc, torch.tensor(kappa, dtype=torch.float64))
    points = unit(20, dim, seed=2)
    torch.testing.assert_close(ours.log_prob(points), torch.tensor(theirs.logpdf(points.numpy())))
    assert ours.entropy().item() == pytest.approx(theirs.entropy(), rel=1e-10)


def test_log_prob_at_large_concentration_in_single_precision():
    """Directions near the mean, kappa 1.6e5, D = 512: float32 costs under 2e-4 nats."""
    kappa = torch.tensor(1.6e5)
    loc = unit(512, dtype=torch.float32)
    draws = VonMisesFisher(loc, kappa).sample((200,), generator())
    narrow = VonMisesFisher(loc, kappa).log_prob(draws)
    exact_loc, exact_draws = normalize(loc.double(), dim=-1), normalize(draws.double(), dim=-1)
    angle = 2 * torch.asin(0.5 * torch.linalg.vector_norm(exact_draws - exact_loc, dim=-1))
    exact = shifted_log_normalizer(kappa.double(), 512) - 2 * kappa.double() * torch.sin(0.5 * angle) ** 2
    assert narrow.dtype == torch.float64
    assert (narrow - exact).abs().max() < 2e-4


def test_entropy_is_the_expected_surprise_and_completes_the_divergence():
    kappa = torch.tensor([0.0, 5.0, 300.0], dtype=torch.float64)
    directions = VonMisesFisher(unit(3, 24), kappa)
    draws = directions.sample((4_000,), generator())
    surprise = -directions.log_prob(draws)
    error = surprise.std(0) / math.sqrt(4_000)
    # Six standard errors: one in 5e8.
    assert ((surprise.mean(0) - directions.entropy()).abs() <= 6 * error + 1e-9).all()
    uniform = directions.entropy()[0]
    torch.testing.assert_close(directions.kl_to_uniform(), uniform - directions.entropy())
    assert directions.kl_to_uniform()[0].abs() < 1e-12


def test_gradients_of_log_prob_and_entropy():
    loc = unit(3, 6).requires_grad_()
    kappa = torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64, requires_grad=True)
    points = unit(3, 6, seed=9)
    assert torch.autograd.gradcheck(lambda m, k: VonMisesFisher(m, k).log_prob(points), (loc, kappa))
    assert torch.autograd.gradcheck(lambda k: VonMisesFisher(loc.detach(), k).entropy(), kappa)
    assert torch.autograd.gradcheck(lambda k: VonMisesFisher(loc.detach(), k).mean, kappa)


def test_mixture_is_the_weighted_sum_and_draws_by_its_weights():
    """Shares of 20,000 draws; five standard errors, once in 10^6."""
    loc = torch.eye(3, dtype=torch.float64)[None]
    logits, kappa = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64), torch.full((1, 3), 400.0).double()
    ours, weights = VonMisesFisherMixture(logits, loc, kappa), logits.softmax(-1)
    points = unit(9, 3)
    parts = torch.stack([VonMisesFisher(loc[0, k], kappa[0, k]).log_prob(points) for k in range(3)], -1)
    torch.testing.assert_close(ours.log_prob(points[:, None])[:, 0], (weights * parts.exp()).sum(-1).log())
    nearest = (ours.sample((20_000,), generator()) @ loc[0]).argmax(-1)
    shares = torch.nn.functional.one_hot(nearest[:, 0], 3).double().mean(0)
    assert ((shares - weights[0]).abs() < 5 * 0.5 / math.sqrt(20_000)).all()
    assert torch.equal(ours.typical, loc[:, 1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_samples_have_the_right_mean_cosine():
    loc = unit(512, dtype=torch.float32).cuda()
    kappa = torch.tensor(850.0, device="cuda")
    draws = VonMisesFisher(loc, kappa).sample((20_000,), torch.Generator("cuda").manual_seed(0))
    # The cosine has standard deviation 0.022; six standard errors.
    assert (draws @ loc).mean().item() == pytest.approx(0.743491, abs=1e-3)
    assert (torch.linalg.vector_norm(draws, dim=-1) - 1).abs().max() < 1e-6
