"""A shard: one flat (frames, D) safetensors array with the lines of its utterances in the header."""

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from audio_engram.data.manifest import Utterance, parse_utterances, utterance_lines
from audio_engram.data.publish import published
from audio_engram.errors import DataError

DTYPES = {"float32": torch.float32, "float16": torch.float16}
SAFETENSORS_NAMES = {"float32": "F32", "float16": "F16"}
KEY = "latents"


def shard_path(folder: Path, index: int) -> Path:
    """The file of shard `index`."""
    return folder / f"shard-{index:05d}.safetensors"


def write_shard(path: Path, latents: Float[Tensor, "N D"], utterances: list[Utterance]) -> None:
    """Publish a shard, whole or not at all.

    Raises: DataError when the disk is full.
    """
    # Through memory, because save_file hides the disk's error number in a message of its own.
    data = save({KEY: latents}, metadata={"utterances": utterance_lines(utterances)})
    with published(path) as temporary:
        temporary.write_bytes(data)


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


def _header(path: Path) -> tuple[tuple[int, ...], str, str]:
    """Shape, type and utterance lines of a shard, without reading its latents."""
    try:
        with safe_open(path, framework="pt") as handle:
            part = handle.get_slice(KEY)
            return tuple(part.get_shape()), part.get_dtype(), (handle.metadata() or {})["utterances"]
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} is missing or damaged ({error}); remove the folder and extract again") from error
