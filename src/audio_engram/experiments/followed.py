"""Sampled rollouts while they are made: of hours of latents only what figures are made of is kept."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.survival import Divergence, RealRange

Pieces = Iterable[Float[Tensor, "B _ D"]]
"""Consecutive stretches of rollouts, each of which goes on where the one before ended."""
Batches = Iterable[Iterable[Float[Tensor, "_ _ D"]]]
"""A few rollouts after the other, in pieces."""


@dataclass(frozen=True)
class Followed:
    """Sampled rollouts of S steps: the stretch before every horizon, the first steps, when each diverged, and for how
    many steps it is finite."""

    steps: int
    stretches: dict[int, Float[Tensor, "B S1 D"]]
    beginning: Float[Tensor, "B0 S2 D"]
    divergence: Divergence
    finite: Int[Tensor, " B"]


@dataclass(frozen=True)
class Wanted:
    """Ends and length of the stretches that are kept, and of how many rollouts how many first steps [frames]."""

    ends: tuple[int, ...]
    stretch: int
    beginning: tuple[int, int] = (0, 0)


def follow(batches: Batches, wanted: Wanted, span: RealRange) -> Followed:
    """Follow one batch of rollouts after the other, each piece by piece."""
    rows, first = wanted.beginning
    done: list[Followed] = []
    for pieces in batches:
        done.append(_follow(pieces, wanted, span, (rows - sum(len(one.finite) for one in done), first)))
    divergence = [one.divergence for one in done]
    return Followed(
        steps=done[0].steps,
        stretches={end: torch.cat([one.stretches[end] for one in done]) for end in wanted.ends},
        beginning=torch.cat([one.beginning for one in done]),
        divergence=Divergence(
            *(torch.cat([getattr(d, k) for d in divergence]) for k in ("frames", "diverged", "cause"))
        ),
        finite=torch.cat([one.finite for one in done]),
    )


def _follow(pieces: Pieces, wanted: Wanted, span: RealRange, beginning: tuple[int, int]) -> Followed:
    kept: dict[int, list[Tensor]] = {end: [] for end in wanted.ends}
    first, measured, finite, steps = [], [], [], 0
    for piece, before in _with_tail(pieces, span.space.window - 1):
        for end, parts in kept.items():
            parts.append(piece[:, max(0, end - wanted.stretch - steps) : max(0, end - steps)].clone())
        first.append(piece[: max(0, beginning[0]), : max(0, beginning[1] - steps)].clone())
        whole = torch.cat([before, piece], dim=1)
        if whole.shape[1] >= span.space.window:
            measured.append(span.measure(whole))
        finite.append(piece.isfinite().all(2))
        steps += piece.shape[1]
    stretches = {end: torch.cat(parts, dim=1) for end, parts in kept.items()}
    alive = torch.cat(finite, dim=1).long().cumprod(1).sum(1)
    quantities = [torch.cat(some, dim=1) for some in zip(*measured, strict=True)]
    divergence = span.diverge_by(quantities, alive, torch.full_like(alive, steps))
    return Followed(steps, stretches, torch.cat(first, dim=1), divergence, alive)


def _with_tail(pieces: Pieces, n: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every piece with the n frames before it."""
    before = None
    for piece in pieces:
        before = piece[:, :0] if before is None else before
        yield piece, before
        joined = torch.cat([before, piece], dim=1)
        before = joined[:, max(0, joined.shape[1] - n) :].clone()
