"""The directions a memory starts from: as the experiment `archetypes` keeps them, and in another standardisation."""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.dynamics.heads import Start
from audio_engram.errors import DataError, MissingError, UsageError


def load_prototypes(path: Path, scale: Float[Tensor, " D"]) -> Float[Tensor, "K D"]:
    """Unit directions among increments that are standardised by `scale`, whatever the file's were standardised by.

    A file that does not say so (`directions` alone) is taken as this run's own.

    Raises:
        MissingError: if there is no such file.
        DataError: if it is damaged, or its directions are of other latents than those of D dimensions.
    """
    if not path.exists():
        raise MissingError(f"{path}: no prototypes: make them with engram run --experiments archetypes")
    try:
        tensors = load_file(path)
        directions, former = tensors["directions"].float(), tensors.get("scale", scale).float()
    except (SafetensorError, KeyError, OSError) as error:
        raise _damaged(path, str(error)) from None
    if directions.dim() != 2 or directions.shape[1:] != scale.shape or former.shape != scale.shape:
        there = " x ".join(map(str, directions.shape))
        raise DataError(f"{path}: prototypes ({there}) of other latents than these of {len(scale)}: use their own")
    if not bool(((torch.linalg.vector_norm(directions, dim=1) - 1).abs() < 1e-3).all()):
        raise _damaged(path, "not unit vectors")
    if not bool((former > 0).all() and former.isfinite().all()):
        raise _damaged(path, "scales that are not positive")
    return directions if torch.equal(former, scale) else restandardised(directions, former, scale)


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: damaged ({reason}): make it anew with engram run --experiments archetypes")


def restandardised(
    directions: Float[Tensor, "K D"], former: Float[Tensor, " D"], own: Float[Tensor, " D"]
) -> Float[Tensor, "K D"]:
    """The same directions of raw increments, from latents divided by `former` to latents divided by `own`.

    A run's own prototypes need none of this: they are in the space that its models work in.
    """
    return torch.nn.functional.normalize(directions * former / own, dim=1)


def with_prototypes(
    start: Start, config: ModelConfig, windows: Windows, directions: Float[Tensor, "K D"] | None = None
) -> Start:
    """The start with the directions a memory begins with; None: random ones, of the model's own seed.

    Raises:
        UsageError: for more prototypes than `windows` (of the training split) have increments.
    """
    if config.memory.on:
        check_size(config.memory.prototypes, len(windows.with_valid_target()), "model.memory.prototypes")
    return replace(start, prototypes=directions)


def check_size(entries: int, available: int, setting: str) -> None:
    """Refuse a memory of more entries than there are frames to fill it from.

    Raises:
        UsageError: naming the setting.
    """
    if entries > available:
        raise UsageError(f"{setting} = {entries}: the training split has {available} frames for it: use at most that")
