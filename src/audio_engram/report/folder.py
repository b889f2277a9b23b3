"""The files of a run folder, read and checked: the only input of the report."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from audio_engram.archetype_map import FILE as ARCHETYPES
from audio_engram.archetype_map import ArchetypeMap
from audio_engram.decision import Decision
from audio_engram.errors import DataError, UsageError
from audio_engram.measurements import Measurement, Measurements

T = TypeVar("T")
MIME = {".flac": "audio/flac", ".wav": "audio/wav"}


class _Open(BaseModel):
    """Later versions may add fields; the report shows those it knows."""

    model_config = ConfigDict(frozen=True, extra="allow")


class CodecFacts(_Open):
    """What the codec said of itself; a world of latents has only a name."""

    name: str
    fingerprint: str = ""
    tap: str = ""
    sample_rate: float | None = None
    frame_rate: float | None = None
    latent_dim: int | None = None
    causal: bool | None = None
    stochastic: bool | None = None


class CorpusFacts(_Open):
    """What was heard, and what was left out and why."""

    name: str
    synthetic: bool = False
    seconds: float = 0.0
    counts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    speakers: dict[str, int] = {}
    frames: dict[str, int] = {}
    silent_frames: int = 0
    without_latent: int = 0
    shared_between_splits: str = ""


class Stage(_Open):
    """One stage of the run and its wall time."""

    name: str
    seconds: float


class Provenance(_Open):
    """Where the numbers come from."""

    version: str
    command: str
    resumed_by: list[str] = []
    seed: int
    device: str
    precision: str = ""
    versions: dict[str, str] = {}
    codec: CodecFacts
    corpus: CorpusFacts
    stages: list[Stage] = []
    peak_memory_bytes: int | None = None


class Epoch(_Open):
    """Loss per frame after one epoch, in nats."""

    epoch: int
    train: float | None = None
    validation: float | None = None
    seconds: float | None = None


class Clip(_Open):
    """One sound to listen to; `file` lies in the folder `audio` of the run, and sounds of one `row` stand in one."""

    group: str
    label: str
    kind: str = ""
    file: str
    seconds: float
    rms_db: float | None = None
    note: str = ""
    row: str = ""
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """All that the report may show."""

    path: Path
    config: str
    measurements: Measurements
    decision: Decision
    provenance: Provenance
    training: dict[str, list[Epoch]]
    clips: list[Clip]
    archetypes: ArchetypeMap | None


def read_run(path: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        UsageError: if there is no such folder.
        DataError: if a required file is missing, or any file cannot be understood.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder: make one with `engram run --out {path}`")
    return RunFolder(
        path=path,
        config=_required(path, "config.toml", lambda text: text),
        measurements=_required(path, "measurements.json", _measurements),
        decision=_required(path, "decision.json", Decision.model_validate_json),
        provenance=_required(path, "provenance.json", Provenance.model_validate_json),
        training=_optional(path, "training.json", TypeAdapter(dict[str, list[Epoch]]).validate_json, {}),
        clips=_optional(path, "audio/index.json", TypeAdapter(list[Clip]).validate_json, []),
        archetypes=_optional(path, ARCHETYPES, ArchetypeMap.model_validate_json, None),
    )


def _measurements(text: str) -> Measurements:
    records = TypeAdapter(list[Measurement]).validate_json(text)
    if not records:
        raise DataError("holds no measurement")
    return Measurements(records)


def _required(run: Path, name: str, parse: Callable[[str], T]) -> T:
    if not (run / name).is_file():
        raise DataError(f"{run / name}: missing: {_remedy(run)}")
    return _parse(run, name, parse)


def _optional(run: Path, name: str, parse: Callable[[str], T], default: T) -> T:
    return _parse(run, name, parse) if (run / name).is_file() else default


def _parse(run: Path, name: str, parse: Callable[[str], T]) -> T:
    try:
        return parse((run / name).read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}." for part in first["loc"])[:-1]
        raise DataError(": ".join(filter(None, [str(run / name), where, first["msg"], _remedy(run)]))) from error
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{run / name}: {error}: {_remedy(run)}") from error


def _remedy(run: Path) -> str:
    return f"make it with `engram run --resume --out {run}`"


def told_apart(runs: Sequence[str]) -> tuple[str, ...]:
    """The names of the runs' folders, or their paths where two have one name."""
    names = tuple(Path(run).name for run in runs)
    return names if all(names) and len(set(names)) == len(names) else tuple(runs)


def audio_uri(run: Path, clip: Clip) -> str:
    """The sound as a base64 data URI.

    Raises:
        DataError: if the file is missing, not FLAC or WAV, or not in the folder `audio` of the run.
    """
    folder = (run / "audio").resolve()
    file = (folder / clip.file).resolve()
    if not file.is_relative_to(folder):
        raise DataError(f"{run}/audio/index.json: {clip.file} lies outside the folder audio: {_remedy(run)}")
    if file.suffix not in MIME:
        raise DataError(f"{run}/audio/index.json: {clip.file} is neither FLAC nor WAV: {_remedy(run)}")
    if not file.is_file():
        raise DataError(f"{file}: missing, but named in audio/index.json: {_remedy(run)}")
    return data_uri(MIME[file.suffix], file.read_bytes())


def data_uri(mime: str, content: bytes) -> str:
    """Bytes as a URI that needs no network."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def as_dict(facts: BaseModel) -> dict[str, Any]:
    """The facts that are known, unknown extra fields among them."""
    return {key: value for key, value in facts.model_dump().items() if value not in (None, "", {}, [])}
