"""One table of instances, one contract: what every density of an increment must keep."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from audio_engram.distributions import (
    CoupledConcentration,
    DiagonalGaussian,
    DiagonalGaussianMixture,
    LogNormal,
    LogNormalMixture,
    Polar,
    PolarMixture,
    Rotated,
    VonMisesFisherMixture,
)

DIM, BATCH = 3, 2


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _polar(p):
    return Polar(normalize(p["loc"], dim=-1), p["kappa"].exp(), LogNormal(p["log_m"], p["spread"].exp()))


def _polar_mixture(p):
    magnitude = LogNormalMixture(p["logits"], p["log_m"], p["spread"].exp())
    return Polar(normalize(p["loc"], dim=-1), p["kappa"].exp(), magnitude)


def _coupled(p):
    kappa = CoupledConcentration(p["kappa"], p["scale"].exp())
    return Polar(normalize(p["loc"], dim=-1), kappa, LogNormal(p["log_m"], p["spread"].exp()))


def _mixture_of_directions(p):
    directions = VonMisesFisherMixture(p["logits"], normalize(p["loc"], dim=-1), p["kappa"].exp())
    return PolarMixture(directions, LogNormal(p["log_m"], p["spread"].exp()))


def _rotated(p):
    axes = torch.linalg.qr(_random(DIM, DIM, seed=9))[0]
    return Rotated(DiagonalGaussianMixture(p["logits"], p["loc"], p["scale"]), axes)


# name: how the density is built, and the parameters it is built from
INSTANCES = {
    "gaussian": (
        lambda p: DiagonalGaussian(p["loc"], p["scale"].exp()),
        {"loc": _random(BATCH, DIM), "scale": 0.3 * _random(BATCH, DIM, seed=1)},
    ),
    "gaussian mixture": (
        lambda p: DiagonalGaussianMixture(p["logits"], p["loc"], p["scale"]),
        {
            "logits": _random(BATCH, 4),
            "loc": _random(BATCH, 4, DIM, seed=1),
            "scale": 0.3 * _random(BATCH, 4, DIM, seed=2),
        },
    ),
    "gaussian mixture along other axes": (
        _rotated,
        {
            "logits": _random(BATCH, 4),
            "loc": _random(BATCH, 4, DIM, seed=1),
            "scale": 0.6 * _random(BATCH, 4, DIM, seed=2),
        },
    ),
    "polar": (
        _polar,
        {
            "loc": _random(BATCH, DIM),
            "kappa": torch.tensor([0.0, 1.5], dtype=torch.float64),
            "log_m": 0.3 * _random(BATCH, seed=1),
            "spread": torch.tensor([-0.7, -0.3], dtype=torch.float64),
        },
    ),
    "polar with a mixture of magnitudes": (
        _polar_mixture,
        {
            "loc": _random(BATCH, DIM),
            "kappa": torch.tensor([1.0, 0.5], dtype=torch.float64),
            "logits": _random(BATCH, 2, seed=3),
            "log_m": torch.tensor([[-0.5, 0.5], [0.0, 0.4]], dtype=torch.float64),
            "spread": torch.full((BATCH, 2), -0.7, dtype=torch.float64),
        },
    ),
    "polar with a mixture of directions": (
        _mixture_of_directions,
        {
            "logits": _random(BATCH, 3, seed=3),
            "loc": _random(BATCH, 3, DIM),
            "kappa": _random(BATCH, 3, seed=4),
            "log_m": 0.3 * _random(BATCH, seed=1),
            "spread": torch.tensor([-0.7, -0.3], dtype=torch.float64),
        },
    ),
    "polar with coupled concentration": (
        _coupled,
        {
            "loc": _random(BATCH, DIM),
            "kappa": torch.tensor([1.0, 2.0], dtype=torch.float64),
            "scale": torch.tensor(-0.5, dtype=torch.float64),
            "log_m": 0.3 * _random(BATCH, seed=1),
            "spread": torch.tensor([-0.7, -0.3], dtype=torch.float64),
        },
    ),
}


@pytest.fixture(params=INSTANCES, ids=str)
def instance(request):
    return INSTANCES[request.param]


@pytest.fixture
def density(instance):
    build, parameters = instance
    return build(parameters)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shapes_and_types(density):
    assert density.batch_shape == (BATCH,)
    assert density.event_shape == (DIM,)
    for sample_shape in ((), (5,), (4, 5)):
        draws = density.sample(sample_shape, generator())
        assert draws.shape == (*sample_shape, BATCH, DIM)
        assert density.log_prob(draws).shape == (*sample_shape, BATCH)
        assert density.log_prob(draws).dtype == torch.float64
    assert density.mean.shape == density.typical.shape == density.direction.shape == (BATCH, DIM)
    assert [one.shape for one in density.expected_log_magnitude()] == [(BATCH,), (BATCH,)]


def test_single_precision_gives_double_log_prob(instance):
    build, parameters = instance
    wide, narrow = build(parameters), build({k: v.float() for k, v in parameters.items()})
    draws = narrow.sample((6,), generator())
    assert draws.dtype == torch.float32
    assert narrow.log_prob(draws).dtype == torch.float64
    torch.testing.assert_close(narrow.log_prob(draws), wide.log_prob(draws.double()), rtol=0, atol=1e-5)


def test_the_density_integrates_to_one(density):
    """Importance sampling from a wide log-normal length in a uniform direction, 50,000 points.

    Five standard errors: each case fails by chance once in 10^6; the seed is fixed.
    """
    n, width = 50_000, 1.5
    length = torch.exp(width * _random(n, 1, seed=11))
    points = normalize(_random(n, 1, DIM, seed=12), dim=-1) * length[..., None]
    log_length = length.log()
    area = math.log(2) + DIM / 2 * math.log(math.pi) - math.lgamma(DIM / 2)
    proposal = -0.5 * (log_length / width) ** 2 - math.log(width * math.sqrt(2 * math.pi)) - log_length
    weights = torch.exp(density.log_prob(points.expand(n, BATCH, DIM)) - proposal + area + (DIM - 1) * log_length)
    error = weights.std(0) / math.sqrt(n)
    assert (error < 0.03).all()
    assert ((weights.mean(0) - 1).abs() < 5 * error).all()


def test_sample_mean_and_log_magnitude(density):
    """40,000 draws; five standard errors, once in 10^6 for each coordinate."""
    draws = density.sample((40_000,), generator(5))
    assert ((draws.mean(0) - density.mean).abs() < 5 * draws.std(0) / 200).all()
    logs = torch.linalg.vector_norm(draws, dim=-1).log()
    measured, _ = density.expected_log_magnitude(generator(6), n_samples=40_000)
    assert ((logs.mean(0) - measured).abs() < 5 * math.sqrt(2) * logs.std(0) / 200).all()


def test_samples_follow_the_density(density):
    """E[grad log p] = 0 under the density itself; five standard errors, once in 10^6 for each coordinate."""
    draws = density.sample((10_000,), generator(7)).requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(draws).sum(), draws)
    assert (score.mean(0).abs() < 5 * score.std(0) / math.sqrt(10_000)).all()


def test_the_same_generator_gives_the_same_draws(density):
    assert torch.equal(density.sample((9,), generator()), density.sample((9,), generator()))
    assert not torch.equal(density.sample((9,), generator()), density.sample((9,), generator(1)))
    assert torch.equal(density.expected_log_magnitude()[0], density.expected_log_magnitude()[0])


def test_typical_is_finite_and_direction_is_a_unit_vector(density):
    assert torch.isfinite(density.typical).all()
    torch.testing.assert_close(density.direction.norm(dim=-1), torch.ones(BATCH, dtype=torch.float64))
    cosine = (density.direction * normalize(density.mean, dim=-1)).sum(-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))


def test_gradients_reach_every_parameter_and_the_point(instance):
    build, parameters = instance
    names = list(parameters)
    leaves = [parameters[name].clone().requires_grad_() for name in names]
    point = _random(BATCH, DIM, seed=8).requires_grad_()

    def log_prob(point, *values):
        return build(dict(zip(names, values, strict=True))).log_prob(point)

    assert torch.autograd.gradcheck(log_prob, (point, *leaves), fast_mode=True)
    for gradient in torch.autograd.grad(log_prob(point, *leaves).sum(), (point, *leaves)):
        assert (gradient != 0).all()


def test_means_carry_gradients(instance):
    build, parameters = instance
    names = list(parameters)
    leaves = [parameters[name].clone().requires_grad_() for name in names]
    for figure in ("mean", "typical"):
        assert torch.autograd.gradcheck(
            lambda *values, f=figure: getattr(build(dict(zip(names, values, strict=True))), f),
            leaves,
            atol=1e-4,
            fast_mode=True,
        )


def test_rsample_carries_gradients(instance):
    build, parameters = instance
    density = build({k: v.clone().requires_grad_() for k, v in parameters.items()})
    assert not density.sample((2,), generator()).requires_grad
    draws = density.rsample((2,), generator())
    assert draws.shape == (2, BATCH, DIM)
    assert draws.requires_grad


def test_pathwise_gradient_of_the_mean(instance):
    """Gradients of averages of reparameterised draws against those of the mean, the logits of mixtures apart.

    Thirty lots of 100 draws give the standard error; seven of them fail by chance about once in 10^7 for each
    number (Student's t with 29 degrees of freedom).
    """
    build, parameters = instance
    names = [name for name in parameters if name != "logits"]
    leaves = {k: v.clone().requires_grad_(k in names) for k, v in parameters.items()}
    wanted, weight, rng = [leaves[name] for name in names], _random(BATCH, DIM, seed=13), generator(14)
    exact = _gradients((weight * build(leaves).mean).sum(), wanted)
    lots = [_gradients((weight * build(leaves).rsample((100,), rng).mean(0)).sum(), wanted) for _ in range(30)]
    for name, expected, found in zip(names, exact, zip(*lots, strict=True), strict=True):
        stack = torch.stack(found)
        assert ((stack.mean(0) - expected).abs() < 7 * stack.std(0) / math.sqrt(30) + 1e-9).all(), name


def _gradients(value: torch.Tensor, leaves: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value, leaves, materialize_grads=True)


def test_parameters_survive_saving(instance, tmp_path):
    build, parameters = instance
    save_file(parameters, tmp_path / "density.safetensors")
    restored = build(load_file(tmp_path / "density.safetensors"))
    point = _random(BATCH, DIM, seed=9)
    assert torch.equal(build(parameters).log_prob(point), restored.log_prob(point))
