"""Tensors and a JSON note in one safetensors file, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from audio_engram.data.publish import published
from audio_engram.errors import DataError


def save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write atomically; the note travels in the file's header, so that the two cannot disagree."""
    with published(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"note": json.dumps(note)})


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
