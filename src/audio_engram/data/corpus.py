"""What a corpus is, and how one is opened by its spec: `demo`, or a kind and a path such as `folder:PATH`."""

import hashlib
import importlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audio_engram.audio import read_audio, source_hash
from audio_engram.codecs.base import near_miss
from audio_engram.data.cuts import Cut
from audio_engram.errors import DataError, UsageError

KINDS = {
    "demo": "audio_engram.data.embedded:open_demo",
    "folder": "audio_engram.data.folder:open_folder",
    "lhotse": "audio_engram.data.lhotse:open_lhotse",
    "librispeech": "audio_engram.data.librispeech:open_librispeech",
    "manifest": "audio_engram.data.listed:open_listed",
}
FILES = ("lhotse", "manifest")
"""Kinds whose path is a file; those of the others are folders."""
HEAD = 1 << 16


@dataclass(frozen=True)
class CorpusItem:
    """One utterance: an audio file, a part of one, or a function from a sample rate [Hz] to mono audio."""

    id: str
    speaker: str
    source: Path | Cut | Callable[[int], Tensor]
    subset: str = ""

    def audio(self, sample_rate: int) -> Float[Tensor, " T"]:
        """Mono audio at `sample_rate` [Hz].

        Raises: DataError for a file that is missing, empty, cut short or not finite.
        """
        return read_audio(self.source, sample_rate) if isinstance(self.source, Path) else self.source(sample_rate)

    @property
    def file(self) -> Path | None:
        """The file that the audio comes from, if it comes from one."""
        if isinstance(self.source, Cut):
            return self.source.file
        return self.source if isinstance(self.source, Path) else None

    def content_hash(self, audio: Float[Tensor, " T"]) -> str:
        """Hash of the file, or of `audio` where that is not a whole file."""
        if isinstance(self.source, Path):
            return source_hash(self.source)
        return hashlib.blake2b(audio.contiguous().numpy().tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Corpus:
    """Utterances in a fixed order, with ids that occur once."""

    name: str
    items: tuple[CorpusItem, ...]
    synthetic: bool = False

    def __post_init__(self) -> None:
        if not self.items:
            raise DataError(f"corpus {self.name} is empty; check its path")
        repeated = [name for name, count in Counter(item.id for item in self.items).items() if count > 1]
        if repeated:
            raise DataError(f"corpus {self.name} has utterance id {repeated[0]} more than once; rename the files")
        for item in self.items:
            if not (item.id + item.speaker + item.subset).isascii():
                check_text(item.id, item.speaker, item.subset)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def speakers(self) -> list[str]:
        """Speakers, sorted."""
        return sorted({item.speaker for item in self.items})

    def fingerprint(self) -> str:
        """Hash of ids, speakers, subsets, file sizes, the first 64 KiB of every file and where it is cut.

        Sizes and beginnings tell changed recordings apart without reading hundreds of hours; the full hash of
        each file stands in the latent store.
        """
        digest = hashlib.sha256()
        size_and_head = cache(_size_and_head)  # many cuts may lie in one file
        for item in self.items:
            digest.update("\0".join([item.id, item.speaker, item.subset, ""]).encode())
            digest.update(size_and_head(item.file) if item.file else b"function")
            if isinstance(item.source, Cut):
                digest.update(f"{item.source.start} {item.source.end} {item.source.channel}\0".encode())
        return digest.hexdigest()[:32]


def open_corpus(spec: str) -> Corpus:
    """The corpus that `spec` names.

    Raises: UsageError for an unknown spec, DataError for a missing path or a corpus without audio.
    """
    kind, colon, argument = spec.partition(":")
    if kind not in KINDS:
        raise UsageError(f"data.corpus: there is no corpus {spec!r}; {near_miss(kind, sorted(KINDS))}")
    needs_path = kind != "demo"
    if needs_path != bool(argument) or (colon and not argument):
        raise UsageError(f"data.corpus: {spec!r} should be written {kind + ':PATH' if needs_path else kind}")
    module, _, function = KINDS[kind].partition(":")
    opener = getattr(importlib.import_module(module), function)
    if not needs_path:
        return opener()
    return opener(_existing_file(argument) if kind in FILES else existing_folder(argument))


def existing_folder(path: str) -> Path:
    """`path` as a folder that is there.

    Raises: DataError when it is not.
    """
    folder = at_home(path)
    if not os.path.isdir(folder):
        what = "is a file" if is_there(folder) else "does not exist"
        raise DataError(f"data.corpus: {folder} {what}; give the folder that holds the audio")
    return folder


def at_home(path: str) -> Path:
    """A path whose `~` is somebody's home, if there is such a user; else it is as it stands."""
    return Path(os.path.expanduser(path))


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; a name that is too long or no text names none."""
    return os.path.exists(path)


def check_text(name: str, speaker: str, subset: str) -> None:
    """A file's name may hold bytes that are no text, which no table and no report could name again.

    Raises: DataError for such an utterance.
    """
    try:
        f"{name}{speaker}{subset}".encode()
    except UnicodeEncodeError as error:
        raise DataError(f"utterance {name!a} of speaker {speaker!a} is not named in UTF-8; rename it") from error


def _existing_file(path: str) -> Path:
    file = at_home(path)
    if not os.path.isfile(file):
        kind = "is a folder" if os.path.isdir(file) else "is no plain file"
        what = kind if is_there(file) else "does not exist"
        raise DataError(f"data.corpus: {file} {what}; give the file that lists the utterances")
    return file


def _size_and_head(source: Path) -> bytes:
    try:
        with source.open("rb") as handle:
            return f"{source.stat().st_size}\0".encode() + hashlib.sha256(handle.read(HEAD)).digest()
    except OSError as error:  # such a file becomes a failed item with its reason; here it only has to differ
        return f"{type(error).__name__}\0".encode()
