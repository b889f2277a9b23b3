"""Scores against NumPy by hand, and alignment against oracles."""

import numpy as np
import pytest
import torch

from audio_engram.data.frames import Frames
from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.model import make_model
from audio_engram.forcing import free_running, injection, teacher_forcing
from audio_engram.metrics import expected_log_magnitude, predictor, score, score_rollouts
from audio_engram.rollout import RolloutOptions, rollout
from toys import SMALL, Oracle, ar_frames, best_log_prob, make_frames, make_start, small_model, walk

D, W = 4, SMALL.context


def scaled(frames, scale):
    fields = {name: getattr(frames, name) for name in frames.__dataclass_fields__}
    return Frames(**fields | {"scale": scale})


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.fixture
def frames():
    return scaled(ar_frames(dim=D), torch.tensor([1.0, 5.0, 0.2, 2.0]))


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("kind", ["mdn", "vmf"])
def test_every_score_by_hand(frames, kind, lag):
    windows = Windows(frames, "test", W, lag)
    model = small_model(kind, D).float()
    baseline = fit_baseline("ar1", Windows(frames, "train", W, lag))
    index = windows.with_valid_target()[::7]
    scores = score(predictor(model, False), windows, index, predictor(baseline, False))
    z, t = frames.z.double().numpy(), windows.target[index].numpy()
    context = torch.stack([frames.z[i - lag - W + 1 : i - lag + 1] for i in t])
    with torch.no_grad():
        distribution = model(context)
        nll = -distribution.log_prob(frames.z[t] - frames.z[t - 1]).numpy()
    delta, mean = z[t] - z[t - 1], distribution.mean.double().numpy()
    direction, scale = distribution.direction.double().numpy(), frames.scale.numpy()
    ar1 = baseline.bias.numpy() + baseline.last.numpy() * z[t - lag]
    expected = {
        "nll": nll,
        "cosine": cosines(direction * scale, delta * scale),
        "cosine_standardised": cosines(direction, delta),
        "innovation_cosine": cosines(mean - ar1, delta - ar1),
        "log_m": np.log(np.linalg.norm(delta, axis=1)),
        "log_m_of_mean": np.log(np.linalg.norm(mean, axis=1)),
        "delta_error": ((delta - mean) ** 2).sum(1),
        "delta_square": (delta**2).sum(1),
        "state_square": (z[t] ** 2).sum(1),
    }
    for name, values in expected.items():
        assert getattr(scores, name).numpy() == pytest.approx(values, rel=2e-4, abs=2e-4), name
    assert torch.equal(scores.speaker, frames.speaker[t])


@pytest.mark.parametrize("lag", [1, 2, 4, 8])
def test_an_oracle_scores_best_at_exactly_its_lag(lag):
    z = walk(60, D, dtype=torch.float32)
    windows = Windows(make_frames([z], ["train"]), "train", W, lag)
    index = torch.arange(len(windows) - 2)
    ar1 = predictor(fit_baseline("ar1", windows), False)
    nll = {}
    for ahead in (lag - 1, lag, lag + 1):
        scores = score(predictor(Oracle(z, ahead), False), windows, index, ar1)
        nll[ahead] = scores.nll
        if ahead == lag:
            assert scores.cosine.min() > 0.999
            assert scores.innovation_cosine.min() > 0.99
            assert scores.delta_error.max() < 1e-6
    assert float(nll[lag].mean()) == pytest.approx(-best_log_prob(D), abs=1e-3)
    assert float(nll[lag - 1].mean()) > 10 + float(nll[lag].mean()) < float(nll[lag + 1].mean()) - 10


def test_utterance_features_reach_the_model_that_reads_them(frames):
    windows = Windows(frames, "test", W, 1)
    model = make_model("vmf", SMALL, make_start(D), 0, n_features=D + 1).eval()
    index = torch.arange(5)
    ar1 = predictor(fit_baseline("ar1", windows), False)
    scores = score(predictor(model, True), windows, index, ar1)
    segment = windows.gather(index)
    with torch.no_grad():
        expected = -model(segment.context, segment.utterance).log_prob(segment.delta[:, -1])
    torch.testing.assert_close(scores.nll, expected)
    with pytest.raises(ValueError, match="reads utterance features"):
        score(predictor(model, False), windows, index, ar1)


@pytest.mark.parametrize("step", ["typical", "mean"])
def test_rollout_scores_by_hand(frames, step):
    steps = 5
    windows = Windows(frames, "test", W, steps)
    model = small_model("vmf", D).float()
    ar1 = torch.tensor([-0.1, -0.2, -0.3, -0.4])
    index = torch.arange(0, len(windows), 9)
    masks = {"A": teacher_forcing(steps), "B": injection(steps, [2]), "D": free_running(steps)}
    options = RolloutOptions(step)
    scores = score_rollouts(model, windows, index, masks, ar1, options)
    segment = windows.gather(index)
    scale = frames.scale.numpy()
    for name, mask in masks.items():
        with torch.no_grad():
            rolled = rollout(model, segment.context, mask, segment.future, options)
        latents, deltas = rolled.latents.numpy(), rolled.deltas.numpy()
        fed = torch.where(mask[:, :, None], segment.future, rolled.latents).numpy()
        last = segment.context[:, -1:].numpy()
        reached = np.concatenate([last, fed[:, :-1]], 1)
        future, previous = segment.future.numpy(), segment.previous.numpy()
        true = future - previous
        a = ar1.numpy()
        expected = {
            "nll": -rolled.log_probs.numpy(),
            "cosine": cosines(deltas * scale, true * scale),
            "innovation_cosine": cosines(deltas - a * reached, true - a * previous),
            "magnitude": np.linalg.norm(deltas, axis=2),
            "true_magnitude": np.linalg.norm(true, axis=2),
            "state_error": np.linalg.norm(latents - future, axis=2),
            "still_error": np.linalg.norm(last - future, axis=2),
            "mean_error": np.linalg.norm(future, axis=2),
        }
        for field, values in expected.items():
            assert getattr(scores[name], field).numpy() == pytest.approx(values, rel=2e-3, abs=2e-3), field
        assert scores[name].finite.all()
        assert torch.equal(scores[name].valid, segment.valid)
        assert torch.equal(scores[name].speaker, segment.speaker)


def test_rollouts_in_one_batch_are_those_alone(frames):
    windows = Windows(frames, "test", W, 6)
    model = small_model("mdn", D).float()
    index = torch.arange(0, len(windows), 5)
    masks = {"D": free_running(6), "A": teacher_forcing(6), "C": injection(6, [1])}
    together = score_rollouts(model, windows, index, masks, torch.zeros(D))
    for name, mask in masks.items():
        alone = score_rollouts(model, windows, index, {name: mask}, torch.zeros(D))[name]
        torch.testing.assert_close(together[name].nll, alone.nll, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together[name].state_error, alone.state_error, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together["A"].nll[:, 0], together["D"].nll[:, 0])
    torch.testing.assert_close(together["C"].nll[:, :2], together["A"].nll[:, :2], rtol=1e-4, atol=1e-4)


def test_a_rollout_that_leaves_the_finite_numbers_is_measured(frames):
    def explode(context):
        from audio_engram.distributions import DiagonalGaussian

        return DiagonalGaussian(1e20 * context[:, -1], torch.ones_like(context[:, -1]))

    windows = Windows(frames, "test", W, 4)
    scores = score_rollouts(explode, windows, torch.arange(3), {"D": free_running(4)}, torch.zeros(D))["D"]
    assert scores.finite[:, 0].all()
    assert not scores.finite[:, -1].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_of_a_model_on_another_device(frames):
    windows = Windows(frames, "test", W, 4)
    ar1 = predictor(fit_baseline("ar1", windows), False)
    index, masks = torch.arange(50), {"A": teacher_forcing(4), "D": free_running(4)}
    for kind in ("mdn", "vmf"):
        here, there = small_model(kind, D).float(), small_model(kind, D).float().cuda()
        one, other = (score(predictor(m, False), windows, index, ar1) for m in (here, there))
        torch.testing.assert_close(one.nll, other.nll, rtol=1e-3, atol=1e-3)
        a, b = (score_rollouts(m, windows, index, masks, torch.zeros(D)) for m in (here, there))
        torch.testing.assert_close(a["D"].state_error, b["D"].state_error, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["mdn", "vmf"])
def test_expected_log_magnitudes_are_those_of_the_distributions_in_order(kind):
    windows = Windows(ar_frames(6, 40), "test", SMALL.context, 1)
    index = windows.with_valid_target()
    model = small_model(kind, 4).float()
    found = expected_log_magnitude(predictor(model, False), windows, index)
    with torch.no_grad():
        expected = model(windows.gather(index).context).expected_log_magnitude()
    torch.testing.assert_close(found, tuple(one.float() for one in expected))
    assert (found[1] > 0).all() == (kind == "mdn")
