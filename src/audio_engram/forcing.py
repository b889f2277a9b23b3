"""Forcing masks: true at step s means that after step s the true frame is fed back.

Teacher forcing, periodic and one-shot injection, free running and scheduled sampling are five masks of one loop.
Each is boolean, (1, S) or (B, S).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor


def teacher_forcing(steps: int) -> Bool[Tensor, "1 S"]:
    """The true frame after every step."""
    return torch.ones(1, steps, dtype=torch.bool)


def free_running(steps: int) -> Bool[Tensor, "1 S"]:
    """Never a true frame."""
    return torch.zeros(1, steps, dtype=torch.bool)


def injection(steps: int, after: Sequence[int]) -> Bool[Tensor, "1 S"]:
    """The true frame after the steps named, counted from 1.

    Raises:
        ValueError: for a step outside 1..S.
    """
    mask = free_running(steps)
    for step in after:
        if not 1 <= step <= steps:
            raise ValueError(f"injection after step {step}: steps run from 1 to {steps}")
        mask[0, step - 1] = True
    return mask


def periodic(steps: int, every: int) -> Bool[Tensor, "1 S"]:
    """The true frame after steps `every`, 2 `every`, ..."""
    return injection(steps, range(every, steps + 1, every))


def scheduled_sampling(shape: tuple[int, int], probability: float, generator: torch.Generator) -> Bool[Tensor, "B S"]:
    """The true frame after each step with this probability, drawn for each example (Bengio et al. 2015)."""
    return torch.rand(shape, generator=generator) < probability
