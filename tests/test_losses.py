"""What is minimised: targets aligned at every lag, weights of the parts, scheduled sampling."""

from dataclasses import replace

import pytest
import torch

from audio_engram.config import TrainConfig
from audio_engram.data.windows import Segment, Windows
from audio_engram.errors import NumericalError
from audio_engram.forcing import free_running, scheduled_sampling, teacher_forcing
from audio_engram.losses import noisy, sampling_mask, teacher_forced_loss, unrolled_loss
from toys import Oracle, best_log_prob, make_frames, small_model, walk

D, W, S = 5, 3, 9
PLAIN = TrainConfig(teacher_weight=0.0)


def unrolled(model, segment, config, mask, seed=0):
    return unrolled_loss(model, segment, config, mask, torch.Generator().manual_seed(seed))


def segment_of(steps, seed=0):
    z = walk(40, D, seed)
    windows = Windows(make_frames([z], ["train"]), "train", W, steps)
    return z, windows.gather(torch.arange(2, len(windows) - 4, 3))


@pytest.mark.parametrize("lag", [1, 2, 4, 8])
def test_the_teacher_forced_target_is_the_increment_at_exactly_the_lag(lag):
    z, segment = segment_of(lag)
    losses = {ahead: teacher_forced_loss(Oracle(z, ahead), segment).item() for ahead in range(lag - 1, lag + 2)}
    assert losses[lag] == pytest.approx(-best_log_prob(D))
    assert losses[lag - 1] > losses[lag] + 10
    assert losses[lag + 1] > losses[lag] + 10


@pytest.mark.parametrize("teacher_weight", [0.0, 0.5])
@pytest.mark.parametrize("make_mask", [teacher_forcing, free_running])
def test_the_unrolled_targets_are_the_increments_of_each_step(teacher_weight, make_mask):
    z, segment = segment_of(S)
    config = TrainConfig(teacher_weight=teacher_weight, step="mean")
    right = unrolled(Oracle(z, 1), segment, config, make_mask(S)).item()
    assert right == pytest.approx(-best_log_prob(D))
    for ahead in (0, 2):
        assert unrolled(Oracle(z, ahead), segment, config, make_mask(S)).item() > right + 10


def naive_teacher_forced(model, segment, steps):
    z = torch.cat([segment.context, segment.future], 1)
    each = [model(z[:, s : s + W]).log_prob(z[:, W + s] - z[:, W + s - 1]) for s in steps]
    return -torch.stack(each).mean()


@pytest.mark.parametrize("kind", ["mdn", "vmf"])
def test_the_parts_of_the_unrolled_loss(kind):
    model = small_model(kind, D)
    _, segment = segment_of(S)
    mask = free_running(S)

    def loss(**weights):
        return float(unrolled(model, segment, TrainConfig(**weights), mask))

    with torch.no_grad():
        rolled = loss(teacher_weight=0.0)
        forced = float(naive_teacher_forced(model, segment, range(0, S, 4)))
        assert loss(teacher_weight=0.5) == pytest.approx((rolled + 0.5 * forced) / 1.5, rel=1e-6)
        assert float(unrolled(model, segment, PLAIN, teacher_forcing(S))) == pytest.approx(
            float(naive_teacher_forced(model, segment, range(S))), rel=1e-6
        )
        states = loss(teacher_weight=0.0, state_weight=2.0) - rolled
    assert states > 0
    moved = replace(segment, future=segment.future + 100.0)
    with torch.no_grad():
        far = TrainConfig(teacher_weight=0.0, state_weight=1.0)
        gap = float(unrolled(model, moved, far, mask)) - float(unrolled(model, moved, PLAIN, mask))
    assert gap > 100**2 * 0.5


def test_silence_is_left_out_of_both_losses():
    model = small_model("vmf", D)
    z = walk(40, D)
    z[20] = z[19]
    windows = Windows(make_frames([z], ["train"]), "train", W, S)
    segment = windows.gather(torch.arange(6, 14))
    assert not segment.valid.all()
    for make_mask in (free_running, teacher_forcing):
        loss = unrolled(model, segment, TrainConfig(), make_mask(S))
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    one = Windows(make_frames([z], ["train"]), "train", W, 1)
    at_silence = one.gather((one.target == 20).nonzero().flatten())
    with pytest.raises(NumericalError, match="digital silence"):
        teacher_forced_loss(model, at_silence)
    both = one.gather(((one.target == 20) | (one.target == 25)).nonzero().flatten())
    alone = one.gather((one.target == 25).nonzero().flatten())
    expected = teacher_forced_loss(model, alone).item()
    assert teacher_forced_loss(model, both).item() == pytest.approx(expected)


def test_silence_at_every_fourth_step_leaves_the_rest_to_train_on():
    # The teacher-forced part looks at one step in four; a last, small batch may have none there.
    model = small_model("vmf", D)
    z = walk(40, D)
    for t in (13, 17, 21):
        z[t] = z[t - 1]
    windows = Windows(make_frames([z], ["train"]), "train", W, S)
    segment = windows.gather((windows.starts == 10).nonzero().flatten())
    assert segment.valid[0].tolist() == [s % 4 != 0 for s in range(S)]
    with torch.no_grad():
        loss = float(unrolled(model, segment, TrainConfig(), free_running(S)))
        rolled = float(unrolled(model, segment, PLAIN, free_running(S)))
    assert loss == pytest.approx(rolled / 1.5)


def test_scheduled_sampling_falls_to_zero_halfway():
    # 1,000 x 9 coins: deviation 0.0053, six of them.
    z = walk(1100, D)
    windows = Windows(make_frames([z], ["train"]), "train", W, S)
    segment = windows.gather(torch.arange(1000))
    config = TrainConfig(sampling_start=0.6)
    for progress, expected in ((0.0, 0.6), (0.25, 0.3), (0.4, 0.12)):
        mask = sampling_mask(segment, config, progress, torch.Generator().manual_seed(0))
        assert mask.shape == (1000, S)
        assert abs(float(mask.double().mean()) - expected) < 0.032
    for progress in (0.5, 0.7, 1.0):
        assert not sampling_mask(segment, config, progress, torch.Generator()).any()


def test_the_mask_given_is_the_mask_used():
    model = small_model("mdn", D)
    _, segment = segment_of(S)
    mask = scheduled_sampling((len(segment.context), S), 0.5, torch.Generator().manual_seed(1))
    with torch.no_grad():
        some, none, every = (
            float(unrolled(model, segment, PLAIN, m)) for m in (mask, free_running(S), teacher_forcing(S))
        )
    assert len({round(x, 6) for x in (some, none, every)}) == 3


NOISY = PLAIN.model_copy(update={"context_noise": 0.5})


def test_noise_on_the_context_is_of_every_level_up_to_the_largest():
    """5 % of the deviation of 2,000 levels: fails by chance under once in 10^6, and the seed is fixed."""
    segment = Segment(
        torch.zeros(2000, W, 40),
        torch.zeros(2000, 1, 40),
        torch.ones(2000, 1).bool(),
        torch.zeros(2000, 1).long(),
        lambda: torch.zeros(0),
    )
    noise = noisy(segment, NOISY, torch.Generator().manual_seed(0)).context
    level = noise.flatten(1).std(1)
    assert level.max() < 0.5 * 1.25
    assert level.mean().item() == pytest.approx(0.25, rel=0.05)
    assert level.std().item() == pytest.approx(0.5 / 12**0.5, rel=0.08)
    # One level for an example, independent numbers in its frames.
    assert torch.corrcoef(noise.std(2).T)[0, 1] > 0.9
    assert abs(torch.corrcoef(noise[:, :2].flatten(2).transpose(0, 1).flatten(1))[0, 1]) < 0.02


def test_the_increment_leads_from_the_noisy_frame_back_to_the_true_one():
    _, segment = segment_of(1)
    before = segment.context.clone()
    disturbed = noisy(segment, NOISY, torch.Generator().manual_seed(0))
    assert torch.equal(segment.context, before)
    assert not torch.equal(disturbed.context, before)
    torch.testing.assert_close(disturbed.context[:, -1] + disturbed.delta[:, 0], segment.future[:, 0])


def test_the_last_frames_stay_clean_when_asked():
    _, segment = segment_of(1)
    config = NOISY.model_copy(update={"clean_frames": 2})
    disturbed = noisy(segment, config, torch.Generator().manual_seed(0))
    assert torch.equal(disturbed.context[:, 1:], segment.context[:, 1:])
    assert (disturbed.context[:, 0] != segment.context[:, 0]).all()
    assert torch.equal(disturbed.delta, segment.delta)
