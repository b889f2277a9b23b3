"""Trajectories made of true ones by doing one thing wrong, so that each figure shows what it answers to.

Each takes `start`, the last true frame before, and `future`, the true frames after it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.archetypes import gaussian_rows, moments_of


def slow_but_correct(
    start: Float[Tensor, "*B D"], future: Float[Tensor, "*B S D"], share: float
) -> Float[Tensor, "*B S D"]:
    """The true direction of every increment, and this share of its magnitude."""
    return start.unsqueeze(-2) + share * _increments(start, future).cumsum(-2)


def stationary(start: Float[Tensor, "*B D"], future: Float[Tensor, "*B S D"]) -> Float[Tensor, "*B S D"]:
    """Standing still at the last true frame."""
    return start.unsqueeze(-2).expand_as(future).clone()


def wrong_direction(
    start: Float[Tensor, "B D"], future: Float[Tensor, "B S D"], generator: torch.Generator
) -> Float[Tensor, "B S D"]:
    """The true magnitude of every increment in the direction of another, drawn from all of these trajectories."""
    deltas = _increments(start, future)
    directions = torch.nn.functional.normalize(deltas, dim=2).flatten(0, 1)
    drawn = directions[torch.randperm(len(directions), generator=generator).to(directions.device)]
    return start[:, None] + (drawn.view_as(deltas) * deltas.norm(dim=2, keepdim=True)).cumsum(1)


def shuffled_frames(future: Float[Tensor, "B S D"], generator: torch.Generator) -> Float[Tensor, "B S D"]:
    """The frames of each trajectory in random order."""
    order = torch.rand(future.shape[:2], generator=generator).argsort(1).to(future.device)
    return future.gather(1, order[..., None].expand_as(future))


def gaussian_frames(
    future: Float[Tensor, "B S D"], real: Float[Tensor, "N D"], generator: torch.Generator
) -> Float[Tensor, "B S D"]:
    """As many frames drawn from one Gaussian with mean and covariance of the `real` ones.

    What Gaussians cannot say of one frame is lacking here, though every second moment is right.
    """
    n = future.shape[0] * future.shape[1]
    return gaussian_rows(moments_of(real.double()), n, generator).view(future.shape).to(future)


def _increments(start: Float[Tensor, "*B D"], future: Float[Tensor, "*B S D"]) -> Float[Tensor, "*B S D"]:
    return future.diff(dim=-2, prepend=start.unsqueeze(-2))
