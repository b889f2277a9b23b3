"""A shard: one flat (frames, D) safetensors array with the lines of its utterances in the header."""

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from audio_engram.data.manifest import Utterance, parse_utterances, utterance_lines
from audio_engram.data.publish import publish_text, published
from audio_engram.errors import DataError

DTYPES = {"float32": torch.float32, "float16": torch.float16}
SAFETENSORS_NAMES = {"float32": "F32", "float16": "F16"}
KEY = "latents"


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / f"shard-{index:05d}.safetensors"


def noted_checksum(path: Path) -> Path:
    """The file in which a shard's checksum stands until the manifest of the finished store has it."""
    return path.with_name(f".{path.stem}.sha256")


def write_shard(path: Path, latents: Float[Tensor, "N D"], utterances: list[Utterance]) -> str:
    """Publish a shard, whole or not at all, and before it its checksum, which is returned.

    Raises: DataError when the disk is full.
    """
    # Through memory, because save_file hides the disk's error number in a message of its own.
    data = save({KEY: latents}, metadata={"utterances": utterance_lines(utterances)})
    checksum = hashlib.sha256(data).hexdigest()
    publish_text(noted_checksum(path), checksum)
    with published(path) as temporary:
        temporary.write_bytes(data)
    return checksum


def shard_checksum(path: Path) -> str:
    """SHA-256 of a shard's file.

    Raises: DataError when it is missing.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, str(error)) from error


def verify_shard(path: Path, checksum: str) -> None:
    """Raises: DataError when the file is not the one that was written."""
    if shard_checksum(path) != checksum:
        raise _damaged(path, "its checksum is not that in the manifest")


def read_shard(path: Path, checksum: str) -> Float[Tensor, "N D"]:
    """The latents of a shard, in memory: the very bytes whose checksum was compared.

    Raises: DataError when the shard is missing or not the one that was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, str(error)) from error
    if hashlib.sha256(data).hexdigest() != checksum:
        raise _damaged(path, "its checksum is not that in the manifest")
    return load(data)[KEY]


def map_shard(path: Path) -> Float[Tensor, "N D"]:
    """The latents of a shard, memory-mapped: pages are read when they are used."""
    with safe_open(path, framework="pt") as handle:
        return handle.get_tensor(KEY)


def utterances_in_shard(path: Path) -> list[Utterance]:
    """The utterances that a shard holds.

    Raises: DataError for a damaged shard.
    """
    return parse_utterances(_header(path)[2], str(path))


def check_shard(path: Path, rows: int, latent_dim: int, dtype: str) -> None:
    """Compare size and type with the manifest, without reading the latents.

    Raises: DataError when they differ or the shard is missing or damaged.
    """
    shape, name, _ = _header(path)
    wanted = (rows, latent_dim), SAFETENSORS_NAMES[dtype]
    if (shape, name) != wanted:
        raise DataError(f"{path} holds {shape} {name}, wanted {wanted}; remove the folder and extract again")


def all_finite(values: Float[Tensor, "..."]) -> bool:
    """Whether no value is infinite or NaN, which both extremes inherit; a tenth of the time of `isfinite().all()`."""
    return values.numel() == 0 or bool(torch.stack(torch.aminmax(values)).isfinite().all())


def _header(path: Path) -> tuple[tuple[int, ...], str, str]:
    """Shape, type and utterance lines of a shard, without reading its latents."""
    try:
        with safe_open(path, framework="pt") as handle:
            part = handle.get_slice(KEY)
            return tuple(part.get_shape()), part.get_dtype(), (handle.metadata() or {})["utterances"]
    except (OSError, SafetensorError, KeyError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is missing or damaged ({reason}); remove the folder and extract again")
