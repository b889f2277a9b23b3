"""What a latent store says about itself: the manifest and one line per utterance."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from audio_engram.errors import DataError, UsageError

FORMAT = 2
MANIFEST = "manifest.json"
UTTERANCES = "utterances.jsonl"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(_Frozen):
    """A corpus item without latents, and why."""

    id: str
    status: Literal["skipped", "failed"]
    reason: str


class Counts(_Frozen):
    """Items by outcome; `found` is the sum of the others."""

    found: int = 0
    ok: int = 0
    skipped: int = 0
    failed: int = 0


class Part(_Frozen):
    """A stretch of a corpus, whole windows of it: part `index` of `of`, counted from 1."""

    index: int = Field(ge=1)
    of: int = Field(ge=1)
    first: int = Field(ge=0, description="place of its first item in the corpus, from 0")
    items: int = Field(ge=0, description="0 where there are more parts than windows")
    window: int = Field(ge=1)
    batch_seconds: float = Field(gt=0)

    @property
    def label(self) -> str:
        """As `--shard` writes it."""
        return f"{self.index}/{self.of}"

    @property
    def folder(self) -> str:
        """The name of its store."""
        return f"{self.index:05d}-of-{self.of:05d}"


class StoreInfo(_Frozen):
    """What is fixed before the first frame is written. Two stores that agree here hold the same latents."""

    codec: str
    codec_fingerprint: str
    tap: str
    sample_rate: int = Field(gt=0, description="Hz")
    frame_rate: float = Field(gt=0, description="Hz")
    latent_dim: int = Field(gt=0)
    dtype: Literal["float32", "float16"] = "float16"
    corpus: str
    corpus_hash: str
    synthetic: bool = False
    shard_frames: int = Field(default=32768, gt=0, description="a shard ends with the utterance that reaches this")
    settings: dict[str, str | int | float] = Field(default_factory=dict)
    part: Part | None = Field(default=None, description="which part of the corpus this is, if not all of it")

    def disagreements(self, other: "StoreInfo") -> list[str]:
        """The fields in which two stores differ, each as 'name: wanted ours, found theirs'."""
        names = list(StoreInfo.model_fields)
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f"{name}: wanted {ours}, found {theirs}" for name, ours, theirs in pairs if ours != theirs]

    def refuse_disagreement(self, there: "StoreInfo", folder: Path) -> None:
        """Raises: UsageError naming the fields in which the store in `folder` differs from this one."""
        if different := "; ".join(self.disagreements(there)):
            raise UsageError(f"{folder} holds other latents ({different}); remove it or choose another folder")


class Manifest(StoreInfo):
    """The manifest of a store; `finished` turns true with the last file written. Checksums are SHA-256."""

    format: int = FORMAT
    finished: bool = False
    shards: int = 0
    frames: int = 0
    seconds: float = 0.0
    counts: Counts = Counts()
    problems: tuple[Problem, ...] = ()
    devices: tuple[str, ...] = Field(default=(), description="kinds of device that the codec ran on")
    shard_checksums: tuple[str, ...] = ()
    utterances_checksum: str = ""

    def text(self) -> str:
        """The file's content: the fields as JSON, and their own checksum."""
        fields = self.model_dump(mode="json")
        return json.dumps(fields | {"checksum": _checksum(fields)}, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Utterance:
    """One run of frames. The writer fills in `shard`, `offset` (in frames, within the shard) and `frames`."""

    id: str
    speaker: str
    seconds: float
    source: str = ""
    subset: str = ""
    shard: int = 0
    offset: int = 0
    frames: int = 0


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`, finished or not.

    Raises: DataError when there is none, it is damaged, or a newer version wrote it.
    """
    path = folder / MANIFEST
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format"]
        if version != FORMAT:
            raise DataError(f"{path} has format {version}, this version reads {FORMAT}; extract the latents again")
        if fields.pop("checksum") != _checksum(fields):
            raise DataError(f"{path} is damaged (its checksum is another); remove the folder and extract again")
        return Manifest.model_validate(fields)
    except FileNotFoundError as error:
        raise DataError(f"no latent store in {folder} ({MANIFEST} is missing); run the extraction first") from error
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:  # ValidationError among them
        if isinstance(error, DataError):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is damaged ({reason}); remove the folder and extract again") from error


def utterance_lines(utterances: Iterable[Utterance]) -> str:
    """One JSON line per utterance."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in utterances)


def parse_utterances(text: str, where: str) -> list[Utterance]:
    """The utterances in the JSON lines of `text`; `where` names their file in the message.

    Raises: DataError naming the line that is damaged.
    """
    utterances = []
    # Not splitlines: an id may hold U+2028, which JSON leaves as it is.
    for row, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            utterances.append(Utterance(**json.loads(line)))
        except (ValueError, RecursionError, TypeError) as error:
            raise DataError(f"{where} line {row} is damaged ({error}); extract the latents again") from error
    return utterances


def read_utterances(folder: Path, checksum: str) -> list[Utterance]:
    """The utterances of the finished store in `folder`.

    Raises: DataError when their lines are missing or not those that were written.
    """
    path = folder / UTTERANCES
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is missing or damaged; remove the folder and extract again") from error
    if text_checksum(text) != checksum:
        raise DataError(
            f"{path} is damaged (its checksum is not that in {MANIFEST}); remove the folder and extract again"
        )
    return parse_utterances(text, str(path))


def text_checksum(text: str) -> str:
    """SHA-256 of a text as it is written."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(fields: dict[str, Any]) -> str:
    return text_checksum(json.dumps(fields, sort_keys=True))
