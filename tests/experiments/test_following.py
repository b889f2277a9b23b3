"""A run that follows the tree, and one of everything: what they ask, and what they leave out and say so."""

import pytest

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurements
from audio_engram.pipeline import climb
from audio_engram.runs import Run
from audio_engram.tree import BEGINNING, TREE

SETTINGS = {
    "device": "cpu",
    "model": {"context": 2, "width": 16, "depth": 1, "components": 2},
    "train": {"epochs": 2, "batch_size": 128, "learning_rate": 5e-3, "precision": "float32"},
    "experiments": {
        "lags": [1, 2],
        "surrogate_lags": [1],
        "ceiling_lags": [1, 3],
        "steps": 4,
        "unrolls": [4],
        "unroll_epochs": 1,
        "resamples": 1000,
        "max_segments": 200,
        "regimes": ["mdn"],
        "horizons": [1.0, 3.0],
        "stretch_seconds": 2.0,
        "trajectories": 12,
        "rollout_seconds": 0.32,
        "archetype_counts": [4],
        "structure_lags": [1],
    },
}


def climbed(folder, names, world="noise", log=lambda line: None):
    given = {
        "data": {"corpus": f"world:{world}:16", "test": 0.4},
        "experiments": SETTINGS["experiments"] | {"names": names},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        patch.setattr(World, "frames", 150)
        patch.setattr(World, "dim", 4, raising=False)
        run = Run(folder, make_config(SETTINGS | given), log=log)
        decision = climb(run, "test")
    return decision, Measurements.read(folder / "measurements.json")


def test_what_the_tree_asks_for_is_measured_and_nothing_else(tmp_path):
    lines: list[str] = []
    decision, records = climbed(tmp_path, ["tree"], log=lines.append)
    # How many there will be nobody knows.
    assert [line for line in lines if "experiment" in line][:2] == [
        f"{name}: experiment {place} ..." for place, name in enumerate(BEGINNING[:2], 1)
    ]
    path = {node.experiment for turn in decision.path for node in TREE.values() if node.question == turn.question}
    left_out = {name for name in EXPERIMENTS if f"The experiment {name} was left out" in "".join(decision.warnings)}
    assert {r.experiment for r in records} == (path | set(BEGINNING)) - left_out
    # Noise is not predictable, so that the tree goes by the representation to the rollouts.
    assert [turn.question for turn in decision.path] == [
        TREE[name].question for name in ("predictable", "representation", "speech")
    ]
    assert "was not run" not in "".join(turn.because for turn in decision.path)


def test_an_experiment_that_the_tree_asks_for_and_cannot_have_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS["experiments"], "stretch_seconds", 100.0)
    decision, records = climbed(tmp_path, ["tree"])
    assert "stability" not in {r.experiment for r in records}
    assert "cannot be measured here" in decision.path[-1].because
    assert any(w.startswith("The experiment stability was left out: ") for w in decision.warnings)
