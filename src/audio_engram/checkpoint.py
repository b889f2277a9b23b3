"""Tensors and a JSON note in one safetensors file, written whole or not at all, and read only if no bit has changed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from audio_engram.data.publish import published
from audio_engram.errors import DataError, MissingError


def save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write atomically; note and checksum travel in the file's header, so that the three cannot disagree.

    Raises:
        DataError: if the disk is full.
    """
    here = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    text = json.dumps(note)
    # Through memory, because save_file hides the disk's error number in a message of its own. Checksum and note stand
    # under one key, because the order of several would be another one in every process.
    data = to_bytes(here, {"note": f"{_checksum(here, text)} {text}"})
    with published(path) as temporary:
        temporary.write_bytes(data)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote.

    Raises:
        MissingError: if there is no such file. DataError: if it is damaged.
    """
    if not path.exists():
        raise MissingError(f"checkpoint {path}: missing: make it with engram run or engram train")
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            checksum, _, note = file.metadata()["note"].partition(" ")
        if checksum != _checksum(tensors, note):
            raise damaged(path, "its checksum is not that of its content")
        return tensors, json.loads(note)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise damaged(path, str(error)) from None


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state that an optimizer keeps of every parameter."""
    states = optimizer.state_dict()["state"].items()
    return {f"{index}.{name}": value for index, state in states for name, value in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Go on from `optimizer_tensors`."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def damaged(path: Path, reason: str) -> DataError:
    """The one line for a file that cannot be what `save` wrote."""
    return DataError(f"checkpoint {path}: damaged ({reason}): delete it and run again with --resume")


def _checksum(tensors: dict[str, Tensor], note: str) -> str:
    digest = hashlib.sha256(note.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
