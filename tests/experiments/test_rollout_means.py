"""Means over steps of rollouts: which steps and segments they take, and whose speakers they are resampled over."""

from dataclasses import fields

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.experiments.rollouts import free_rollouts, mean_after
from audio_engram.experiments.same_frames import SameFrames
from audio_engram.metrics import RolloutScores
from audio_engram.rollout import RolloutOptions
from audio_engram.runs import Run

STEPS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        patch.setattr(World, "frames", 40)
        experiments = {"steps": STEPS, "resamples": 1000, "max_segments": 50}
        data = {"corpus": "world:noise:20", "test": 0.4, "validation": 0.3}
        run = Run(
            tmp_path_factory.mktemp("run"),
            make_config({"device": "cpu", "data": data, "model": {"context": 2}, "experiments": experiments}),
            log=lambda line: None,
        )
        run.frames()
        return run


def scores(run, split, valid):
    """Rollouts that stood still: speakers in turn those of a split, and where increments have a density."""
    frames = run.frames()
    among = frames.speaker[frames.in_split(split)].unique()
    speaker = among[torch.arange(len(valid)) % len(among)].unsqueeze(1).expand(-1, STEPS)
    nothing = {f.name: torch.zeros(len(valid), STEPS) for f in fields(RolloutScores)}
    return RolloutScores(**nothing | {"valid": valid, "speaker": speaker, "finite": torch.ones_like(valid)})


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_mean_takes_the_steps_after_one_where_the_increment_has_a_density(run, split, step):
    source = torch.Generator().manual_seed(step)
    valid = torch.rand(24, STEPS, generator=source) < 0.7
    values = torch.randn(24, STEPS, generator=source).masked_fill(~valid, 1e6)
    rolled = scores(run, split, valid)
    found = mean_after(run, rolled, values, step, split)
    taken = [
        (int(rolled.speaker[m, s]), float(values[m, s]))
        for m in range(24)
        for s in range(step, STEPS)
        if bool(valid[m, s])
    ]
    assert found.n_frames == len(taken)
    assert found.n_speakers == len({speaker for speaker, _ in taken})
    assert found.value == pytest.approx(sum(value for _, value in taken) / len(taken), abs=1e-6)
    assert found.low < found.value < found.high


def test_a_mean_counts_no_speaker_without_a_step_in_it(run):
    values = torch.randn(24, STEPS, generator=torch.Generator().manual_seed(0))
    rolled = scores(run, "test", torch.ones(24, STEPS, dtype=torch.bool))
    speakers = rolled.speaker[:, 0].unique()
    rolled.valid[rolled.speaker[:, 0] == speakers[0]] = False
    found = mean_after(run, rolled, values, 1)
    assert found.n_speakers == len(speakers) - 1 == 7
    assert found.low < found.value < found.high


def test_free_running_goes_as_far_as_the_segments_and_sees_no_true_frame(run):
    same = SameFrames(run, "sampling")
    ar1, (windows, index) = run.baseline("ar1"), same.segments
    rolled = same.rolled(ar1, RolloutOptions())
    assert rolled.state_error.shape == (50, STEPS)
    assert torch.equal(
        free_rollouts(run, ar1, (windows, index[:7]), RolloutOptions()).state_error, rolled.state_error[:7]
    )
    segment = windows.gather(index)
    state, errors = segment.context[:, -1], []
    for s in range(STEPS):
        state = state + ar1(state.unsqueeze(1)).typical
        errors.append((state - segment.future[:, s]).norm(dim=1))
    torch.testing.assert_close(rolled.state_error, torch.stack(errors, 1), rtol=1e-4, atol=1e-5)
