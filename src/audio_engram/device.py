"""Which device to work on."""

from itertools import chain

import torch

from audio_engram.errors import UsageError


def find_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one.

    Raises:
        UsageError: for a device that does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: PyTorch finds no CUDA device here: use --device cpu or auto")
    if name not in ("cpu", "cuda"):
        raise UsageError(f"device {name}: use auto, cpu or cuda")
    return torch.device(name)


def device_of(model: object) -> torch.device:
    """Where a model lives: most hold parameters, mel and baselines only buffers, a plain function neither."""
    held = chain(model.parameters(), model.buffers()) if isinstance(model, torch.nn.Module) else iter(())
    return next((tensor.device for tensor in held), torch.device("cpu"))
