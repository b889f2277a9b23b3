"""What the worlds say of themselves against Monte Carlo, least squares and other formulas."""

from math import acos, asin, exp, log, pi, sqrt

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from audio_engram.data.manifest import read_manifest
from audio_engram.data.planted import Archetypes, Chained, _circle
from audio_engram.data.polar_worlds import Headings, Strides
from audio_engram.data.processes import AR, Noise, Shuffled, expected_cosine
from audio_engram.data.worlds import WORLDS, world, write_world
from audio_engram.errors import UsageError

LAGS = (1, 2, 4, 8)


def analytic(process, lags=LAGS):
    return {(a.metric, a.model, a.lag): a.value for a in process.analytic(lags)}


@pytest.mark.parametrize("name", ["ar", "resonance", "noise", "correlated", "pulses", "walk"])
def test_the_variance_left_of_gaussian_worlds_is_that_of_least_squares(name):
    process = world(f"world:{name}")
    drawn = [process.utterance(torch.Generator().manual_seed(seed), 0).double() for seed in range(60)]
    scale = torch.cat(drawn).std(0)
    for known in process.variance_left((1, 2)):
        k = known.lag
        past = torch.cat([z[:-k] / scale for z in drawn])
        delta = torch.cat([(z[k:] - z[k - 1 : -1]) / scale for z in drawn])
        left = delta - past @ torch.linalg.lstsq(past, delta).solution
        # 30,000 rows or more of at least two dimensions: standard errors of a ratio of variances are below 0.01.
        assert float(left.square().sum() / delta.square().sum()) == pytest.approx(known.value, abs=0.03)
        assert (known.metric, known.model) == ("variance_ratio", "truth")


def test_nothing_is_said_of_what_a_world_does_not_know():
    assert {name for name in WORLDS if world(f"world:{name}").clusters()} == {"archetypes", "chained"}
    assert Shuffled().variance_left(LAGS) == Strides().variance_left(LAGS) == []
    assert [a.lag for a in world("world:regimes").variance_left(LAGS)] == [1]


def test_a_chain_of_directions_is_foretold_but_for_its_jumps():
    (told,) = (a.value for a in world("world:chained").clusters() if a.metric == "membership_accuracy")
    drawn = torch.cat([_circle(5000, 64, 0.05, torch.Generator().manual_seed(seed)) for seed in range(20)])
    # 100,000 steps: standard error 0.0007; 19 seams between utterances are none of them.
    assert float(((drawn[1:] - drawn[:-1]) % 64 == 1).double().mean()) == pytest.approx(told, abs=0.004)


@pytest.mark.parametrize("dim", [1, 2, 16, 512])
@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.3, 0.707, 0.95])
def test_expected_cosine_against_mpmath(dim, correlation):
    # Another series for the mean of an uncentred correlation (Anderson 2003, 4.2.3), term by term.
    rho, half = mpmath.mpf(correlation), mpmath.mpf(dim) / 2
    powers = (
        (2 * rho) ** (2 * k + 1)
        / mpmath.factorial(2 * k + 1)
        * mpmath.gamma(half + k + mpmath.mpf(1) / 2) ** 2
        * mpmath.gamma(k + mpmath.mpf(3) / 2)
        / mpmath.gamma(half + k + 1)
        for k in range(6_000 if abs(correlation) > 0.8 else 2_000)
    )
    value = mpmath.fsum(powers) * (1 - rho**2) ** half / (mpmath.sqrt(mpmath.pi) * mpmath.gamma(half))
    assert expected_cosine(correlation, dim) == pytest.approx(float(value), rel=1e-9, abs=1e-15)


def test_expected_cosine_of_equal_vectors_is_one():
    for dim in (1, 2, 61, 62, 63, 64, 512, 2048):
        assert expected_cosine(1.0, dim) == pytest.approx(1)


def test_expected_cosine_in_one_dimension_is_grothendiecks():
    for rho in (0.1, 0.5, 0.95):
        assert expected_cosine(rho, 1) == pytest.approx(2 / pi * asin(rho))
        assert expected_cosine(rho, 1) == pytest.approx(1 - 2 * acos(rho) / pi)


@pytest.mark.parametrize(("correlation", "dim"), [(0.6, 2), (0.7, 16), (-0.4, 5)])
def test_expected_cosine_against_monte_carlo(correlation, dim):
    # 100,000 cosines of deviation at most 0.71: five standard errors are 0.0112.
    rng = np.random.default_rng(0)
    x, e = rng.standard_normal((2, 100_000, dim))
    y = correlation * x + sqrt(1 - correlation**2) * e
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert abs(cosines.mean() - expected_cosine(correlation, dim)) < 5 * cosines.std() / sqrt(len(cosines))


@pytest.fixture(scope="module")
def long_ar():
    process = AR()
    process.frames = 40_000
    return process, process.utterance(torch.Generator().manual_seed(0), 0).double().numpy()


def least_squares(x, y):
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    return x @ weights


def cosine(a, b):
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


# 40,000 frames of 16 dimensions, correlated over about 30: the effective number is 20,000 or more, a relative
# deviation of a variance 0.01; tolerances of 0.03 to 0.05 stand for 3 to 5 of it, and the seed is fixed.
@pytest.mark.parametrize("lag", LAGS)
def test_ar_figures_against_brute_force_least_squares(long_ar, lag):
    process, z = long_ar
    known = analytic(process)
    x, y = z[: len(z) - lag], z[lag:] - z[lag - 1 : -1]
    full = least_squares(x, y)
    own = np.stack([least_squares(x[:, [d]], y[:, d]) for d in range(process.dim)], 1)
    total = (y**2).mean()
    nll = 0.5 * process.dim * log(((y - full) ** 2).mean() / total)
    nll_own = 0.5 * process.dim * log(((y - own) ** 2).mean() / total)
    assert nll == pytest.approx(known["delta_nll", "truth", lag], rel=0.05, abs=0.05)
    assert nll_own == pytest.approx(known["delta_nll", "ar1", lag], rel=0.05, abs=0.05)
    assert nll - nll_own == pytest.approx(known["delta_nll_excess", "truth", lag], rel=0.05, abs=0.05)
    assert cosine(full, y) == pytest.approx(known["direction_cosine", "truth", lag], abs=0.02)
    assert cosine(own, y) == pytest.approx(known["direction_cosine", "ar1", lag], abs=0.02)
    assert cosine(full - own, y - own) == pytest.approx(known["innovation_cosine", "truth", lag], abs=0.02)


def test_longer_contexts_tell_nothing_more_of_the_ar_world(long_ar):
    _, z = long_ar
    y = z[3:] - z[2:-1]
    one = least_squares(z[2:-1], y)
    three = least_squares(np.concatenate([z[2:-1], z[1:-2], z[:-3]], 1), y)
    assert ((y - three) ** 2).mean() == pytest.approx(((y - one) ** 2).mean(), rel=0.005)


def test_ar_is_stationary_with_unit_variance():
    # 4,000 utterances: a variance of 1 has deviation sqrt(2 / 64,000) = 0.0056 at each of the two ends.
    process = AR()
    process.frames = 12
    z = torch.stack([process.utterance(torch.Generator().manual_seed(i), 0) for i in range(4000)])
    for t in (0, 11):
        assert float(z[:, t].square().mean()) == pytest.approx(1, abs=0.028)
    product = float((z[:, 11] * z[:, 8]).mean())
    assert product == pytest.approx(process.correlation(3), abs=0.02)


def test_ar_correlation_is_the_power_of_the_matrix():
    process = AR()
    a = process.matrix().numpy()
    for k in (1, 2, 5, 16):
        power = np.linalg.matrix_power(a, k)
        assert np.trace(power) / process.dim == pytest.approx(process.correlation(k))
        assert power @ power.T == pytest.approx(process.radius ** (2 * k) * np.eye(process.dim))
        step = power - np.linalg.matrix_power(a, k - 1)
        assert np.trace(step @ step.T) / process.dim == pytest.approx(process.explained(k))


def test_ar_rollout_mean_is_the_power_of_the_matrix():
    process = AR()
    z = torch.randn(3, process.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rolled = process.rollout_mean(z, 5)
    assert rolled.shape == (3, 5, process.dim)
    for s in range(5):
        power = torch.linalg.matrix_power(process.matrix(), s + 1)
        torch.testing.assert_close(rolled[:, s], z @ power.T)
    assert process.rollout_error(3)[0] == pytest.approx(sqrt(process.dim * (1 - process.radius**2)))
    assert process.rollout_error(1000)[-1] == pytest.approx(sqrt(process.dim), rel=1e-6)


def test_noise_says_what_science_says():
    process = Noise()
    known = analytic(process)
    assert known["delta_nll", "truth", 1] / process.dim == pytest.approx(-log(2) / 2)
    assert known["direction_cosine", "truth", 1] == pytest.approx(1 / sqrt(2), abs=0.01)
    assert expected_cosine(sqrt(0.5), 512) == pytest.approx(0.707, abs=0.0005)
    for lag in LAGS:
        assert known["delta_nll_excess", "truth", lag] == 0
        if lag > 1:
            assert known["delta_nll", "truth", lag] == known["direction_cosine", "truth", lag] == 0


def test_noise_is_white():
    # 20,000 x 32 numbers: a mean or a correlation has deviation 0.00125, five of them 0.0063.
    process = Noise()
    process.frames = 20_000
    z = process.utterance(torch.Generator().manual_seed(0), 0)
    assert abs(float(z.mean())) < 0.0063
    assert abs(float((z[1:] * z[:-1]).mean())) < 0.0063
    assert kstest(z[:, 0].double().numpy(), "norm").pvalue > 1e-4


def test_archetypes_step_along_their_planted_directions():
    process = Archetypes()
    process.frames = 2000
    planted = process.planted()
    assert planted.shape == (64, process.dim)
    torch.testing.assert_close(planted.norm(dim=1), torch.ones(64))
    assert torch.equal(planted[:32], -planted[32:])
    z = process.utterance(torch.Generator().manual_seed(0), 0)
    delta = z.diff(dim=0)
    best = (torch.nn.functional.normalize(delta, dim=1) @ planted.T).max(1)
    # A_32(300) = 0.9497; 2,000 cosines of deviation 0.012.
    assert float(best.values.mean()) == pytest.approx(0.9497, abs=0.003)
    assert len(best.indices.unique()) == 64
    log_m = delta.norm(dim=1).log()
    # deviations 0.4 / sqrt(2,000) = 0.009 and 0.0063
    assert float(log_m.mean()) == pytest.approx(process.log_magnitude, abs=0.045)
    assert float(log_m.std()) == pytest.approx(process.log_spread, abs=0.032)
    assert abs(float(log_m[1:] @ log_m[:-1] / log_m.square().sum())) < 0.11
    assert float(z.norm(dim=1).max()) < 15


def test_what_draws_a_chain_back_turns_its_increments():
    process = Chained()
    process.frames = 20_000
    delta = process.utterance(torch.Generator().manual_seed(0), 0).diff(dim=0)
    length = delta.norm(dim=1)
    longer = torch.nn.functional.normalize(delta[length > length.quantile(0.25)], dim=1)
    cosines = (longer @ torch.nn.functional.normalize(process.planted(), dim=1).T).amax(1)
    # A_32(300) = 0.94959 less 0.006; the mean of 15,000 cosines of deviation 0.014 is off by 0.0001.
    assert float(cosines.mean()) == pytest.approx(0.94959 - 0.006, abs=0.0005)


def test_shuffled_keeps_speaker_and_loudness_and_loses_order():
    process = Shuffled()
    process.frames = 4000
    draws = [process.utterance(torch.Generator().manual_seed(i), 7) for i in range(8)]
    means = torch.stack([z.mean(0) for z in draws])
    assert float(means.std(0).mean()) < 0.3 < float(means.mean(0).norm())
    spread = torch.tensor([float(z.std(0).log().mean()) for z in draws])
    assert 0.1 < float(spread.std()) < 0.6
    z = draws[0] - draws[0].mean(0)
    assert abs(float((z[1:] * z[:-1]).mean() / z.square().mean())) < 0.02
    assert process.analytic(LAGS) == []
    assert not torch.allclose(means.mean(0), process.utterance(torch.Generator().manual_seed(0), 8).mean(0))


@pytest.fixture(scope="module", params=[Headings, Strides])
def polar(request):
    """A world of one half of an increment, 60,000 of its frames, and its increments by direction and log magnitude."""
    process = request.param()
    process.frames = 60_000
    z = process.utterance(torch.Generator().manual_seed(0), 0).double().numpy()
    delta = np.diff(z, axis=0)
    length = np.linalg.norm(delta, axis=1)
    return process, z, delta / length[:, None], np.log(length)


def r2_given(x, y):
    """Of y, by a polynomial in x."""
    return 1 - ((y - np.polynomial.Polynomial.fit(x, y, 7)(x)) ** 2).mean() / y.var()


# 60,000 frames; shares of variance and cosines have deviations under 0.002, with the correlation of `strides` over some
# 40 frames under 0.006. The seed is fixed.
def test_half_of_an_increment_is_told_as_the_world_says(polar):
    process, z, direction, log_m = polar
    known = analytic(process)
    towards = np.stack([process.heading(one) for one in z[:-1]]) if isinstance(process, Headings) else -z[:-1]
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    assert (towards * direction).sum(1).mean() == pytest.approx(known["direction_cosine", "truth", 1], abs=0.005)
    far = np.log(np.linalg.norm(z, axis=1))
    for lag in LAGS:
        expected = known["magnitude_r2", "truth", lag]
        assert r2_given(far[: len(far) - lag], log_m[lag - 1 :]) == pytest.approx(expected, abs=0.015)
        if isinstance(process, Strides) and lag > 1:
            assert (towards[: len(z) - lag] * direction[lag - 1 :]).sum(1).mean() == pytest.approx(0, abs=0.005)
            assert known["direction_cosine", "truth", lag] == 0
    assert (known["magnitude_r2", "truth", 2] > 0.5) == isinstance(process, Strides)


def test_the_likelihood_of_the_polar_worlds_is_that_of_their_frames(polar):
    # Densities written out once more: of `headings` direction and magnitude of the increment, of `strides` those of
    # the frame. A frame's NLL has a deviation under 3 nats: 0.012 in the mean, 0.05 with correlation.
    process, z, direction, log_m = polar
    known, d = analytic(process), process.dim
    delta = np.diff(z, axis=0)
    if isinstance(process, Headings):
        towards = np.stack([process.heading(one) for one in z[:-1]])
        kappa = process.concentration
        log_c = (d / 2 - 1) * log(kappa) - d / 2 * log(2 * pi) - log(float(mpmath.besseli(d / 2 - 1, kappa)))
        nll = -(log_c + kappa * (towards * direction).sum(1)) + (d - 1) * log_m
        nll -= norm(process.log_magnitude, process.log_spread).logpdf(log_m) - log_m
    else:
        far = np.log(np.linalg.norm(z, axis=1))
        spread = process.log_spread * sqrt(1 - process.memory**2)
        area = float(2 * mpmath.pi ** (d / 2) / mpmath.gamma(d / 2))
        nll = log(area) + (d - 1) * far[1:] - norm(process.memory * far[:-1], spread).logpdf(far[1:]) + far[1:]
        state = norm(0, z.std()).logpdf(z[1:]).sum(1)
        excess = known["delta_nll_excess", "truth", 1]
        assert nll.mean() + state.mean() == pytest.approx(excess, abs=0.1)
    increment = norm(0, delta.std()).logpdf(delta).sum(1)
    assert nll.mean() + increment.mean() == pytest.approx(known["delta_nll", "truth", 1], abs=0.1)


def test_headings_stay_bounded_and_alike_in_all_dimensions(polar):
    process, z, _, _ = polar
    if isinstance(process, Headings):
        assert z.std(0) == pytest.approx(np.full(process.dim, z.std()), rel=0.05)
        halves = [np.square(half).sum(1).mean() for half in np.split(z, 2)]
        assert halves[0] == pytest.approx(halves[1], rel=0.03)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_a_world_is_the_same_for_the_same_seed(name):
    process = world(f"world:{name}")
    process.speakers, process.utterances_per_speaker, process.frames = 3, 2, 6
    one, again, other = (process.draw(seed) for seed in (0, 0, 1))
    assert [(u, s) for u, s, _ in one] == [(u, s) for u, s, _ in other]
    assert len({u for u, _, _ in one}) == 6
    assert len({s for _, s, _ in one}) == 3
    for (_, _, a), (_, _, b), (_, _, c) in zip(one, again, other, strict=True):
        assert a.shape == (6, process.dim)
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_an_unknown_world_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match="world:arr: no such world: use one of ar, archetypes, chained, "):
        world("world:arr")


def test_a_world_is_written_once_and_found_again(tmp_path):
    process = AR()
    process.speakers, process.frames = 3, 10
    store = write_world(process, 5, tmp_path / "latents")
    assert len(store) == 12
    assert read_manifest(tmp_path / "latents").synthetic
    name, speaker, z = process.draw(5)[4]
    assert torch.equal(store[name], z)
    assert store.utterances[4].speaker == speaker
    assert store.utterances[4].seconds == pytest.approx(10 / 12.5)
    again = write_world(process, 5, tmp_path / "latents")
    assert torch.equal(again.frames(), store.frames())
    with pytest.raises(UsageError, match="seed 6"):
        write_world(process, 6, tmp_path / "latents")


def test_the_log_normal_mean_of_archetypes_is_not_its_median():
    # Guards the constants: E[m] = exp(0.08), the median 1.
    assert exp(Archetypes.log_magnitude + Archetypes.log_spread**2 / 2) == pytest.approx(1.0833, abs=1e-4)
