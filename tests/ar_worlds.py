"""Trajectories of an autoregression whose speakers each have a mean of their own."""

import torch


def speakers(n: int = 20, each: int = 2) -> torch.Tensor:
    """So many rows of each speaker."""
    return torch.arange(n).repeat_interleave(each)


def means(n: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    """What each speaker's frames are about."""
    return 0.5 * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def trajectories(speaker: torch.Tensor, mean: torch.Tensor, seed: int, steps: int = 100) -> torch.Tensor:
    """Stationary AR(1) of unit variance about the speaker's mean, correlation 0.8 a frame (B, S, D)."""
    noise = torch.randn(len(speaker), steps, mean.shape[1], generator=torch.Generator().manual_seed(seed))
    frames = [noise[:, 0]]
    for s in range(1, steps):
        frames.append(0.8 * frames[-1] + 0.6 * noise[:, s])
    return torch.stack(frames, 1) + mean[speaker][:, None]
