"""Densities whose posterior mean is known, exact denoisers for them, and small windows to train on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from audio_engram.data.windows import Windows
from audio_engram.score.denoiser import Denoiser, make_denoiser
from audio_engram.sections import ScoreConfig
from toys import make_frames

SMALL = ScoreConfig(width=64, depth=1, epochs=8, batch_size=128, learning_rate=5e-3, sigma_min=0.2, sigma_max=1.0)
NOISE = 0.4
TINY = SMALL.model_copy(update={"width": 8, "epochs": 4, "sigma_min": 0.1})


@dataclass
class Gaussian:
    """N(loc, covariance) and its exact denoiser."""

    loc: Tensor
    covariance: Tensor

    def __call__(self, noisy: Tensor, sigma: Tensor, context: Tensor | None) -> Tensor:
        total = self.covariance + sigma.square() * torch.eye(len(self.loc), dtype=self.loc.dtype)
        return self.loc + torch.linalg.solve(total, (noisy - self.loc).T).T @ self.covariance

    def noised(self, sigma: float) -> MultivariateNormal:
        return MultivariateNormal(self.loc, self.covariance + sigma**2 * torch.eye(len(self.loc), dtype=self.loc.dtype))


@dataclass
class Mixture:
    """Equally likely clusters of standard deviation `spread` in every direction, and their exact denoiser."""

    centres: Tensor
    spread: float

    def __call__(self, noisy: Tensor, sigma: Tensor, context: Tensor | None) -> Tensor:
        total = self.spread**2 + sigma.square()
        share = (-torch.cdist(noisy, self.centres).square() / (2 * total[0])).softmax(1)
        return (self.spread**2 * noisy + sigma.square() * (share @ self.centres)) / total

    def noised(self, sigma: float) -> MixtureSameFamily:
        n, dim = self.centres.shape
        eye = torch.eye(dim, dtype=self.centres.dtype).expand(n, dim, dim)
        components = MultivariateNormal(self.centres, (self.spread**2 + sigma**2) * eye)
        return MixtureSameFamily(Categorical(torch.ones(n, dtype=self.centres.dtype)), components)


def isotropic(dim: int, scale: float) -> Gaussian:
    """N(0, scale²)."""
    return Gaussian(torch.zeros(dim, dtype=torch.float64), scale**2 * torch.eye(dim, dtype=torch.float64))


def correlated(dim: int) -> Gaussian:
    """Variance 1 in every dimension, correlation 0.8 between all of them."""
    covariance = 0.2 * torch.eye(dim) + 0.8 * torch.ones(dim, dim)
    return Gaussian(torch.zeros(dim), covariance)


def autoregression(n: int, dim: int, rho: float, seed: int) -> Tensor:
    """z_t = rho z_{t-1} + noise with variance 1."""
    noise = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    z = [noise[0]]
    for e in noise[1:]:
        z.append(rho * z[-1] + sqrt(1 - rho**2) * e)
    return torch.stack(z)


def curved(z: Tensor) -> Tensor:
    """A step that no linear rule knows."""
    return 0.8 * (2 * z).cos()


def driven(step: Callable[[Tensor], Tensor], n: int, seed: int) -> Tensor:
    """z_t = step(z_{t-1}) + noise, in two dimensions."""
    noise = NOISE * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    z = [noise[0]]
    for e in noise[1:]:
        z.append(step(z[-1]) + e)
    return torch.stack(z)


def windows_on(train: Tensor, validation: Tensor, context: int = 2) -> tuple[Windows, Windows]:
    """One training and one validation utterance, as they are, and one of the test split that must not be seen."""
    utterances = [train, validation, torch.full_like(validation, 1e3).cumsum(0)]
    frames = make_frames(utterances, ["train", "validation", "test"])
    return Windows(frames, "train", context, 1), Windows(frames, "validation", context, 1)


def toy(config: ScoreConfig = TINY, conditional: bool = True) -> tuple[Denoiser, tuple[Windows, Windows]]:
    """An untrained denoiser and windows of an autoregression; the same in every call."""
    windows = windows_on(autoregression(400, 3, 0.9, 0), autoregression(200, 3, 0.9, 1))
    return make_denoiser(config, windows[0], 0, conditional), windows


def noisy_frames(clean: Tensor, sigma: float, seed: int = 9) -> Tensor:
    """Clean frames plus noise."""
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=clean.dtype)
