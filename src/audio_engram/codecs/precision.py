"""Full float32, whatever the rest of the process does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep TF32, which has 10 bits of mantissa, out of convolutions, recurrences and products on a GPU."""
    switches = _precision_switches()
    before = [getattr(module, name) for module, name, _ in switches]
    try:
        for module, name, exact in switches:
            setattr(module, name, exact)
        yield
    finally:
        for (module, name, _), value in zip(switches, before, strict=True):
            setattr(module, name, value)


def _precision_switches() -> list[tuple[Any, str, object]]:
    cudnn: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    if hasattr(products, "fp32_precision"):
        return [(module, "fp32_precision", "ieee") for module in (cudnn.conv, cudnn.rnn, products)]
    return [(cudnn, "allow_tf32", False), (products, "allow_tf32", False)]  # PyTorch before 2.9
