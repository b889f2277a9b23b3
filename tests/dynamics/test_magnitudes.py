"""All magnitudes at once: what the network sees of directions and context, and what it must never see."""

import pytest
import torch

from audio_engram.data.frames import SILENCE
from audio_engram.distributions import LogNormalMixture
from audio_engram.dynamics.magnitudes import LEAST, magnitude_loss
from magnitude_worlds import DIM, STEPS, magnitude_model, windows_of


@pytest.fixture(scope="module")
def windows():
    return windows_of(told=True, n=60)


@pytest.fixture(scope="module")
def segment(windows):
    return windows[0].gather(torch.arange(5))


def louder(model, seed=0):
    """Weights that do not cancel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def ahead_of(model, segment):
    return model.directions(torch.cat([segment.context[:, -1:], segment.future], dim=1))


def test_it_starts_at_the_law_of_all_training_magnitudes(windows, segment):
    model = magnitude_model(windows)
    torch.nn.init.zeros_(model.linear.weight)
    law = model(segment.context, ahead_of(model, segment))
    frames = windows[0].frames
    lengths = (frames.z[1:] - frames.z[:-1])[(frames.moving & frames.in_split("train"))[1:]].norm(dim=1).log()
    # The start leaves out increments before the first whole context.
    torch.testing.assert_close(law.loc, lengths.mean().expand(5, STEPS), atol=0.05, rtol=0)
    torch.testing.assert_close(law.scale, lengths.std().expand(5, STEPS), atol=0.05, rtol=0)


def test_directions_on_both_sides_count_and_far_ones_do_not(windows, segment):
    model = louder(
        magnitude_model(windows)
    ).double()  # layers of 5 taps, 1 and 2 apart: 6 steps, 7 with the turn before
    context, ahead = segment.context.double(), ahead_of(model, segment).double()
    law = model(context, ahead).loc
    for place in (0, 12, STEPS - 1):
        changed = ahead.clone()
        changed[:, place] = -changed[:, place]
        moved = (model(context, changed).loc - law).abs().amax(0) > 1e-12
        reach = torch.arange(STEPS) - place
        assert moved[(reach >= -6) & (reach <= 7)].all()
        assert not moved[(reach < -6) | (reach > 7)].any()


def test_of_the_context_directions_and_three_features_count(windows, segment):
    model = louder(magnitude_model(windows)).double()
    context, ahead = segment.context.double(), ahead_of(model, segment).double()
    found = model.features(context)
    assert found.shape == (5, DIM + 2)
    log_m = context.diff(dim=1).norm(dim=2).log()
    loc, spread = model.centre[0], model.centre[1].exp()
    torch.testing.assert_close(found[:, :DIM], context.mean(1))
    torch.testing.assert_close(found[:, DIM], (log_m.mean(1) - loc) / spread)
    torch.testing.assert_close(found[:, DIM + 1], log_m.std(1, correction=0) / spread)
    # The last layer sees every feature at every step.
    faster = context[:, -1:] + 2 * (context - context[:, -1:])
    assert ((model(faster, ahead).loc - model(context, ahead).loc).abs() > 1e-9).all()


def test_a_silent_context_has_features_and_no_directions(windows, segment):
    model = magnitude_model(windows)
    still = segment.context[:, :1].expand(-1, 4, -1)
    assert model.features(still)[:, DIM].tolist() == [LEAST] * 5
    assert not model.directions(still).any()
    barely = still + torch.linspace(0, 1, 4)[:, None] * SILENCE * 0.5 * model.centre[0].exp()
    assert not model.directions(barely).any()
    assert model(still, ahead_of(model, segment)).loc.isfinite().all()


def test_magnitudes_of_the_future_are_no_input(windows, segment):
    """The loss changes with them, the law does not."""
    model = louder(magnitude_model(windows)).double()
    context, delta = segment.context.double(), segment.delta.double()
    laws = []
    for factor in (1.0, 3.0):
        future = context[:, -1:] + (factor * delta).cumsum(1)
        ahead = model.directions(torch.cat([context[:, -1:], future], dim=1))
        laws.append(model(context, ahead).loc)
    torch.testing.assert_close(*laws)


@pytest.mark.parametrize("components", [1, 2])
def test_the_loss_is_that_of_single_steps_and_leaves_silence_out(windows, segment, components):
    model = louder(magnitude_model(windows, magnitude_components=components)).double()
    context, future = segment.context.double(), segment.future.double()
    future[1, 5] = future[1, 4]
    valid = segment.valid.clone()
    valid[1, 5] = False
    cut = type(segment)(context, future, valid, segment.speaker, segment.describe)
    law = model(context, model.directions(torch.cat([context[:, -1:], future], dim=1)))
    assert isinstance(law, LogNormalMixture) == (components == 2)
    log_prob = law.log_prob(cut.delta.norm(dim=2).clamp(min=1e-9))
    loss = magnitude_loss(model, cut)
    assert float(loss.detach()) == pytest.approx(-float(log_prob[valid].mean().detach()), rel=1e-9)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    nothing = type(segment)(context, future, torch.zeros_like(valid), segment.speaker, segment.describe)
    assert float(magnitude_loss(model, nothing).detach()) == 0.0


def test_it_can_be_made_again_from_a_seed(windows):
    one, again = magnitude_model(windows), magnitude_model(windows)
    other = magnitude_model(windows)
    other.initialise(1)
    assert torch.equal(one.embed.weight, again.embed.weight)
    assert not torch.equal(one.embed.weight, other.embed.weight)
