"""Draws from stored residuals: what is stored, and what a model draws after it."""

import math

import pytest
import torch

from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.drawn_residuals import STORED, DrawnResiduals, store_residuals
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.model import make_model
from audio_engram.errors import UsageError
from audio_engram.forcing import free_running
from audio_engram.rollout import RolloutOptions, rollout
from toys import ar_frames

CONFIG = ModelConfig(context=2, width=8, depth=1)


@pytest.fixture(scope="module")
def windows():
    return Windows(ar_frames(), "train", 2, 1)


def drawing_of(one, windows, share=1.0):
    return DrawnResiduals(one, store_residuals(one, windows, seed=0), 0.5, share)


def model(windows, kind="mdn", covariance="diagonal"):
    start = measure_start(windows, fit_baseline("ar1", windows), covariance)
    return make_model(kind, CONFIG.model_copy(update={"covariance": covariance}), start, seed=0)


@pytest.mark.parametrize("covariance", ["diagonal", "semi-tied"])
def test_what_is_stored_is_what_the_model_leaves_over(windows, covariance):
    one = model(windows, covariance=covariance)
    drawing = drawing_of(one, windows)
    (segment,) = windows.batches(windows.with_valid_target(), 10**6)
    with torch.no_grad():
        law = one(segment.context)
    left = (segment.delta[:, 0] - law.mean) / law.spread[:, None]
    stored = drawing.residuals.coloured(drawing.residuals.white)
    assert len(stored) == min(STORED, len(left))
    assert float(torch.cdist(stored, left.double()).min(1).values.max()) < 1e-5
    found = drawing(segment.context[:5])
    torch.testing.assert_close(found.loc, law.mean[:5])
    torch.testing.assert_close(found.scale, law.spread[:5])


def test_only_training_speakers_are_stored(windows):
    one = model(windows)
    other = Windows(ar_frames(), "test", 2, 1)
    (segment,) = other.batches(other.with_valid_target(), 10**6)
    with torch.no_grad():
        law = one(segment.context)
    held = ((segment.delta[:, 0] - law.mean) / law.spread[:, None]).double()
    drawing = drawing_of(one, windows)
    stored = drawing.residuals.coloured(drawing.residuals.white)
    assert float(torch.cdist(held, stored).min(1).values.median()) > 1e-3


def test_no_more_are_stored_than_there_is_room_for_and_the_seed_says_which(windows, monkeypatch):
    monkeypatch.setattr("audio_engram.dynamics.drawn_residuals.STORED", 50)
    one = model(windows)
    first, again, other = (store_residuals(one, windows, seed).white for seed in (0, 0, 1))
    assert first.shape[0] == 50
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rollouts_draw_from_it_and_follow_the_seed(windows):
    drawing = drawing_of(model(windows), windows)
    (segment,) = windows.batches(windows.with_valid_target()[:6], 10)

    def rolled(seed):
        options = RolloutOptions("sample", generator=torch.Generator().manual_seed(seed))
        return rollout(drawing, segment.context, free_running(40), options=options).latents

    assert torch.equal(rolled(0), rolled(0))
    assert not torch.equal(rolled(0), rolled(1))
    assert bool(rolled(0).isfinite().all())


def test_with_a_share_the_other_draws_and_nats_are_those_of_the_learned_density(windows):
    one = model(windows)
    whole, most = (drawing_of(one, windows, share) for share in (1.0, 0.9))
    (segment,) = windows.batches(windows.with_valid_target()[:200], 200)
    delta = segment.delta[:, 0]
    with torch.no_grad():
        stored, learned = (law(segment.context).log_prob(delta) for law in (whole, one))
        found = most(segment.context).log_prob(delta)
    torch.testing.assert_close(found.exp(), 0.9 * stored.exp() + 0.1 * learned.exp())
    assert float((learned - found).max()) <= math.log(10)
    options = RolloutOptions("sample", generator=torch.Generator().manual_seed(0))
    assert bool(rollout(most, segment.context, free_running(40), options=options).latents.isfinite().all())


def test_a_density_without_a_known_spread_is_refused(windows):
    with pytest.raises(UsageError, match="the spread of vmf models is not known: use an mdn model"):
        store_residuals(model(windows, "vmf"), windows, seed=0)
