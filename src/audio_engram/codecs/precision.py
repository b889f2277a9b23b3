"""Full float32, whatever the rest of the process does."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_lock = Lock()
_before: list[tuple[Any, str, object]] = []
"""What the switches were when the first of those who want full float32 came."""
_within = 0


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep TF32, which has 10 bits of mantissa, out of convolutions, recurrences and products on a GPU.

    The switches are the process's own: of threads that ask for it together the last to leave puts them back.
    """
    global _within
    with _lock:
        if not _within:
            switches = _precision_switches()
            _before[:] = [(module, name, getattr(module, name)) for module, name, _ in switches]
            _set(switches)
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if not _within:
                _set(_before)


def _set(switches: list[tuple[Any, str, object]]) -> None:
    for module, name, value in switches:
        setattr(module, name, value)


def _precision_switches() -> list[tuple[Any, str, object]]:
    cudnn: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    if hasattr(products, "fp32_precision"):
        return [(module, "fp32_precision", "ieee") for module in (cudnn.conv, cudnn.rnn, products)]
    return [(cudnn, "allow_tf32", False), (products, "allow_tf32", False)]  # PyTorch before 2.9
