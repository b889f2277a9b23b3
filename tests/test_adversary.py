"""The discriminator: bounded, reproducible, told apart only what differs, and a force towards what is true."""

import pytest
import torch

from audio_engram.adversary import Adversary, Discriminator
from audio_engram.config import TrainConfig
from audio_engram.data.windows import Segment
from audio_engram.errors import NumericalError, UsageError
from audio_engram.train import fit
from toys import training_toy

D, S, B = 3, 4, 256
ADVERSE = TrainConfig(
    unroll=4, epochs=4, batch_size=16, learning_rate=5e-3, precision="float32", step="sample", adversary=0.5
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def stretch(generator, scale=1.0):
    z = scale * torch.randn(B, 1 + S, D, generator=generator)
    ones = torch.ones(B, S)
    return Segment(z[:, :1], z[:, 1:], ones.bool(), ones.long(), lambda: torch.zeros(B, 1))


def adversary(seed=0):
    return Adversary(D, S, 32, seed, torch.device("cpu"))


def test_no_layer_stretches_more_than_its_input():
    discriminator = Discriminator(D, S, 32, seed=0)
    for _ in range(30):
        discriminator(torch.zeros(2, D), torch.ones(2, S, D))
    for layer in discriminator.layers[::2]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1.0, abs=0.02)


def test_increments_are_seen_from_the_frame_before():
    discriminator, latents = Discriminator(D, S, 32, seed=0).eval(), torch.randn(5, S, D, generator=seeded(0))
    one, other = discriminator(torch.zeros(5, D), latents), discriminator(torch.ones(5, D), latents)
    assert (one != other).all()
    flat = torch.cat([latents, latents.diff(dim=1, prepend=torch.zeros(5, 1, D))], dim=2).flatten(1)
    torch.testing.assert_close(one, discriminator.layers(flat).squeeze(1))


@pytest.mark.parametrize(("scale", "low", "high"), [(0.3, 0.97, 1.0), (1.0, 0.45, 0.55)])
def test_only_what_differs_is_told_apart(scale, low, high):
    """Of 60 x 256 pairs alike the share is 0.5 with a standard error of 0.004; 0.05 is over ten."""
    judge, generator = adversary(), seeded(1)
    for n in range(300):
        segment = stretch(generator)
        # Every stretch rolled out starts from the frame that the true one starts from.
        judge(segment, stretch(generator, scale).future)
        judge.step()
        if n == 239:
            judge.accuracy()
    assert low <= judge.accuracy() <= high
    assert judge.accuracy() != judge.accuracy()  # nothing was judged since


def test_a_model_that_is_pushed_comes_to_the_truth():
    shift = torch.full((D,), 2.0, requires_grad=True)
    optimizer = torch.optim.SGD([shift], lr=0.02)
    judge, generator = adversary(), seeded(2)
    for _ in range(1000):
        loss = judge(stretch(generator), stretch(generator).future + shift)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        judge.step()
    assert shift.abs().max() < 0.5


def test_a_seed_gives_one_discriminator_and_leaves_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = adversary().tensors()
    assert torch.equal(torch.rand(3), expected)
    again, other = adversary().tensors(), adversary(1).tensors()
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_a_loss_that_is_not_finite_is_named():
    judge, segment = adversary(), stretch(seeded(0))
    judge(segment, segment.future * float("inf"))
    with pytest.raises(NumericalError, match="the discriminator's loss is not finite"):
        judge.step()


def test_training_against_it_is_recorded_and_differs():
    weights = {}
    for strength in (0.0, 0.5):
        config = ADVERSE.model_copy(update={"adversary": strength})
        model, windows = training_toy("mdn", config)
        history = fit(model, windows, config, seed=3)
        weights[strength] = model.head.linear.weight.detach().clone()
        told = [epoch.get("told_apart") for epoch in history.epochs]
        assert all(0 <= t <= 1 for t in told) if strength else told == [None] * len(told)
    assert not torch.equal(weights[0.0], weights[0.5])


def test_it_has_nothing_to_judge_without_a_rollout():
    config = ADVERSE.model_copy(update={"unroll": 1})
    model, windows = training_toy("mdn", config)
    with pytest.raises(UsageError, match=r"train.adversary: judges rollouts: set train.unroll above 1"):
        fit(model, windows, config, seed=3)
