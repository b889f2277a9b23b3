"""Trials of a calibration on disk: which are there, whose they are, and which files may be deleted."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from audio_engram.calibration_plan import SETTINGS, Row
from audio_engram.data.manifest import text_checksum
from audio_engram.data.publish import make_folder, publish_text, remove_leftovers, unwritable
from audio_engram.data.sealed import Unfit, read_sealed, write_sealed
from audio_engram.data.worlds import WORLDS
from audio_engram.decision import Finding
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement

FOLDER, MADE_WITH = "trials", "settings.json"
WRITTEN = ("calibration.json", "calibration.html")
_NAME = rf"(?P<experiment>{'|'.join(EXPERIMENTS)})-(?:{'|'.join(WORLDS)})-\d{{4,}}"
_OUTCOME = re.compile(rf"{_NAME}\.json")
_LEFTOVER = re.compile(rf"\.(?:{re.escape(MADE_WITH)}|{_NAME}(?:\.json)?)\.\w+\.tmp")


@dataclass(frozen=True)
class Trial:
    """One row with one seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """The file of its outcome, without ending."""
        return f"{self.row.experiment}-{self.row.world}-{self.seed:04d}"


@dataclass(frozen=True)
class Kept:
    """An outcome that was kept."""

    measurements: list[Measurement]
    findings: list[Finding]
    analytic: list[tuple[str, float]]

    def __post_init__(self) -> None:
        if not self.findings:
            raise ValueError("it has no finding")


_KEPT = TypeAdapter(Kept)


def write_trial(folder: Path, trial: Trial, kept: Kept) -> None:
    """Write an outcome, atomically.

    Raises:
        EngramError: the disk is full, or the folder cannot be written.
    """
    fields = _KEPT.dump_python(kept, mode="json", exclude_defaults=True)
    write_sealed(trial_file(folder, trial), _identity(trial), fields)


def read_trial(folder: Path, trial: Trial) -> Kept:
    """Raises: DataError for a file that is missing, damaged or of another trial."""
    path = trial_file(folder, trial)
    try:
        return read_sealed(path, _identity(trial), _KEPT.validate_python)
    except Unfit as reason:
        raise DataError(f"{path}: {reason}: calibrate again") from reason


def is_done(folder: Path, trial: Trial, log: Callable[[str], None]) -> bool:
    """Whether a trial has its outcome. A file that cannot be taken is none, which the log says."""
    path = trial_file(folder, trial)
    if not path.exists():
        return False
    try:
        read_sealed(path, _identity(trial), _KEPT.validate_python)
    except Unfit as reason:
        log(f"{path}: {reason}: carried out again")
        return False
    return True


def trial_file(folder: Path, trial: Trial) -> Path:
    """Where its outcome is kept."""
    return folder / FOLDER / f"{trial.name}.json"


def _identity(trial: Trial) -> dict[str, str]:
    """What an outcome follows from."""
    row = trial.row
    of = {"experiment": row.experiment, "world": row.world, "seed": str(trial.seed)}
    configuration = text_checksum(json.dumps({"settings": row.settings, "speakers and utterances": row.size}))
    return of | {"version": version("audio-engram"), "configuration": configuration}


def made_with() -> str:
    """What all trials in a folder have in common, which is kept beside them."""
    return json.dumps({"version": version("audio-engram"), "settings": SETTINGS}, indent=1) + "\n"


def claim(folder: Path) -> None:
    """Make the folder one of trials with these settings, or find that it is.

    Raises:
        UsageError: it holds trials of other settings or of another version, or cannot be read or written.
    """
    make_folder(folder / FOLDER)
    if _of_others(folder):
        raise UsageError(
            f"--out {folder}: holds trials of other settings or of another version: use --overwrite or another --out"
        )
    publish_text(folder / FOLDER / MADE_WITH, made_with())


def _of_others(folder: Path) -> bool:
    path = folder / FOLDER / MADE_WITH
    try:
        # As bytes: a damaged file need not be text.
        return path.read_bytes() != made_with().encode()
    except FileNotFoundError:
        return any(path.parent.glob("*.json"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): choose another --out") from error


def clear(folder: Path, experiments: list[str]) -> None:
    """Delete the outcomes of these experiments, or of all, and nothing else.

    Raises:
        UsageError: there are files that no calibration wrote, or other experiments' trials of other settings; or the
            folder cannot be changed.
    """
    trials = folder / FOLDER
    if trials.is_symlink():
        raise UsageError(
            f"{trials}: is a link, so --overwrite deletes nothing there: remove it or choose another --out"
        )
    if not trials.is_dir():
        return
    ours, rest = _ours(trials, experiments)
    if rest and _of_others(folder):
        raise UsageError(
            f"{rest[0]}: of other settings or of another version, which cannot stand beside new trials: "
            "use --overwrite without --only, or another --out"
        )
    try:
        for path in [*ours, *([] if rest else [trials / MADE_WITH])]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(trials, error) from error


def _ours(trials: Path, experiments: list[str]) -> tuple[list[Path], list[Path]]:
    """The outcomes of these experiments, and those of others."""
    ours: list[Path] = []
    rest: list[Path] = []
    for path in sorted(trials.glob("[!.]*")):
        match = _OUTCOME.fullmatch(path.name)
        if path.is_dir() or not (match or path.name == MADE_WITH):
            raise UsageError(
                f"{path}: was not written by a calibration, so --overwrite deletes nothing here: move it away"
            )
        if match:
            (ours if not experiments or match["experiment"] in experiments else rest).append(path)
    return ours, rest


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Say that a calibration is at work in the folder. Where no other is, remove what a killed one left there.

    Raises: UsageError when the folder cannot be changed.
    """
    # The folder itself is locked: the system lets go of it however the process ends, and no file is left.
    handle = os.open(folder / FOLDER, os.O_RDONLY)
    try:
        if _locked(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _remove_leftovers(folder)
        _locked(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how)
    except OSError:  # another holds it, or the file system knows no locks and nobody can tell
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    try:
        for name in WRITTEN:
            remove_leftovers(folder, name)
        for path in (folder / FOLDER).glob(".*.tmp"):
            if not _LEFTOVER.fullmatch(path.name):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
