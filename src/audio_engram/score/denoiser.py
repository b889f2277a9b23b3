"""A denoiser: from a frame with Gaussian noise of known size to the expected clean frame.

What it returns is a posterior mean, from which follows the score of the noised density (Miyasawa 1961; Vincent 2011).
"""

from math import log
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.data.windows import Windows
from audio_engram.errors import UsageError
from audio_engram.score.gaussian import LinearGaussian
from audio_engram.sections import ScoreConfig
from audio_engram.seeds import generator_for

FREQUENCIES = (0.5, 1.0, 2.0, 4.0)  # per unit of c_noise, a factor of 55 in sigma


@runtime_checkable
class Denoises(Protocol):
    """E[clean frame | noisy frame, context], learned or exact."""

    def __call__(
        self, noisy: Float[Tensor, "B D"], sigma: Float[Tensor, "#B"], context: Float[Tensor, "B W D"] | None
    ) -> Float[Tensor, "B D"]:
        """The expected clean frame."""


class Block(nn.Module):
    """Two linear layers beside the identity, of which the inner one is scaled and moved by the noise level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)
        self.level = nn.Linear(2 * len(FREQUENCIES), 2 * width)

    def forward(self, hidden: Float[Tensor, "B H"], level: Float[Tensor, "#B L"]) -> Float[Tensor, "B H"]:
        """Hidden features of the next block."""
        scale, offset = self.level(level).chunk(2, dim=1)
        return hidden + self.last(nn.functional.gelu(torch.addcmul(offset, 1 + scale, self.first(hidden))))


class Denoiser(nn.Module):
    """D(noisy, sigma, context) in standardised space, preconditioned by sigma (Karras et al. 2022, eq. 7).

    `context` is how many of the frames before it are read, 0 for an unconditional denoiser. The preconditioning works
    along the principal axes of what a linear rule leaves unexplained, each with its own sigma_data, so that before any
    training D is the best linear denoiser, and what is learned is what that one does not know.
    """

    data_loc: Tensor
    data_scale: Tensor
    frequencies: Tensor

    def __init__(self, config: ScoreConfig, dim: int, context: int = 0) -> None:
        super().__init__()
        self.config, self.dim, self.context = config, dim, context
        self.entry = nn.Linear((1 + context) * dim, config.width)
        self.blocks = nn.ModuleList(Block(config.width) for _ in range(config.depth))
        self.level = nn.Linear(2 * len(FREQUENCIES), config.width)
        self.exit = nn.Linear(config.width, dim)
        self.register_buffer("data_loc", torch.zeros(dim))
        self.register_buffer("data_scale", torch.ones(dim))
        self.linear = LinearGaussian(dim, conditional=context > 0)
        self.register_buffer("frequencies", 2 * torch.pi * torch.tensor(FREQUENCIES), persistent=False)

    def forward(
        self,
        noisy: Float[Tensor, "B D"],
        sigma: Float[Tensor, "#B"],
        context: Float[Tensor, "B W D"] | None = None,
    ) -> Float[Tensor, "B D"]:
        """E[clean | noisy], or E[clean | noisy, the last frames of the context].

        Raises:
            ValueError: if the denoiser reads a context and is given none, or one that is too short.
        """
        seen = self._seen(noisy, context)
        sigma = sigma.unsqueeze(1)
        c_skip, c_out, c_in = self.preconditioning(sigma)
        expected = self.linear(seen)
        surprise = (noisy - expected) @ self.linear.basis
        inputs = torch.cat([c_in * surprise, seen.flatten(1)], dim=1)
        along = torch.addcmul(c_skip * surprise, c_out, self._network(inputs, sigma.log() / 4))
        return expected + along @ self.linear.basis.T

    def preconditioning(self, sigma: Float[Tensor, "*#B 1"]) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in of Karras et al. (2022), table 1, for every axis (*B, D).

        They give the inputs and targets of the network variance 1.
        """
        variance = self.linear.scale.square()
        total = sigma.square() + variance
        return variance / total, sigma * self.linear.scale * total.rsqrt(), total.rsqrt()

    def _seen(self, noisy: Tensor, context: Tensor | None) -> Float[Tensor, "B W D"]:
        """The frames of the context that are read, which may be none."""
        if not self.context:
            return noisy.new_empty(len(noisy), 0, self.dim)
        if context is None or context.shape[1] < self.context:
            raise ValueError(f"this denoiser reads the {self.context} frames before: pass them as context")
        return context[:, -self.context :]

    def _network(self, x: Float[Tensor, "B I"], c_noise: Float[Tensor, "#B 1"]) -> Float[Tensor, "B D"]:
        angle = c_noise * self.frequencies
        level = torch.cat([angle.cos(), angle.sin()], dim=1)
        hidden = self.entry(x)
        for block in self.blocks:
            hidden = block(hidden, level)
        return self.exit(hidden * (1 + self.level(level)))


def make_denoiser(config: ScoreConfig, windows: Windows, seed: int, conditional: bool) -> Denoiser:
    """An untrained denoiser for the frames of the training windows, which are measured for its linear part."""
    frames = windows.frames
    model = Denoiser(config, frames.dim, windows.context if conditional else 0)
    _initialise(model, seed)
    model.data_loc.copy_(frames.loc)
    model.data_scale.copy_(frames.scale)
    model.linear.measure(windows)
    return model.eval()


def describe(model: Denoiser) -> dict[str, Any]:
    """What must be known beside the weights to build the denoiser again."""
    config = model.config.model_dump(mode="json")
    return {"kind": "denoiser", "config": config, "dim": model.dim, "context": model.context}


def levels(config: ScoreConfig, u: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Noise levels at the places 0 <= u <= 1 of the logarithmic range."""
    low, high = log(config.sigma_min), log(config.sigma_max)
    return (low + u * (high - low)).exp()


def check_level(denoiser: Denoises, sigma: float) -> None:
    """Raises: UsageError for a noise level that no score exists at, or that the denoiser was not trained at."""
    if not 0 < sigma < float("inf"):
        raise UsageError(f"noise level {sigma:g}: a score exists at positive noise levels only: use one above 0")
    if isinstance(denoiser, Denoiser):
        low, high = denoiser.config.sigma_min, denoiser.config.sigma_max
        if not low <= sigma <= high:
            raise UsageError(
                f"noise level {sigma:g}: the denoiser was trained at {low:g} to {high:g}: use one of these"
            )


def _initialise(model: Denoiser, seed: int) -> None:
    """Normal weights of variance 1 / inputs; none where the noise level enters and at the exit."""
    generator = generator_for(seed, "initialise")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            silent = name == "exit" or name.endswith("level")
            std = 0.0 if silent else module.in_features**-0.5
            nn.init.normal_(module.weight, std=std, generator=generator)
            nn.init.zeros_(module.bias)
