"""Tensors and a JSON note in one safetensors file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from audio_engram.data.publish import published
from audio_engram.errors import DataError


def save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write atomically; the note travels in the file's header, so that the two cannot disagree.

    Raises:
        DataError: if the disk is full.
    """
    # Through memory, because save_file hides the disk's error number in a message of its own.
    data = to_bytes({k: v.contiguous() for k, v in tensors.items()}, {"note": json.dumps(note)})
    with published(path) as temporary:
        temporary.write_bytes(data)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["note"])  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"checkpoint {path}: damaged ({error}): delete it and run again with --resume") from None
