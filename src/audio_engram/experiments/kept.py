"""Outcomes of finished experiments in the run's folder: a run that was cut short measures none of them again."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from audio_engram import archetype_map
from audio_engram.data.manifest import text_checksum
from audio_engram.data.publish import make_folder
from audio_engram.data.sealed import Unfit, read_sealed, write_sealed
from audio_engram.experiments import decoded, prototypes
from audio_engram.experiments.outcome import Outcome
from audio_engram.run_folder import deciding
from audio_engram.runs import Run
from audio_engram.training_loop import History

FOLDER = "outcomes"
BESIDE = {
    "archetypes": (archetype_map.FILE, f"{prototypes.FOLDER}/k*.safetensors"),
    "stability": (decoded.FILE,),
}
"""Files that an experiment writes besides what it gives back."""


@dataclass
class _Kept:
    """An outcome, every training of the run by then, which the report and its sounds look up, and the SHA-256 of the
    files that the experiment wrote."""

    outcome: Outcome
    histories: dict[str, History]
    beside: dict[str, str]


_KEPT = TypeAdapter(_Kept)


def keep(run: Run, name: str, outcome: Outcome) -> None:
    """Write the outcome of the experiment `name`, atomically.

    Raises:
        EngramError: the disk is full, or the folder cannot be written.
    """
    make_folder(run.folder / FOLDER)
    written = sorted(path for pattern in BESIDE.get(name, ()) for path in run.folder.glob(pattern))
    beside = {path.relative_to(run.folder).as_posix(): _checksum(path) for path in written}
    fields = _KEPT.dump_python(_Kept(outcome, run.histories, beside), mode="json")
    write_sealed(_file(run, name), _identity(run, name), fields)


def take(run: Run, name: str) -> Outcome | None:
    """The outcome of the experiment `name` that this very run has kept, with its trainings put back into the run.

    None where there is none, or one that is damaged, has lost a file or is of something else, which the log says.
    """
    file = _file(run, name)
    if not file.exists():
        return None
    try:
        kept = read_sealed(file, _identity(run, name), _KEPT.validate_python)
        _check(run, kept.beside)
    except Unfit as reason:
        run.log(f"{file}: {reason}: measured again")
        return None
    for model, history in kept.histories.items():
        run.histories.setdefault(model, history)
    run.log(f"{name}: taken from {file}")
    return kept.outcome


def _check(run: Run, beside: dict[str, str]) -> None:
    """Raises: Unfit where a file that the experiment wrote is not as it was."""
    for name, checksum in beside.items():
        try:
            sound = _checksum(run.folder / name) == checksum
        except OSError as error:
            raise Unfit(f"{name}, which belongs to it, cannot be read ({error.strerror})") from error
        if not sound:
            raise Unfit(f"{name}, which belongs to it, is damaged")


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file(run: Run, name: str) -> Path:
    return run.folder / FOLDER / f"{name}.json"


def _identity(run: Run, name: str) -> dict[str, str]:
    """What an outcome follows from."""
    m = run.store.manifest
    return {
        "experiment": name,
        "version": version("audio-engram"),
        "configuration": text_checksum(deciding(run.config).toml()),
        "set of latents": text_checksum("\n".join([m.codec_fingerprint, m.utterances_checksum, *m.shard_checksums])),
    }
