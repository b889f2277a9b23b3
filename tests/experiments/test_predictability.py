"""The verdict's third condition: an order that AR(1) does not tell, whatever the shape of the density."""

import importlib

import pytest

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.runs import Run

experiment = importlib.import_module("audio_engram.experiments.predictability")
SETTINGS = {
    "device": "cpu",
    "model": {"context": 2, "width": 24, "depth": 1, "components": 2},
    "train": {"epochs": 6, "batch_size": 128, "learning_rate": 5e-3, "precision": "float32"},
    "experiments": {"lags": [1], "surrogate_lags": [1], "resamples": 1000},
}


@pytest.fixture
def climb(tmp_path, monkeypatch):
    monkeypatch.setattr(World, "utterances_per_speaker", 2)

    def make(name, frames, **codec):
        monkeypatch.setattr(World, "frames", frames)
        config = make_config(SETTINGS | {"codec": codec, "data": {"corpus": f"world:{name}:24", "test": 0.4}})
        return Run(tmp_path / name, config, log=lambda line: None)

    return make


@pytest.mark.slow
def test_a_density_of_a_better_shape_is_no_dynamics(climb):
    run = climb("correlated", 150)
    for head in experiment.HEADS:
        real = experiment.cell(run, 1, "real")
        assert float(real.above(head, real.best_trivial()).mean()) < -0.1
        # Of 10 speakers with 300 frames each the deviation is near 0.02; the margin is 0.08.
        beyond = experiment.excess_dynamics(run, head)
        assert beyond.value == pytest.approx(0, abs=0.07)
        assert experiment.criterion_for(run, beyond.metric).judge(beyond) != "pass"


@pytest.mark.slow
@pytest.mark.parametrize("codec", [{}, {"smooth": 3}])
def test_smoothing_noise_makes_no_dynamics_and_a_surrogate_is_smoothed_alike(climb, codec):
    run = climb("noise", 100, **codec)
    beyond = experiment.excess_dynamics(run, "mdn")
    # 32 dimensions, so that a verdict would need -0.32; an unsmoothed surrogate would be told by 10 nats.
    assert beyond.value == pytest.approx(0, abs=0.3)


@pytest.mark.slow
def test_an_order_that_autoregression_does_not_tell_is_found(climb, monkeypatch):
    monkeypatch.setattr("audio_engram.data.processes.AR.frames", 150)
    run = climb("ar", 150)
    assert experiment.beyond_trivial(run, "mdn").high < experiment.criterion_for(run, "").threshold
    assert experiment.excess_dynamics(run, "mdn").high < -5
