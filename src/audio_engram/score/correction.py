"""Correctors of a rollout that pull a predicted latent toward where clean frames are, and the score they follow.

A state that has left the finite numbers stays there and disturbs no other row: `broken_step` says where it happened.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.distributions.base import standard_normal
from audio_engram.errors import UsageError
from audio_engram.score.denoiser import Denoises, check_level


def score(
    denoiser: Denoises,
    latent: Float[Tensor, "B D"],
    sigma: float,
    context: Float[Tensor, "B W D"] | None = None,
) -> Float[Tensor, "B D"]:
    """Gradient of the log-density of clean frames plus noise of size sigma: (D(z, sigma) - z) / sigma².

    Miyasawa (1961); for denoisers that are learned Vincent (2011).

    Raises:
        UsageError: for a noise level that is not positive or not trained.
    """
    check_level(denoiser, sigma)
    return (_denoised(denoiser, latent, sigma, context) - latent) / sigma**2


@dataclass(frozen=True)
class Tweedie:
    """Replaces the latent by its posterior mean, as if it were a clean frame plus noise of size `sigma`.

    Raises:
        UsageError: for a noise level that is not positive or not trained.
    """

    denoiser: Denoises
    sigma: float

    def __post_init__(self) -> None:
        check_level(self.denoiser, self.sigma)

    def __call__(self, latent: Float[Tensor, "B D"], context: Float[Tensor, "B W D"]) -> Float[Tensor, "B D"]:
        """The posterior mean of the clean frame."""
        return _denoised(self.denoiser, latent, self.sigma, context)


@dataclass(frozen=True)
class Langevin:
    """`n_steps` of z <- z + eps score(z) + sqrt(2 eps) xi at one noise level, eps = `step_size`, noise included.

    The unadjusted algorithm (Roberts & Tweedie 1996). It draws from clean frames *plus* noise of size sigma, and by
    its finite steps somewhat wider still; on any data it is stable for step sizes below 2 sigma². `denoised` ends with
    the expected clean frame, which takes that noise off again (Jolicoeur-Martineau et al. 2021).
    The generator lives on the device of the latents, and is drawn from for every row in every step.

    Raises:
        UsageError: for a noise level that is not positive or not trained, a step size that is not positive, no steps.
    """

    denoiser: Denoises
    sigma: float
    step_size: float
    n_steps: int
    generator: torch.Generator
    denoised: bool = False

    def __post_init__(self) -> None:
        check_level(self.denoiser, self.sigma)
        if not 0 < self.step_size < float("inf"):
            raise UsageError(f"Langevin step size {self.step_size:g}: use a positive one, such as sigma² / 10")
        if self.n_steps < 1:
            raise UsageError(f"Langevin with {self.n_steps} steps: use at least one")

    def __call__(self, latent: Float[Tensor, "B D"], context: Float[Tensor, "B W D"]) -> Float[Tensor, "B D"]:
        """The latent after all steps, or what is expected of the clean one then."""
        eps = self.step_size
        for _ in range(self.n_steps):
            drift = eps / self.sigma**2 * (_denoised(self.denoiser, latent, self.sigma, context) - latent)
            latent = latent + drift + sqrt(2 * eps) * standard_normal(latent.shape, latent, self.generator)
        return _denoised(self.denoiser, latent, self.sigma, context) if self.denoised else latent


def broken_step(finite: Int[Tensor, " B"], alone: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The step (from 1) at which a corrector broke each rollout, 0 where none did.

    Rollouts stay `finite` for so many steps with the corrector and `alone` for so many without it, from the same draws:
    a model that breaks where the corrector has driven it was broken by the corrector, and one that breaks as early
    without it was not.
    """
    return torch.where(finite < alone, finite + 1, 0)


def _denoised(denoiser: Denoises, latent: Tensor, sigma: float, context: Tensor | None) -> Tensor:
    return denoiser(latent, latent.new_full((1,), sigma), context)
