import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from audio_engram.distributions import DiagonalGaussian, DiagonalGaussianMixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(batch: tuple[int, ...], k: int, dim: int, dtype: torch.dtype = torch.float64):
    rng = generator()
    return DiagonalGaussianMixture(
        torch.randn(*batch, k, dtype=dtype, generator=rng),
        torch.randn(*batch, k, dim, dtype=dtype, generator=rng),
        0.5 * torch.randn(*batch, k, dim, dtype=dtype, generator=rng),
    )


def torch_twin(ours: DiagonalGaussianMixture) -> MixtureSameFamily:
    parts = Independent(Normal(ours.loc, ours.log_scale.exp()), 1)
    return MixtureSameFamily(Categorical(logits=ours.logits), parts)


# (700, 8, 64) crosses the pieces in which the kernel walks over a batch.
@pytest.mark.parametrize(("batch", "k", "dim"), [((4,), 3, 5), ((), 2, 1), ((2, 3), 4, 6), ((700,), 8, 64)])
def test_log_prob_and_gradients_against_torch(batch, k, dim):
    ours = mixture(batch, k, dim)
    leaves = [ours.logits, ours.loc, ours.log_scale]
    delta = torch.randn(*batch, dim, dtype=torch.float64, generator=generator(1))
    for leaf in (*leaves, delta):
        leaf.requires_grad_()
    value, expected = ours.log_prob(delta), torch_twin(ours).log_prob(delta)
    torch.testing.assert_close(value, expected)
    weight = torch.randn(batch, dtype=torch.float64, generator=generator(2))
    got = torch.autograd.grad((weight * value).sum(), [*leaves, delta])
    for a, b in zip(got, torch.autograd.grad((weight * expected).sum(), [*leaves, delta]), strict=True):
        torch.testing.assert_close(a, b)


def test_a_sample_dimension_broadcasts():
    ours = mixture((3,), 2, 4)
    delta = torch.randn(5, 3, 4, dtype=torch.float64, generator=generator())
    torch.testing.assert_close(ours.log_prob(delta), torch_twin(ours).log_prob(delta))
    ours.loc.requires_grad_()
    (ours_grad,) = torch.autograd.grad(ours.log_prob(delta).sum(), ours.loc)
    (expected,) = torch.autograd.grad(torch_twin(ours).log_prob(delta).sum(), ours.loc)
    torch.testing.assert_close(ours_grad, expected)


def test_an_empty_batch():
    assert mixture((0,), 2, 4).log_prob(torch.zeros(0, 4, dtype=torch.float64)).shape == (0,)


def test_single_precision_keeps_double_sums():
    """2,048 terms of about 1 in float32: summed in float64 the density keeps 1e-4 nats of 3,000."""
    narrow = mixture((16,), 8, 2048, torch.float32)
    wide = DiagonalGaussianMixture(narrow.logits.double(), narrow.loc.double(), narrow.log_scale.double())
    delta = narrow.sample(generator=generator(3))
    assert narrow.log_prob(delta).dtype == torch.float64
    torch.testing.assert_close(narrow.log_prob(delta), wide.log_prob(delta.double()), rtol=0, atol=2e-4)


def test_half_precision_parameters_cost_only_their_own_rounding():
    narrow = mixture((8,), 4, 64, torch.float32)
    half = [x.bfloat16() for x in (narrow.logits, narrow.loc, narrow.log_scale)]
    delta = narrow.sample(generator=generator(3))
    value = DiagonalGaussianMixture(*half).log_prob(delta)
    same = DiagonalGaussianMixture(*(x.double() for x in half)).log_prob(delta.double())
    torch.testing.assert_close(value, same, rtol=0, atol=1e-3)


def test_typical_is_the_mean_of_the_most_probable_component():
    ours = mixture((6,), 4, 3)
    best = ours.logits.argmax(-1)
    assert torch.equal(ours.typical, ours.loc[torch.arange(6), best])


def test_component_is_that_gaussian():
    ours = mixture((3,), 4, 2)
    index = torch.tensor([[0, 1, 2], [3, 3, 0]])
    part = ours.component(index)
    assert part.batch_shape == (2, 3)
    assert torch.equal(part.loc[1, 2], ours.loc[2, 0])
    assert torch.equal(part.scale[0, 1], ours.log_scale[1, 1].exp())


def test_components_are_drawn_by_their_weights():
    """Far apart components, 20,000 draws; five standard errors, once in 10^6."""
    logits = torch.tensor([[0.0, 1.0, -1.0]])
    loc = torch.tensor([-100.0, 0.0, 100.0])[None, :, None]
    ours = DiagonalGaussianMixture(logits, loc, torch.zeros(1, 3, 1))
    draws = ours.sample((20_000,), generator())[:, 0, 0]
    shares = torch.stack([(draws < -50), (draws.abs() < 50), (draws > 50)]).float().mean(1)
    assert ((shares - ours.weights[0]).abs() < 5 * 0.5 / 20_000**0.5).all()


def test_rsample_has_the_gradient_given_the_component():
    ours = mixture((2,), 3, 2)
    leaves = (ours.loc.requires_grad_(), ours.log_scale.requires_grad_())

    def draw(loc, log_scale):
        return DiagonalGaussianMixture(ours.logits, loc, log_scale).rsample((5,), generator())

    assert torch.autograd.gradcheck(draw, leaves)


def test_gaussian_is_torchs():
    loc, scale = torch.randn(4, 7, generator=generator()), torch.rand(4, 7, generator=generator()) + 0.1
    delta = torch.randn(4, 7, generator=generator(1))
    expected = Normal(loc.double(), scale.double()).log_prob(delta.double()).sum(-1)
    torch.testing.assert_close(DiagonalGaussian(loc, scale).log_prob(delta), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees():
    here = mixture((64,), 4, 32)
    there = DiagonalGaussianMixture(here.logits.cuda(), here.loc.cuda(), here.log_scale.cuda())
    delta = here.sample(generator=generator())
    torch.testing.assert_close(there.log_prob(delta.cuda()).cpu(), here.log_prob(delta))
