"""Latents without a codec: the whole ladder on a folder of arrays, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from audio_engram import cli
from audio_engram.decide import ARRAYS
from audio_engram.decision import Decision
from audio_engram.measurements import Measurements

SMALL = [
    *("--set", "model.width=8", "--set", "model.context=2", "--set", "model.components=2", "--set", "train.epochs=1"),
    *(
        "--set",
        "experiments.lags=[1]",
        "--set",
        "experiments.surrogate_lags=[1]",
        "--set",
        "experiments.resamples=1000",
    ),
    *("--device", "cpu", "--set", "train.precision=float32", "--set", "experiments.steps=4"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = ["file,speaker"]
    for speaker in range(24):
        np.save(tmp_path / f"{speaker}.npy", generator.standard_normal((60, 6)).cumsum(0).astype(np.float32) * 0.1)
        rows.append(f"{speaker}.npy,s{speaker:02d}")
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for path in tmp_path.glob("*.npy"):
        path.rename(arrays / path.name)
    (arrays / "speakers.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(*words: str) -> int:
    return cli.main(["run", "--latents", "arrays", *SMALL, *words])


def test_every_experiment_works_on_arrays_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "predictability,injection,representation,smoothing"
    settings = ["--set", "experiments.rollout_seconds=0.32", "--set", "codec.frame_rate=12.5", "--set", "codec.pca=4"]
    assert run("--experiments", names, *settings) == 0
    assert "Report: runs/latents-arrays/report.html" in capsys.readouterr().out
    measured = Measurements.read(folder / "runs/latents-arrays/measurements.json")
    assert {m.experiment for m in measured} == set(names.split(","))
    assert {m.codec for m in measured.select(experiment="predictability")} == {"latents 12.5 Hz · PCA 4"}
    assert not (folder / "runs/latents-arrays/audio").exists()
    priors = Decision.read(folder / "runs/latents-arrays/decision.json").priors
    assert priors
    assert all((p.outcome, p.brier, p.why) == (None, None, ARRAYS) for p in priors)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "codec.frame_rate: say how many frames of latents there are in a second"),
        (
            ["--codec", "lyra", "--set", "codec.frame_rate=12.5"],
            2,
            "codec.name: the latents of latents:arrays come from no",
        ),
        (
            ["--set", "codec.frame_rate=12.5", "--set", "codec.pca=7"],
            2,
            "codec.pca = 7: latents 12.5 Hz has 6 dimensions",
        ),
        (["--set", "codec.frame_rate=12.5", "--set", "codec.smoother=3"], 2, "cannot be decoded"),
        (["--corpus", "demo"], 2, "--latents is a corpus of its own"),
    ],
)
def test_what_makes_no_sense_without_a_codec_is_refused(
    folder: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "runs").exists()


def test_arrays_that_are_not_finite_stop_the_run_and_are_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = np.load(folder / "arrays/3.npy")
    bad[7, 2] = np.nan
    np.save(folder / "arrays/3.npy", bad)
    assert run("--set", "codec.frame_rate=12.5") == 3
    assert "1 of 24 items failed" in capsys.readouterr().err


def test_a_world_refuses_a_codec(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--corpus", "world:noise", "--codec", "lyra", *SMALL]) == 2
    assert "codec.name: the latents of world:noise come from no codec" in capsys.readouterr().err
