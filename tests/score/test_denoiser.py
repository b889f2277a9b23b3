"""The denoiser: preconditioned for any level, and after training the posterior mean of worlds where it is known."""

import pytest
import torch
from pydantic import ValidationError
from sklearn.covariance import ledoit_wolf
from worlds_of_score import NOISE, SMALL, Gaussian, Mixture, correlated, curved, driven, noisy_frames, toy, windows_on

from audio_engram.score.denoiser import Denoiser, levels, make_denoiser
from audio_engram.score.fit import fit_denoiser
from audio_engram.sections import ScoreConfig

LEVELS = (0.2, 0.5, 1.0)
MIXTURE = Mixture(torch.tensor([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]), 0.2)
WORLDS = {"linear": lambda z: 0.9 * z, "curved": curved}


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def rms(x):
    return float(x.square().mean().sqrt())


def trained(train, validation, conditional=False):
    windows = windows_on(train, validation)
    model = make_denoiser(SMALL, windows[0], 0, conditional)
    fit_denoiser(model, windows, SMALL, 1)
    return model.requires_grad_(False)


def from_gaussian(n, seed):
    normal = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return normal @ torch.linalg.cholesky(correlated(4).covariance).T


def from_mixture(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return MIXTURE.centres[torch.randint(2, (n,), generator=generator)] + 0.2 * torch.randn(n, 3, generator=generator)


@pytest.fixture(scope="module")
def of_gaussian():
    return trained(from_gaussian(6000, 0), from_gaussian(1000, 1))


@pytest.fixture(scope="module")
def of_mixture():
    return trained(from_mixture(6000, 0), from_mixture(1000, 1))


@pytest.fixture(scope="module")
def with_context():
    return {name: trained(driven(step, 6000, 0), driven(step, 1000, 1), True) for name, step in WORLDS.items()}


def shaken(model, seed=2):
    """Weights far from their start, so that nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


# Not statistical, as seeds are fixed; tolerances are some two times what is measured.
@pytest.mark.parametrize("sigma", LEVELS)
def test_trained_on_a_gaussian_it_is_the_posterior_mean(of_gaussian, sigma):
    noisy, level = noisy_frames(from_gaussian(4000, 5), sigma), torch.tensor([sigma])
    truth = correlated(4)(noisy, level, None)
    assert rms(of_gaussian(noisy, level) - truth) < 0.05


@pytest.mark.parametrize("sigma", LEVELS)
@pytest.mark.parametrize("name", WORLDS)
def test_trained_with_context_it_is_the_posterior_mean_given_the_frame_before(with_context, name, sigma):
    step, model = WORLDS[name], with_context[name]
    z = driven(step, 4000, 5)
    context, clean = torch.stack([z[:-2], z[1:-1]], dim=1), z[2:]
    noisy, level = noisy_frames(clean, sigma), torch.tensor([sigma])
    prior, likelihood = 1 / NOISE**2, 1 / sigma**2

    def expected(before):
        return (step(before) * prior + noisy * likelihood) / (prior + likelihood)

    error = rms(model(noisy, level, context) - expected(context[:, -1]))
    assert error < 0.2 / (prior + likelihood) ** 0.5 + 0.01  # of the posterior deviation
    # A context that ends one frame too early would be seen.
    assert error < 0.3 * rms(expected(context[:, 0]) - expected(context[:, -1]))


@pytest.mark.parametrize("sigma", LEVELS)
def test_frames_between_two_clusters_move_to_them(of_mixture, sigma):
    noisy, level = noisy_frames(from_mixture(4000, 5), sigma), torch.tensor([sigma])
    denoised, truth = of_mixture(noisy, level), MIXTURE(noisy, level, None)
    assert rms(denoised - truth) < 0.08

    def distance(z):
        return float(torch.cdist(z, MIXTURE.centres).amin(1).mean())

    assert distance(denoised) < 0.65 * distance(noisy)
    assert distance(denoised) == pytest.approx(distance(truth), abs=0.06)


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_before_training_it_is_the_posterior_mean_of_a_gaussian_with_the_frames_moments(dim, scale):
    z = 1.0 + scale * normal(500, dim).double() @ normal(dim, dim).double()
    windows = windows_on(z.float(), z.float())
    model = make_denoiser(SMALL, windows[0], 0, conditional=False).double()
    frames = windows[0].frames.z[windows[0].target].double()
    exact = Gaussian(frames.mean(0), torch.from_numpy(ledoit_wolf(frames.numpy())[0]))
    for sigma in (0.01, 0.3, 1.0, 20.0):
        level = torch.tensor([sigma], dtype=torch.float64)
        torch.testing.assert_close(model(z, level), exact(z, level, None), rtol=1e-4, atol=1e-4 * scale)


def test_before_training_with_context_it_is_the_posterior_mean_of_an_autoregression():
    turn = torch.tensor([[0.6, -0.7], [0.7, 0.6]])
    z = [normal(2)]
    for e in 0.3 * normal(20_000, 2):
        z.append(2.0 + turn @ (z[-1] - 2.0) + e)
    z = torch.stack(z)
    model = make_denoiser(SMALL, windows_on(z, z[:50])[0], 0, conditional=True).requires_grad_(False)
    context, clean = torch.stack([z[:-2], z[1:-1]], dim=1), z[2:]
    expected = 2.0 + (context[:, -1] - 2.0) @ turn.T
    noisy, share = noisy_frames(clean, 0.4), 0.3**2 / (0.3**2 + 0.4**2)
    # Fitted on 20,000 frames: coefficients are right within about 0.01.
    truth = expected + share * (noisy - expected)
    assert rms(model(noisy, torch.tensor([0.4]), context) - truth) < 0.02


def test_few_frames_in_many_dimensions_are_no_certainty():
    """30 frames span 30 of 64 dimensions; the others must not count as known."""
    model = make_denoiser(SMALL, windows_on(normal(32, 64), normal(10, 64))[0], 0, conditional=True)
    assert model.linear.scale.min() > 0.1
    assert model.linear.weight.norm(dim=1).max() < 0.9


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_inputs_and_targets_of_the_network_have_variance_one_at_every_level(scale):
    model = Denoiser(SMALL, 3)
    model.linear.scale.copy_(torch.tensor([scale, 2 * scale, 3 * scale]))
    sigma = torch.logspace(-3, 3, 50, dtype=torch.float64).unsqueeze(1)
    c_skip, c_out, c_in = model.preconditioning(sigma)
    variance = model.linear.scale.double().square()
    one = torch.ones_like(c_in)
    torch.testing.assert_close(c_in.square() * (variance + sigma**2), one, rtol=1e-5, atol=0)
    # The target is (clean - c_skip (clean + noise)) / c_out.
    target = ((1 - c_skip).square() * variance + (c_skip * sigma).square()) / c_out.square()
    torch.testing.assert_close(target, one, rtol=1e-5, atol=0)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_what_the_network_says_is_added_in_units_of_c_out_along_the_axes(sigma):
    model = Denoiser(SMALL, 2)
    model.linear.scale.copy_(torch.tensor([2.0, 1.0]))
    model.linear.basis.copy_(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))  # the columns are the axes
    with torch.no_grad():
        model.exit.weight.zero_()
        model.exit.bias.copy_(torch.tensor([3.0, 0.0]))
    z = normal(5, 2)
    expected = torch.stack([1 / (1 + sigma**2) * z[:, 0], 4 / (4 + sigma**2) * z[:, 1]], dim=1)
    expected[:, 1] -= 3.0 * sigma * 2.0 / (4.0 + sigma**2) ** 0.5
    torch.testing.assert_close(model(z, torch.tensor([sigma])), expected)


def test_every_row_may_have_a_level_of_its_own():
    model = shaken(Denoiser(SMALL, 4))
    z, levels = normal(3, 4), torch.tensor([0.2, 0.5, 1.0])
    together = model(z, levels)
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], model(z[row : row + 1], levels[row : row + 1]))
    assert not torch.allclose(together, model(z, levels.flip(0)))


def test_levels_are_log_uniform_between_the_bounds():
    config = ScoreConfig(sigma_min=0.01, sigma_max=1.0)
    torch.testing.assert_close(levels(config, torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.01, 0.1, 1.0]))


def test_only_the_last_frames_of_a_context_are_read():
    model = shaken(Denoiser(SMALL, 4, context=2))
    z, sigma, context = normal(3, 4), torch.tensor([0.5]), normal(3, 5, 4)
    one = model(z, sigma, context)
    assert torch.equal(one, model(z, sigma, context[:, 3:]))
    for frame in range(5):
        changed = context.clone()
        changed[:, frame] += 1.0
        assert torch.equal(one, model(z, sigma, changed)) == (frame < 3)


def test_an_unconditional_denoiser_ignores_the_context_and_a_conditional_one_asks_for_it():
    z, sigma, context = normal(3, 4), torch.tensor([0.5]), normal(3, 5, 4)
    alone = shaken(Denoiser(SMALL, 4))
    assert torch.equal(alone(z, sigma), alone(z, sigma, context))
    for few in (None, context[:, :1]):
        with pytest.raises(ValueError, match="reads the 2 frames before"):
            Denoiser(SMALL, 4, context=2)(z, sigma, few)


def test_the_seed_decides_the_weights():
    first, _ = toy()
    second, windows = toy()
    third = make_denoiser(first.config, windows[0], 1, True)
    pairs = list(zip(first.parameters(), second.parameters(), third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize(
    "values", [{"sigma_min": 0.0}, {"sigma_min": -0.1}, {"sigma_max": 0.0}, {"sigma_min": 2.0}, {"widht": 3}]
)
def test_levels_that_make_no_sense_are_no_configuration(values):
    with pytest.raises(ValidationError):
        ScoreConfig(**values)
