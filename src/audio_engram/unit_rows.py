"""Rows of numbers, read a part at a time as unit vectors; what has no direction is refused."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.errors import DataError, UsageError

# Rows read and normalised at once.
READ = 8192


@runtime_checkable
class Rows(Protocol):
    """Rows by number: a (memory-mapped) tensor, or anything that computes the rows it is asked for."""

    def __len__(self) -> int:
        """How many rows there are."""

    def __getitem__(self, index: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Return these rows; they need not have unit length."""


def check_rows(rows: object, what: str = "rows") -> None:
    """Refuse what cannot be asked for rows.

    Raises:
        UsageError: for another type, shape or type of numbers than rows have.
    """
    if isinstance(rows, Tensor):
        _check_table(rows, what)
    elif not isinstance(rows, Rows) or isinstance(rows, (Sequence, Mapping, np.ndarray)):
        raise UsageError(f"k-means: {what} in a {type(rows).__name__}: give a tensor (N, D), or what returns one")


def unit_parts(rows: Tensor | Rows, what: str = "row") -> Iterator[Float[Tensor, "B D"]]:
    """All rows at unit length, some at a time."""
    width = None
    for index in torch.arange(len(rows)).split(READ):
        part = unit_at(rows, index, what)
        width = part.shape[1] if width is None else width
        if part.shape[1] != width:
            raise UsageError(f"k-means: {what} {int(index[0])} has {part.shape[1]} dimensions, {what} 0 has {width}")
        yield part


def normalised(rows: Tensor | Rows, what: str = "row") -> Float[Tensor, "N D"]:
    """All rows at unit length at once."""
    parts = unit_parts(rows, what)
    first = next(parts)
    whole = first.new_empty(len(rows), first.shape[1])
    for place, part in zip(whole.split(READ), chain((first,), parts), strict=True):
        place.copy_(part)
    return whole


def unit_at(rows: Tensor | Rows, index: Int[Tensor, " B"], what: str = "row") -> Float[Tensor, "B D"]:
    """Rows of these numbers at unit length; lengths are taken in float64, where no float32 row over- or underflows."""
    part: object = rows[index]
    some = _check_table(part, "rows").detach()
    if len(some) != len(index):
        raise UsageError(
            f"k-means: {len(some)} rows came where {len(index)} were asked for: return one for each number"
        )
    length = torch.linalg.vector_norm(some, dim=1, keepdim=True, dtype=torch.float64)
    bad = ~(torch.isfinite(length) & (length > 0))[:, 0]
    if bool(bad.any()):
        place = int(bad.nonzero()[0, 0])
        fault = "is zero and has no direction" if length[place] == 0 else "is not finite"
        raise DataError(f"k-means: {what} {int(index[place])} {fault}: leave such rows out")
    return (some / length).to(torch.promote_types(some.dtype, torch.float32))


def _check_table(rows: object, what: str) -> Tensor:
    if not isinstance(rows, Tensor):
        raise UsageError(f"k-means: {what} in a {type(rows).__name__}: give a tensor (N, D)")
    if rows.dim() != 2:
        raise UsageError(f"k-means: {what} of shape {tuple(rows.shape)}: give (N, D)")
    if not rows.is_floating_point():
        raise UsageError(f"k-means: {what} of {rows.dtype}: give floating-point numbers")
    return rows
