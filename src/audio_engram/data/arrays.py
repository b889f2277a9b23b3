"""Latents that somebody else made: a folder of `.npy` or `.safetensors` arrays instead of audio and a codec."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audio_engram.data.corpus import at_home, check_text
from audio_engram.data.folder import files_below
from audio_engram.data.table import SPEAKERS, read_speakers, speakers_from_folders
from audio_engram.errors import DataError, UsageError

SUFFIXES = {".npy", ".safetensors"}
DTYPES = (torch.float16, torch.float32, torch.float64)
HEAD = 1 << 16
# NumPy reads a header by Python's own parser, whose complaints about a damaged one come through.
DAMAGED = (ValueError, TypeError, OverflowError, SyntaxError, TokenError, SafetensorError, RecursionError, MemoryError)


@dataclass(frozen=True)
class ArrayItem:
    """One utterance: an `.npy` file, or the tensor `key` of a `.safetensors` file."""

    id: str
    file: Path
    key: str = ""
    speaker: str = ""
    subset: str = ""

    def open(self) -> Tensor:
        """The array (N, D) as it is in the file, memory-mapped.

        Raises: DataError for what is no such array of float16, float32 or float64.
        """
        try:
            array = _open_npy(self.file) if self.file.suffix.lower() == ".npy" else _from_pack(self.file, self.key)
        except OSError as error:
            raise DataError(f"{self.file}: cannot be read ({error.strerror or error}); check the path") from error
        except DAMAGED as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{self.file}: no array that can be read ({reason}); write it again") from error
        if array is None:
            raise DataError(f"{self.file}: holds no tensor; write it again or leave it out")
        if array.dtype not in DTYPES:
            raise DataError(f"{self.id}: holds {array.dtype}, wanted float16, float32 or float64; write it again")
        if array.ndim != 2 or 0 in array.shape:
            raise DataError(f"{self.id}: has shape {tuple(array.shape)}, wanted (frames, D), neither 0; write it again")
        return array


@dataclass(frozen=True)
class Arrays:
    """Latents by utterance; D is what most of those that can be read have (`n_of_dim`), the type that of these."""

    name: str
    items: tuple[ArrayItem, ...]
    latent_dim: int
    dtype: str
    n_of_dim: int

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def speakers(self) -> list[str]:
        """Speakers, sorted."""
        return sorted({item.speaker for item in self.items})

    def load(self, item: ArrayItem) -> Float[Tensor, "N D"]:
        """The latents of one utterance, float32.

        Raises: DataError for a damaged file, another D or values that are not finite.
        """
        array = item.open()
        if array.shape[1] != self.latent_dim:
            most = f"{self.n_of_dim} of {len(self)} arrays have {self.latent_dim}"
            raise DataError(f"{item.id}: has D = {array.shape[1]}, but {most}; leave it out")
        latents = array.float()
        bad = ~torch.isfinite(latents).all(1)
        if bad.any():
            first = f"frame {int(bad.nonzero()[0])} is not finite ({int(bad.sum())} of {len(bad)} frames)"
            raise DataError(f"{item.id}: {first}; write it again or leave it out")
        return latents

    def fingerprint(self) -> str:
        """Hash of ids, speakers, subsets, types, shapes and the first 64 KiB of every array.

        Beginnings tell other latents apart without reading all of them; full hashes stand in the latent store.
        """
        digest = hashlib.sha256()
        for item in self.items:
            digest.update("\0".join([item.id, item.speaker, item.subset, ""]).encode())
            digest.update(_type_and_head(item))
        return digest.hexdigest()[:32]


def named_arrays(spec: str) -> Arrays:
    """The arrays of a corpus `latents:FOLDER`.

    Raises: UsageError for no folder's name, DataError as `open_arrays` does.
    """
    folder = spec.removeprefix("latents:")
    if not folder:
        raise UsageError(f"data.corpus: {spec!r} names no folder; write latents:FOLDER, or --latents FOLDER")
    return open_arrays(at_home(folder))


def open_arrays(folder: Path) -> Arrays:
    """The arrays below `folder`, sorted by id.

    An `.npy` file (N, D) is an utterance whose id is its path; in a `.safetensors` file every tensor is one, its id
    the path without the ending and the key. The speaker is the first folder, or stands in `speakers.csv` with
    columns `file,speaker` and, where wanted, `subset`: `file` is an id, or a `.safetensors` file with all it holds.

    Raises: DataError for no folder, no array that can be used, no speaker or a table that does not fit.
    """
    if not folder.is_dir():
        raise DataError(f"latents: {folder} {'is a file' if folder.exists() else 'does not exist'}; give the folder")
    found = [item for path in files_below(folder, SUFFIXES) for item in _items_in(folder, path)]
    table = folder / SPEAKERS
    items = sorted(_from_table(table, found) if table.exists() else _from_folders(folder, found), key=lambda i: i.id)
    repeated = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    for item in items:
        check_text(item.id, item.speaker, item.subset)
    if repeated:
        raise DataError(f"latents: {folder} has the id {repeated[0]} more than once; rename a file or a key")
    return Arrays(folder.resolve().name, tuple(items), *_dim_and_dtype(folder, items))


def _items_in(folder: Path, path: Path) -> Iterator[ArrayItem]:
    name = path.relative_to(folder).as_posix()
    if path.suffix.lower() == ".npy":
        yield ArrayItem(name, path)
        return
    try:
        keys = list(_pack(path).keys())
    except (OSError, SafetensorError):
        yield ArrayItem(name, path)  # it will be counted as failed, with its reason
        return
    if not keys:
        yield ArrayItem(name, path)  # so will this be
    yield from (ArrayItem(f"{name[: -len(path.suffix)]}/{key}", path, key) for key in keys)


def _from_folders(folder: Path, found: list[ArrayItem]) -> list[ArrayItem]:
    files = {item.file: item.file.relative_to(folder).as_posix() for item in found}
    voices = speakers_from_folders(folder, files.values())
    return [replace(item, speaker=voices[files[item.file]].speaker) for item in found]


def _from_table(table: Path, found: list[ArrayItem]) -> list[ArrayItem]:
    """Give every array its row's speaker. A listed array that is missing stays: it will be counted as failed."""
    voices, items, used = read_speakers(table, ()), [], set()
    for item in found:
        file = item.file.relative_to(table.parent).as_posix()
        name = next((name for name in (item.id, file) if name in voices), None)
        if name is None:
            raise DataError(f"{table} has no row for {item.id}; add one for it or for {file}, or move that away")
        used.add(name)
        items.append(replace(item, speaker=voices[name].speaker, subset=voices[name].subset))
    missing = ((name, voice) for name, voice in voices.items() if name not in used)
    return items + [ArrayItem(name, table.parent / name, "", voice.speaker, voice.subset) for name, voice in missing]


def _dim_and_dtype(folder: Path, items: list[ArrayItem]) -> tuple[int, str, int]:
    """D of most arrays, float16 if that holds these, and how many they are. Only headers are read."""
    found: dict[int, list[torch.dtype]] = {}
    reason = ""
    for item in items:
        try:
            array = item.open()
        except DataError as error:
            reason = reason or str(error)
            continue
        found.setdefault(array.shape[1], []).append(array.dtype)
    if not found:
        what = f"none of {len(items)} arrays can be used, first {reason}" if items else "no .npy or .safetensors below"
        raise DataError(f"latents: {folder}: {what}")
    dim, dtypes = max(found.items(), key=lambda one: len(one[1]))
    return dim, "float16" if set(dtypes) == {torch.float16} else "float32", len(dtypes)


def _type_and_head(item: ArrayItem) -> bytes:
    try:
        array = item.open()
    except DataError:  # such an array becomes a failed item with its reason; here it only has to differ
        return b"damaged"
    rows = -(-HEAD // (array.shape[1] * array.element_size()))
    return f"{array.dtype} {tuple(array.shape)}\0".encode() + array[:rows].contiguous().numpy().tobytes()


def _open_npy(path: Path) -> Tensor:
    array = np.lib.format.open_memmap(path, mode="c")  # never unpickles; PyTorch wants pages that it could write
    # A byte order that is not this machine's is turned round; the size in the name stays.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native))


def _from_pack(path: Path, key: str) -> Tensor | None:
    """A tensor; none for the empty key of a file that holds none."""
    pack = _pack(path)
    return pack.get_tensor(key) if key else None


def _pack(path: Path) -> Any:
    """An open `.safetensors` file, kept open: its header may list thousands of tensors."""
    state = path.stat()
    return _open_pack(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _open_pack(path: Path, changed: int, size: int) -> Any:
    return safe_open(path, framework="pt")
