"""Forcing masks: which steps feed back a true frame."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.forcing import free_running, injection, periodic, scheduled_sampling, teacher_forcing


def steps_of(mask):
    return [s + 1 for s in mask[0].nonzero().flatten().tolist()]


def test_the_five_masks():
    assert steps_of(teacher_forcing(4)) == [1, 2, 3, 4]
    assert steps_of(free_running(4)) == []
    assert steps_of(injection(16, [4, 8, 12])) == [4, 8, 12]
    assert steps_of(injection(5, [1])) == [1]
    assert steps_of(periodic(7, 3)) == [3, 6]


@given(st.integers(1, 40), st.integers(1, 50))
def test_periodic_is_injection_at_the_multiples(steps, every):
    assert steps_of(periodic(steps, every)) == [s for s in range(1, steps + 1) if s % every == 0]


@given(st.integers(1, 20), st.data())
def test_injection_marks_its_steps_and_no_other(steps, data):
    after = data.draw(st.sets(st.integers(1, steps)))
    mask = injection(steps, sorted(after))
    assert mask.shape == (1, steps)
    assert mask.dtype == torch.bool
    assert set(steps_of(mask)) == after


@pytest.mark.parametrize("step", [0, -1, 9])
def test_a_step_outside_the_rollout_is_refused(step):
    with pytest.raises(ValueError, match=f"after step {step}: steps run from 1 to 8"):
        injection(8, [step])


def test_scheduled_sampling_draws_for_each_example_with_the_probability_given():
    # 40,000 coins at p = 0.3 have deviation 0.0023: five of them fail in fewer than 1 of a million seeds.
    mask = scheduled_sampling((2500, 16), 0.3, torch.Generator().manual_seed(0))
    assert mask.shape == (2500, 16)
    assert abs(float(mask.double().mean()) - 0.3) < 0.0115
    assert abs(float(mask.double().mean(0).std())) < 0.02
    assert not torch.equal(mask[0], mask[1])


def test_scheduled_sampling_at_the_ends_and_from_the_same_seed():
    draw = torch.Generator().manual_seed
    assert not scheduled_sampling((50, 16), 0.0, draw(0)).any()
    assert scheduled_sampling((50, 16), 1.0, draw(0)).all()
    assert torch.equal(scheduled_sampling((5, 9), 0.5, draw(1)), scheduled_sampling((5, 9), 0.5, draw(1)))
