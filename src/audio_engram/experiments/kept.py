"""Outcomes of finished experiments in the run's folder: a run that was cut short measures none of them again."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from audio_engram.data.manifest import text_checksum
from audio_engram.data.publish import make_folder, publish_text
from audio_engram.experiments.outcome import Outcome
from audio_engram.run_folder import deciding
from audio_engram.runs import Run
from audio_engram.train import History

FOLDER = "outcomes"
OTHER = {"version": "another version", "configuration": "another configuration", "latents": "other latents"}


@dataclass
class _Kept:
    """An outcome, what it is of, and every training of the run by then, which the report and its sounds look up."""

    of: dict[str, str]
    outcome: Outcome
    histories: dict[str, History]


_KEPT = TypeAdapter(_Kept)


def keep(run: Run, name: str, outcome: Outcome) -> None:
    """Write the outcome of the experiment `name`, atomically.

    Raises:
        EngramError: the disk is full, or the folder cannot be written.
    """
    fields = _KEPT.dump_python(_Kept(_identity(run), outcome, run.histories), mode="json")
    make_folder(run.folder / FOLDER)
    text = json.dumps(fields | {"checksum": text_checksum(json.dumps(fields))}, indent=1)
    publish_text(_file(run, name), text + "\n")


def take(run: Run, name: str) -> Outcome | None:
    """The outcome of the experiment `name` that this very run has kept, with its trainings put back into the run.

    None where there is none, or one that is damaged or of something else, which the log says.
    """
    file = _file(run, name)
    if not file.exists():
        return None
    try:
        kept = _read(file)
    except (OSError, ValueError, RecursionError) as error:
        run.log(f"{file}: damaged ({str(error).splitlines()[0]}): measured again")
        return None
    if different := [OTHER[key] for key, mine in _identity(run).items() if kept.of.get(key) != mine]:
        run.log(f"{file}: of {' and '.join(different)}: measured again")
        return None
    for model, history in kept.histories.items():
        run.histories.setdefault(model, history)
    run.log(f"{name}: taken from {file}")
    return kept.outcome


def _read(file: Path) -> _Kept:
    fields = json.loads(file.read_text(encoding="utf-8"))
    checksum = fields.pop("checksum", "") if isinstance(fields, dict) else ""
    if checksum != text_checksum(json.dumps(fields)):
        raise ValueError("its checksum is not that of its content")
    return _KEPT.validate_python(fields)


def _file(run: Run, name: str) -> Path:
    return run.folder / FOLDER / f"{name}.json"


def _identity(run: Run) -> dict[str, str]:
    """What an outcome follows from."""
    m = run.store.manifest
    return {
        "version": version("audio-engram"),
        "configuration": text_checksum(deciding(run.config).toml()),
        "latents": text_checksum("\n".join([m.codec_fingerprint, m.utterances_checksum, *m.shard_checksums])),
    }
