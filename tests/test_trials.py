"""Trials on disk: only a trial's own sound file is taken, and only what a calibration wrote is deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audio_engram import calibration, calibration_plan, cli, trials
from audio_engram.calibration import calibrate
from audio_engram.calibration_plan import PLAN, Row
from audio_engram.data.manifest import text_checksum
from audio_engram.decision import Criterion, Finding
from audio_engram.errors import DataError, UsageError
from audio_engram.measurements import Measurement
from audio_engram.trials import Kept, Trial, at_work, clear, is_done, made_with, read_trial, write_trial

NOISE = next(row for row in PLAN if (row.experiment, row.world) == ("structure", "noise"))
OTHER = next(row for row in PLAN if row.experiment == "archetypes")
CRITERION = Criterion(experiment="structure", question="?", metric="m", relation="below", threshold=0.6, reason="")
MEASURED = Measurement(experiment="structure", model="m", metric="m", value=0.1 + 0.2, low=1e-300)
FINDING = Finding(criterion=CRITERION, measured=MEASURED, verdict="fail", words="", would_change="")
KEPT = Kept([MEASURED], [FINDING], [("delta_nll", -15.6)])


@pytest.fixture
def folder(tmp_path):
    """One trial of each of two experiments."""
    out = tmp_path / "out"
    (out / "trials").mkdir(parents=True)
    (out / "trials/settings.json").write_text(made_with())
    for row in (NOISE, OTHER):
        write_trial(out, Trial(row, 0), KEPT)
    return out


@pytest.fixture
def noise(folder):
    return folder / "trials/structure-noise-0000.json"


def resealed(text, **changes):
    fields = json.loads(text) | changes
    fields.pop("checksum")
    return json.dumps(fields | {"checksum": text_checksum(json.dumps(fields))})


DAMAGE = {
    "half": (lambda text: text[: len(text) // 2], "damaged ("),
    "deep": (lambda text: "[" * 100_000, "damaged (maximum recursion"),
    "not text": (lambda text: text.replace("fail", "\udcff"), "damaged ('utf-8' codec"),
    "verdict": (lambda text: text.replace('"fail"', '"pass"'), "damaged (its checksum is not that of its content)"),
    "nothing found": (lambda text: resealed(text, findings=[]), "damaged (1 validation error"),
    "no identity": (lambda text: resealed(text, of={}), "of another experiment and another world and another seed and"),
}


def test_a_trial_comes_back_as_it_was(folder):
    assert read_trial(folder, Trial(NOISE, 0)) == KEPT
    assert is_done(folder, Trial(NOISE, 0), print)
    assert not is_done(folder, Trial(NOISE, 1), print)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_trial_is_carried_out_again_and_the_log_says_so(folder, noise, kind):
    damage, said = DAMAGE[kind]
    before = noise.read_text()
    noise.write_text(damage(before), errors="surrogateescape")
    assert noise.read_bytes() != before.encode()
    lines = []
    assert not is_done(folder, Trial(NOISE, 0), lines.append)
    (line,) = lines
    assert line.startswith(f"{noise}: {said}")
    assert line.endswith(": carried out again")
    with pytest.raises(DataError, match=r"structure-noise-0000\.json: .*: calibrate again$"):
        read_trial(folder, Trial(NOISE, 0))


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        (Trial(NOISE, 1), "another seed"),
        (Trial(Row("structure", "resonance", True), 0), "another world"),
        (Trial(Row("archetypes", "noise", True), 0), "another experiment and another configuration"),
    ],
)
def test_a_trial_under_the_name_of_another_is_not_taken(folder, noise, trial, said):
    shutil.copy(noise, folder / f"trials/{trial.name}.json")
    lines = []
    assert not is_done(folder, trial, lines.append)
    assert lines == [f"{folder}/trials/{trial.name}.json: of {said}: carried out again"]


def test_a_trial_of_another_version_or_other_settings_is_not_taken(folder, monkeypatch):
    lines = []
    with monkeypatch.context() as patch:
        patch.setitem(calibration_plan.OTHER_SIZES, "structure", (16, 2))
        assert not is_done(folder, Trial(NOISE, 0), lines.append)
    monkeypatch.setattr(trials, "version", lambda name: "9.9")
    assert not is_done(folder, Trial(NOISE, 0), lines.append)
    said = [line.partition(": of ")[2] for line in lines]
    assert said == [
        "another configuration: carried out again",
        "another version: carried out again",
    ]


def test_an_experiments_own_settings_are_those_of_its_trials_alone(folder, monkeypatch):
    change = {"experiments": {"steps": 9}}
    monkeypatch.setitem(calibration_plan.OTHER_SETTINGS, "structure", change)
    assert NOISE.settings["experiments"] == OTHER.settings["experiments"] | change["experiments"]
    assert not is_done(folder, Trial(NOISE, 0), print)
    assert is_done(folder, Trial(OTHER, 0), print)
    trials.claim(folder)  # the folder stays one of these settings


def test_trials_that_cannot_be_taken_are_carried_out(folder, noise, monkeypatch):
    class Pool:
        """Works in this process."""

        def __init__(self, jobs, mp_context, initializer):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *reason):
            pass

        def submit(self, work, *what):
            work(*what)
            return next(ended)

    class Ended:
        def result(self):
            pass

    ended = iter([Ended()])
    monkeypatch.setattr(calibration, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(calibration, "as_completed", list)
    monkeypatch.setattr(calibration, "carry_out", lambda folder, trial: write_trial(folder, trial, KEPT))
    noise.write_text("{")
    lines = []
    calibrate(folder, 1, 1, lines.append, [NOISE, OTHER])
    assert [line.rpartition(": ")[2] for line in lines[:1]] == ["carried out again"]
    assert lines[1:] == ["calibrate: 1 of 2 trials are there", "calibrate: structure-noise-0000 (2 of 2)"]
    assert read_trial(folder, Trial(NOISE, 0)) == KEPT


def test_trials_of_other_settings_are_not_mixed(folder, monkeypatch):
    calibrate(folder, 1, 1, print, [NOISE])
    settings = folder / "trials/settings.json"
    with monkeypatch.context() as patch:
        patch.setitem(calibration_plan.SETTINGS, "device", "cuda")
        with pytest.raises(UsageError, match=r"holds trials of other settings or of another version: use --overwrite"):
            calibrate(folder, 1, 1, print, [])
    with monkeypatch.context() as patch:
        patch.setattr(trials, "version", lambda name: "9.9")
        with pytest.raises(UsageError, match="another version"):
            calibrate(folder, 1, 1, print, [])
    settings.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="other settings"):
        calibrate(folder, 1, 1, print, [])
    settings.unlink()  # of a time when settings were not kept
    with pytest.raises(UsageError, match="other settings"):
        calibrate(folder, 1, 1, print, [])
    settings.mkdir()
    with pytest.raises(UsageError, match=r"settings\.json: cannot be read \(Is a directory\): choose another --out"):
        calibrate(folder, 1, 1, print, [])


def test_clearing_deletes_what_is_asked_for_and_nothing_else(folder):
    mine = folder / "trials/.notes"
    mine.write_text("mine")
    clear(folder, ["structure"])
    assert sorted(p.name for p in (folder / "trials").glob("[!.]*")) == [
        "archetypes-chained-0000.json",
        "settings.json",
    ]
    clear(folder, [])
    assert list((folder / "trials").iterdir()) == [mine]
    clear(folder / "nowhere", [])


@pytest.mark.parametrize(
    "name", ["notes.txt", "structure-noise-x.json", "structure-moon-0001.json", "mine-noise-0001.json"]
)
@pytest.mark.parametrize("experiments", [[], ["structure"]])
def test_clearing_refuses_files_that_no_calibration_wrote(folder, noise, name, experiments):
    (folder / "trials" / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name}: was not written by a calibration, so --overwrite deletes nothing"):
        clear(folder, experiments)
    assert noise.exists()
    (folder / "trials" / name).unlink()
    (folder / "trials/structure-noise-0009.json").mkdir()
    with pytest.raises(UsageError, match="was not written by a calibration"):
        clear(folder, experiments)
    assert noise.exists()


def test_clearing_some_of_the_trials_of_other_settings_is_refused_before_anything_is_deleted(
    folder, noise, monkeypatch
):
    monkeypatch.setitem(calibration_plan.SETTINGS, "device", "cuda")
    with pytest.raises(UsageError, match=r"archetypes-chained-0000\.json: of other settings .* without --only"):
        clear(folder, ["structure"])
    assert noise.exists()
    clear(folder, [])
    assert list((folder / "trials").iterdir()) == []


def test_a_link_is_not_cleared(folder, noise, tmp_path, capsys):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/trials").symlink_to(folder / "trials")
    assert cli.main(["calibrate", "--overwrite", "--seeds", "1", "--out", str(tmp_path / "linked")]) == 2
    assert "trials: is a link, so --overwrite deletes nothing there: remove it or choose" in capsys.readouterr().err
    assert noise.exists()


STALE = (
    "trials/.structure-noise-0000.json.0123456789ab.tmp",
    "trials/.settings.json.0123456789ab.tmp",
    ".calibration.json.0123456789ab.tmp",
    ".calibration.html.0123456789ab.tmp",
)
MINE = (".notes.tmp", ".mine.json.0123456789ab.tmp", "trials/.mine-noise-0000.json.0123456789ab.tmp", "engram-abcd1234")


def leave(folder):
    for name in (*STALE, *MINE):
        (folder / name).write_text("half")
    (folder / "trials/.structure-noise-0001.ab_d1234.tmp/latents").mkdir(parents=True, exist_ok=True)


def test_what_a_killed_calibration_left_is_removed_and_nothing_else(folder):
    before = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    leave(folder)
    calibrate(folder, 1, 1, print, [NOISE])
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == before | set(MINE)


def test_nothing_of_a_calibration_at_work_is_removed(folder):
    first, second = at_work(folder), at_work(folder)
    leave(folder)
    first.__enter__()
    assert not (folder / STALE[0]).exists()
    leave(folder)
    second.__enter__()  # locks are of open files, not of processes
    first.__exit__(None, None, None)
    with at_work(folder):  # beside the second
        assert all((folder / name).exists() for name in STALE)
        assert (folder / "trials/.structure-noise-0001.ab_d1234.tmp").exists()
    second.__exit__(None, None, None)
    with at_work(folder):
        assert not (folder / STALE[0]).exists()


PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from audio_engram.calibration import begin_work
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=begin_work) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_no_worker_outlives_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    for _ in range(300):
        if not alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker outlived its parent by half a minute")


def alive(process):
    """Whether it runs; one that has ended may wait for its parent to ask for its status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
