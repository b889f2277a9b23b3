"""Correctors against densities whose score, posterior mean and stationary variance are known."""

from math import sqrt

import pytest
import torch
from worlds_of_score import SMALL, Gaussian, Mixture, isotropic, noisy_frames

from audio_engram.distributions import DiagonalGaussian
from audio_engram.errors import UsageError
from audio_engram.forcing import free_running, injection, teacher_forcing
from audio_engram.rollout import Corrector, RolloutOptions, _check, rollout
from audio_engram.score.correction import Langevin, Tweedie, broken_step, score
from audio_engram.score.denoiser import Denoiser
from audio_engram.survival import finite_frames
from toys import small_model

B, W, S, D = 3, 3, 6, 5
CENTRES = torch.tensor([[2.0, 0.0, 1.0], [-2.0, 0.0, -1.0]], dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def no_context(z):
    return z.new_zeros(len(z), 1, z.shape[1])


def oblique():
    loc = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    root = torch.randn(3, 3, generator=generator(4), dtype=torch.float64)
    return Gaussian(loc, root @ root.T)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("world", [oblique(), Mixture(CENTRES, 0.5)], ids=["gaussian", "mixture"])
def test_the_score_is_the_gradient_of_the_noised_log_density(world, sigma):
    z = torch.randn(20, 3, generator=generator(), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(world.noised(sigma).log_prob(z).sum(), z)
    torch.testing.assert_close(score(world, z.detach(), sigma), gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_tweedie_is_the_posterior_mean_of_a_gaussian(sigma):
    world, z = oblique(), torch.randn(20, 3, generator=generator(), dtype=torch.float64)
    prior = torch.linalg.inv(world.covariance)
    precision = prior + torch.eye(3, dtype=torch.float64) / sigma**2
    expected = torch.linalg.solve(precision, (prior @ world.loc).unsqueeze(1) + z.T / sigma**2).T
    torch.testing.assert_close(Tweedie(world, sigma)(z, no_context(z)), expected)


def test_tweedie_brings_noised_frames_nearer_to_the_clean_ones():
    generator_ = generator(1)
    clean = CENTRES[torch.randint(2, (4000,), generator=generator_)]
    noisy = noisy_frames(clean, 0.5)
    corrected = Tweedie(Mixture(CENTRES, 0.1), 0.5)(noisy, no_context(noisy))
    assert float((corrected - clean).norm(dim=1).mean()) < 0.3 * float((noisy - clean).norm(dim=1).mean())


@pytest.mark.parametrize("share", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("n_steps", [1, 3, 60])
def test_langevin_has_the_variance_of_the_discretised_process(share, n_steps):
    """On N(0, v), v = s² + sigma²: z' = (1 - eps/v) z + sqrt(2 eps) xi is an AR(1) process.

    With a = 1 - eps/v its variance is a^(2n) v0 + 2 eps (1 - a^(2n)) / (1 - a²), and 2 eps / (1 - a²) in the end.
    """
    s, sigma, start, n = 0.8, 0.6, 3.0, 60_000
    v = s**2 + sigma**2
    eps = share * v
    z = start * torch.randn(n, 4, generator=generator(1), dtype=torch.float64)
    langevin = Langevin(isotropic(4, s), sigma, eps, n_steps, generator(2))
    moved = langevin(z, no_context(z))
    a = (1 - eps / v) ** 2
    expected = a**n_steps * start**2 + 2 * eps * (1 - a**n_steps) / (1 - a)
    if n_steps == 60 and share > 0.1:
        assert expected == pytest.approx(2 * eps / (1 - a), rel=1e-9)
    # 4 n normal numbers: the variance's relative deviation is sqrt(2 / 4n) = 0.0029, the mean's 0.0020 of one.
    # Five of each: failure rate 6e-7 per comparison, 1.1e-5 over this test.
    assert float(moved.var()) == pytest.approx(expected, rel=5 * sqrt(2 / (4 * n)))
    assert abs(float(moved.mean())) < 5 * sqrt(expected / (4 * n))


def test_langevin_ended_by_tweedie_has_no_noise_of_its_level_left():
    """Of N(0, s²) + N(0, sigma²) the posterior mean has variance s⁴ / v, less than the s² of the clean frames."""
    s, sigma, n = 0.8, 0.6, 20_000
    v, world = s**2 + sigma**2, isotropic(4, s)
    z = sqrt(v) * torch.randn(n, 4, generator=generator(1), dtype=torch.float64)
    plain, ended = (Langevin(world, sigma, 0.05 * v, 40, generator(2), d)(z, no_context(z)) for d in (False, True))
    torch.testing.assert_close(ended, Tweedie(world, sigma)(plain, no_context(z)))
    # Finite steps: 1 / (1 - 0.05 / 2) wider; 4 n normal numbers, 5 deviations of their variance.
    assert float(ended.var()) == pytest.approx(s**4 / v / (1 - 0.025), rel=5 * sqrt(2 / (4 * n)))


def test_langevin_from_between_the_clusters_fills_both():
    world, n = Mixture(CENTRES, 0.3), 4000
    z = torch.zeros(n, 3, dtype=torch.float64)
    moved = Langevin(world, 0.3, 0.02, 150, generator())(z, no_context(z))
    distance = torch.cdist(moved, CENTRES)
    # Chosen by a fair coin each: 5 deviations of a binomial, failure rate 6e-7.
    assert abs(float((distance[:, 0] < distance[:, 1]).double().mean()) - 0.5) < 5 * 0.5 / sqrt(n)
    # In three dimensions the mean square distance is 3 (0.3² + 0.3²), wider by less than a tenth for finite steps.
    assert float(distance.amin(1).square().mean()) == pytest.approx(0.54, rel=0.15)


def test_langevin_draws_from_its_generator_alone():
    z = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    state = torch.random.get_rng_state()
    one, same, other = (Langevin(oblique(), 0.5, 0.01, 3, generator(seed))(z, no_context(z)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


LEVELS = [0.0, -0.1, float("nan"), float("inf")]


@pytest.mark.parametrize("sigma", LEVELS)
def test_noise_levels_without_a_score_are_refused(sigma):
    z = torch.zeros(2, 3, dtype=torch.float64)
    for make in (
        lambda: Tweedie(oblique(), sigma),
        lambda: Langevin(oblique(), sigma, 0.1, 1, generator()),
        lambda: score(oblique(), z, sigma),
    ):
        with pytest.raises(UsageError, match=r"^noise level \S+: a score exists at positive noise levels only: use"):
            make()


@pytest.mark.parametrize("sigma", [0.1, 1.5])
def test_levels_that_the_denoiser_was_not_trained_at_are_refused(sigma):
    with pytest.raises(UsageError, match=r"trained at 0\.2 to 1: use one of these$"):
        Tweedie(Denoiser(SMALL, 3), sigma)
    Tweedie(Denoiser(SMALL, 3), 0.2)
    Tweedie(Denoiser(SMALL, 3), 1.0)


@pytest.mark.parametrize(("step_size", "n_steps"), [(0.0, 1), (-1.0, 1), (float("inf"), 1), (0.1, 0)])
def test_steps_that_go_nowhere_are_refused(step_size, n_steps):
    with pytest.raises(UsageError, match=r"^Langevin .*: use "):
        Langevin(oblique(), 0.5, step_size, n_steps, generator())


def run_of_frames(seed=0):
    z = torch.randn(B, W + S, D, generator=generator(seed), dtype=torch.float64)
    return z[:, :W], z[:, W:]


def standing(context):
    """A model that predicts no movement."""
    return DiagonalGaussian(torch.zeros_like(context[:, -1]), torch.ones_like(context[:, -1]))


def test_in_a_rollout_the_denoiser_sees_the_frames_directly_before_the_latent():
    calls = []

    def spy(noisy, sigma, context):
        calls.append((noisy, context))
        return noisy + 1.0

    corrector = Tweedie(spy, 0.5)
    assert isinstance(corrector, Corrector)
    context, truth = run_of_frames()
    rolled = rollout(standing, context, injection(S, [2]), truth, RolloutOptions(corrector=corrector))
    fed = rolled.latents.clone()
    fed[:, 1] = truth[:, 1]
    run = torch.cat([context, fed], dim=1)
    for s, (noisy, before) in enumerate(calls):
        assert torch.equal(before, run[:, s : s + W])
        assert torch.equal(noisy, before[:, -1])
        assert torch.equal(rolled.latents[:, s], noisy + 1.0)


def broken(rolled):
    """Where the corrector of a rollout broke it, that without one stays finite."""
    return broken_step(finite_frames(rolled.latents), torch.full((B,), S))


def breaks(bad, row, step):
    """A denoiser that returns `bad` for one row at one step."""
    seen = []

    def denoise(noisy, sigma, context):
        seen.append(None)
        out = noisy.clone()
        if len(seen) == step:
            out[row] = bad
        return out

    return denoise


@pytest.mark.parametrize("kind", ["mdn", "vmf"])
@pytest.mark.parametrize("choice", ["mean", "typical", "sample"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_corrector_that_breaks_a_row_is_measured_and_disturbs_no_other(kind, choice, bad):
    model, (context, truth) = small_model(kind, D), run_of_frames()

    def roll(denoiser, mask):
        options = RolloutOptions(choice, corrector=Tweedie(denoiser, 0.5), generator=generator(3))
        with torch.no_grad():
            return rollout(model, context, mask, truth, options)

    rolled = roll(breaks(bad, 1, 4), free_running(S))
    assert broken(rolled).tolist() == [0, 4, 0]
    assert rolled.latents[[0, 2]].isfinite().all()
    assert not rolled.latents[1, 3:].isfinite().all(1).any()
    forced = roll(breaks(bad, 1, 4), teacher_forcing(S))
    assert broken(forced).tolist() == [0, 4, 0]
    assert forced.latents[:, 4:].isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_state_that_is_not_finite_passes_through_and_disturbs_no_other_row(bad, conditional):
    denoiser = Denoiser(SMALL, D, W if conditional else 0).double()
    context, truth = run_of_frames()
    broken = context.clone()
    broken[1, -1] = bad
    for make in (
        lambda: Tweedie(denoiser, 0.5),
        lambda: Langevin(denoiser, 0.5, 0.01, 2, generator()),
    ):
        with torch.no_grad():
            one, other = (
                rollout(standing, c, free_running(S), truth, RolloutOptions(corrector=make()))
                for c in (context, broken)
            )
        torch.testing.assert_close(one.latents[[0, 2]], other.latents[[0, 2]], rtol=1e-12, atol=1e-12)
        if bad != 1e200:
            assert not other.latents[1].isfinite().all(1).any()


def test_steps_that_would_be_computed_twice_take_no_corrector_that_draws():
    context, truth = run_of_frames()
    for corrector, twice in ((Langevin(oblique(), 0.5, 0.01, 2, generator()), True), (Tweedie(oblique(), 0.5), False)):
        options = RolloutOptions(corrector=corrector, checkpoint_steps=True)
        if twice:
            with pytest.raises(ValueError, match="correct without it"):
                rollout(standing, context, free_running(S), truth, options)
        else:
            _check(free_running(S), truth, options)


def test_langevin_steps_beyond_stability_are_a_measurement():
    """On N(0, v) the factor of a step is 1 - eps / v: beyond 2 v it grows until the numbers end."""
    context, truth = torch.zeros(B, W, D), torch.zeros(B, S, D)
    world = Gaussian(torch.zeros(D), 0.01 * torch.eye(D))
    corrector = Langevin(world, 0.1, 100.0, 5, generator())
    with torch.no_grad():
        rolled = rollout(standing, context, free_running(S), truth, RolloutOptions(corrector=corrector))
    # A factor of 5,000 in each of 5 steps: float32 ends at 3.4e38, in the third step of the rollout.
    assert broken(rolled).tolist() == [3, 3, 3]


def test_a_row_that_the_model_breaks_as_early_without_it_is_not_the_correctors():
    finite, alone = torch.tensor([6, 2, 2, 2, 0]), torch.tensor([6, 6, 2, 1, 6])
    assert broken_step(finite, alone).tolist() == [0, 3, 0, 0, 1]
