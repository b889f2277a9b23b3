"""The scripts that print the tables of docs/ run, on small worlds, and print the rows that the pages have."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_engram.config import read_config
from audio_engram.runs import Run

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("model.width=8", "model.memory.prototypes=4", "train.epochs=1", "experiments.resamples=1000")


@pytest.fixture
def print_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What a script prints, line by line."""

    def called(name: str, *words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(ROOT / "scripts" / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return called


@pytest.fixture
def world(place: Path) -> str:
    """A run of a small world."""
    Run("run", read_config(settings=("data.corpus=world:ar", "data.test=0.4", *SMALL)), log=lambda line: None)
    return "run"


def rows_of(page: str, header: str) -> list[str]:
    """The first cells of the table of a page that has `header` in its first line."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = text[text.index(header) :].split("\n\n")[0]
    return re.findall(r"^\| ([^|]+) \|", table, re.M)[1:]


def test_controls_have_a_row_each(world: str, print_table) -> None:
    lines = print_table("controls", world, "--seconds", "2.4", "--trajectories", "4")
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and "frechet" not in line]
    assert [row[0].removeprefix("| ") for row in rows] == rows_of("manifold.md", "| Lyra, 256 dimensions")
    assert [row[3] for row in rows[:4]] == ["0.75", "0.50", "0.25", "0"]  # times as long as they are
    assert lines[-1].startswith("real halves, 95 % of 32: frechet_latents ")


def test_intervals_hold_the_truth_by_the_jackknife_and_not_by_the_bootstrap(print_table) -> None:
    lines = print_table("intervals_of_distances", "--trials", "2")
    scales = [line.split(" | ") for line in lines[2:]]
    assert [row[0].removeprefix("| ") for row in scales] == rows_of("manifold.md", "| scale | true ratio")
    assert (scales[-1][4], scales[-1][6]) == ("0 of 2", "2 |")  # fixed seeds


def test_trainings_from_four_streams_are_told_apart(world: str, print_table) -> None:
    line = print_table("luck_of_training", world)[-1]
    place, _, frames, memory, layer, _ = line.removeprefix("| ").split("|")
    assert place.strip() == "world:ar, width 8"
    differences = [float(value) for cell in (memory, layer) for value in cell.split(",")]
    assert int(frames) > 0
    assert len(differences) == 7
    assert len(set(differences)) > 3


def test_starts_of_clusters_differ_by_what_is_told(world: str, print_table) -> None:
    rows = print_table("starts_of_clusters", world, "--counts", "2,4")[1:]
    for row, k in zip(rows, (2, 4), strict=True):
        number, starts, spread = row.strip("| ").split(" | ")
        found = [float(value) for value in starts.split(", ")]
        assert (int(number), len(found)) == (k, 4)
        assert float(spread) == pytest.approx(max(found) - min(found), abs=2e-4)


def test_copies_that_are_planted_are_found(place: Path, print_table) -> None:
    for number in range(8):
        path = place / f"speech/s{number}/a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, 48_000), 16_000)
    Run("run", read_config(settings=("data.corpus=folder:speech", *SMALL)), log=lambda line: None)
    rows = dict(line.split(" | ", 1) for line in print_table("planted_copies", "run") if " | " in line)
    words = [name.split(" (")[0].replace(",", "") for name in rows_of("data.md", "| change of the copy")]
    assert list(rows) == words
    assert rows["none"] == rows["1 dB quieter"] == "8 of 8 | others 0"
