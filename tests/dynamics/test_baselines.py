"""The trivial baselines against NumPy's least squares, and the null of regression to the mean."""

from math import log, sqrt

import numpy as np
import pytest
import torch
from scipy.stats import norm

from audio_engram.data.processes import AR, expected_cosine
from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import BASELINES, autoregressed, fit_baseline
from audio_engram.errors import UsageError
from toys import make_frames, walk

D = 3


def ragged_frames():
    generator = torch.Generator().manual_seed(0)
    utterances = []
    for u in range(6):
        z = walk(30 + u, D, seed=u).float() * 0.2 + torch.randn(D, generator=generator)
        z[:, 0] = torch.randn(len(z), generator=generator)
        utterances.append(z)
    utterances[0][9] = utterances[0][8]  # silence, which no fit may see
    return make_frames(utterances, ["train"] * 5 + ["test"])


def design(name, segment):
    last, around = segment.context[:, -1].double(), segment.utterance[:, :D].double()
    one = torch.ones_like(last)
    columns = {
        "increment": [one],
        "state": [one],
        "ar1": [last, one],
        "utterance": [last, around, one],
    }[name]
    return torch.stack(columns, -1).numpy()


@pytest.mark.parametrize(
    ("name", "lag"), [(name, lag) for name in BASELINES for lag in (1, 2, 4) if name != "state" or lag == 1]
)
def test_closed_form_is_least_squares(name, lag):
    windows = Windows(ragged_frames(), "train", 2, lag)
    index = windows.with_valid_target()
    assert len(index) < len(windows)
    segment = windows.gather(index)
    x, delta = design(name, segment), segment.delta[:, -1].double().numpy()
    last = segment.context[:, -1].double().numpy()
    offset = -last if name == "state" else np.zeros_like(last)
    baseline = fit_baseline(name, windows)
    distribution = baseline(segment.context, segment.utterance)
    for d in range(D):
        weights, *_ = np.linalg.lstsq(x[:, d], delta[:, d] - offset[:, d], rcond=None)
        predicted = x[:, d] @ weights + offset[:, d]
        assert distribution.mean[:, d].numpy() == pytest.approx(predicted, abs=1e-4)
        residual = sqrt(((delta[:, d] - predicted) ** 2).mean())
        assert float(baseline.scale[d]) == pytest.approx(residual, rel=1e-4)
    expected = norm(distribution.mean.double().numpy(), baseline.scale.double().numpy()).logpdf(delta).sum(1)
    assert distribution.log_prob(segment.delta[:, -1]).numpy() == pytest.approx(expected, abs=1e-6)


def test_baselines_are_nested_on_the_training_split():
    windows = Windows(ragged_frames(), "train", 2, 1)
    segment = windows.gather(windows.with_valid_target())
    nll = {
        name: -float(fit_baseline(name, windows)(segment.context, segment.utterance).log_prob(
            segment.delta[:, -1]).mean())
        for name in BASELINES
    }  # fmt: skip
    assert nll["ar1"] <= nll["increment"] + 1e-9
    assert nll["ar1"] <= nll["state"] + 1e-9
    assert nll["utterance"] <= nll["ar1"] + 1e-9


def test_the_state_baseline_wants_lag_one():
    with pytest.raises(UsageError, match="needs lag 1"):
        fit_baseline("state", Windows(ragged_frames(), "train", 2, 2))


def autoregression(rho, n=60_000, dim=8):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, dim, generator=generator)
    for t in range(1, n) if rho else ():
        z[t] = rho * z[t - 1] + sqrt(1 - rho**2) * z[t]
    # Many utterances: the mean of the other frames of the only one would tell the frame left out.
    return make_frames(list(z.split(100)), ["train"] * (n // 100))


def figures(frames, name):
    windows = Windows(frames, "train", 1, 1)
    segment = windows.gather(windows.with_valid_target())
    delta = segment.delta[:, -1]
    predicted = fit_baseline(name, windows)(segment.context, segment.utterance)
    reference = fit_baseline("increment", windows)(segment.context, segment.utterance)
    nats = float((reference.log_prob(delta) - predicted.log_prob(delta)).mean()) / frames.dim
    return nats, float(torch.nn.functional.cosine_similarity(predicted.mean, delta).mean())


# 60,000 frames of 8 dimensions: nats per dimension have a deviation under 0.001 and cosines under 0.002.
@pytest.mark.parametrize("name", ["state", "ar1", "utterance"])
def test_white_noise_looks_predictable(name):
    nats, cosine = figures(autoregression(0.0), name)
    assert nats == pytest.approx(-log(2) / 2, abs=0.005)
    assert cosine == pytest.approx(expected_cosine(sqrt(0.5), 8), abs=0.01)
    assert cosine == pytest.approx(0.707, abs=0.04)  # 8 dimensions: 0.685; the limit is reached at 512


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_smoother_frames_score_worse(rho):
    nats, cosine = figures(autoregression(rho), "ar1")
    assert nats == pytest.approx(log((1 + rho) / 2) / 2, abs=0.01)
    assert cosine == pytest.approx(expected_cosine(sqrt((1 - rho) / 2), 8), abs=0.015)


def test_white_noise_at_lag_two_is_not_predictable():
    windows = Windows(autoregression(0.0, n=20_000), "train", 1, 2)
    baseline = fit_baseline("ar1", windows)
    # A slope of nothing on nothing has deviation sqrt(2 / 20,000) = 0.01.
    assert float(baseline.last.abs().max()) < 0.05
    assert float(baseline.scale.mean()) == pytest.approx(sqrt(2), abs=0.03)


def test_parameters_are_finite_for_the_increment_of_a_constant_speed():
    # A residual of 0 must not become a density of infinity.
    z = torch.arange(20.0)[:, None] * torch.ones(1, 2)
    baseline = fit_baseline("increment", Windows(make_frames([z], ["train"]), "train", 1, 1))
    assert (baseline.scale > 0).all()


def of_two_speakers(process, n, seed):
    """Utterances of a process around means of their own, and how long they are."""
    generator = torch.Generator().manual_seed(seed)
    lengths, parts = [n, n // 2, n + 7], []
    for length in lengths:
        process.frames = length
        parts.append(process.utterance(generator, 0) + 3 * torch.randn(process.dim, generator=generator))
    return make_frames(parts, ["train", "train", "test"])


def residuals(frames, a):
    """What AR(1) leaves, up to a constant of each utterance."""
    parts = [p.double().numpy() for p in frames.z.split(frames.offsets.diff().tolist())]
    return [z[1:] - a * z[:-1] for z in parts]


def fitted(frames):
    train = [z - z.mean(0) for z in frames.z.double().split(frames.offsets.diff().tolist())][:2]
    pairs = [(z[:-1], z[1:]) for z in train]
    return (sum((x * y).sum(0) for x, y in pairs) / sum((x * x).sum(0) for x, _ in pairs)).numpy()


def test_the_autoregressed_surrogate_has_the_same_residuals_in_another_order():
    frames = of_two_speakers(AR(), 300, 0)
    before = frames.z.clone()
    made, again, other = (autoregressed(frames, seed) for seed in (1, 1, 2))
    assert torch.equal(frames.z, before)
    assert torch.equal(made.z, again.z)
    assert not torch.equal(made.z, other.z)
    assert torch.equal(made.z[frames.offsets[:-1]], frames.z[frames.offsets[:-1]])
    a = fitted(frames)
    for mine, theirs in zip(residuals(made, a), residuals(frames, a), strict=True):
        # Whole rows: dimensions stay together.
        apart = np.linalg.norm(mine[:, None] - theirs, axis=2)
        assert sorted(apart.argmin(1)) == list(range(len(theirs)))
        assert apart.min(1).max() < 1e-4
        assert np.abs(mine - theirs).mean() > 0.05


def test_autoregression_is_all_that_the_surrogate_keeps_of_the_order():
    # About 4,500 frames a side, correlated over 7: deviations of a correlation near 0.04.
    process = AR()
    process.radius, process.angle = 0.9, 0.35
    frames = of_two_speakers(process, 3000, 0)
    made = autoregressed(frames, 0)

    def lagged(of, turned, k=1):
        z = of.z[: frames.offsets[1]].double()
        z = z - z.mean(0)
        x, y = z[:-k], z[k:]
        y = torch.stack([-y[:, 1::2], y[:, 0::2]], 2).flatten(1) if turned else y
        return float((x * y).mean() / z.square().mean())

    assert lagged(made, False) == pytest.approx(lagged(frames, False), abs=0.03)
    assert lagged(made, False, 2) == pytest.approx(lagged(made, False) ** 2, abs=0.05)
    assert abs(lagged(frames, False, 2) - lagged(frames, False) ** 2) > 0.09  # -r^2 sin^2
    assert abs(lagged(frames, True)) > 0.25  # r sin
    assert abs(lagged(made, True)) < 0.05


def test_silence_and_the_frame_after_it_stay_and_no_residual_crosses_it():
    frames = of_two_speakers(AR(), 300, 0)
    raw = frames.z.clone()
    raw[:40], raw[100:150] = -3.0, -3.0
    frames = make_frames([raw[:300], raw[300:]], ["train", "test"])
    made = autoregressed(frames, 0)
    assert torch.equal(made.moving, frames.moving)
    stay = [*range(41), *range(100, 151)]
    torch.testing.assert_close(made.z[stay], frames.z[stay])
    mean = frames.z[~frames.quiet & (frames.utterance == 0)].double().mean(0)
    inside = [*range(41, 100), *range(151, 300)]  # both ends of these increments sound

    def pairs(of):
        z = of.z.double() - mean
        return z[[t - 1 for t in inside]], z[inside]

    before, after = pairs(frames)
    a = (before * after).sum(0) / before.square().sum(0)

    def left(of):
        before, after = pairs(of)
        return (after - a * before).numpy()

    apart = np.linalg.norm(left(made)[:, None] - left(frames), axis=2)
    assert sorted(apart.argmin(1)) == list(range(len(inside)))
    assert apart.min(1).max() < 1e-4
