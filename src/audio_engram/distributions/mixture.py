"""Diagonal Gaussians over the increment, alone and in mixtures."""

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from audio_engram.distributions import gaussian_kernel
from audio_engram.distributions.base import (
    EMPTY,
    DeltaDistribution,
    Shape,
    draw_component,
    log_weight,
    relaxed_choice,
    standard_normal,
)


class DiagonalGaussian(DeltaDistribution):
    """Independent Gaussians with mean `loc` and standard deviation `scale`."""

    has_rsample = True

    def __init__(self, loc: Float[Tensor, "*batch D"], scale: Float[Tensor, "*batch D"]) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape[:-1], loc.shape[-1])

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on R^D in nats, float64."""
        scale = self.scale.double()
        z = (delta.double() - self.loc) / scale
        return -0.5 * z.square().sum(-1) - scale.log().sum(-1) - 0.5 * self.dim * math.log(2 * math.pi)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw so that the gradient reaches the parameters."""
        noise = standard_normal(torch.Size(sample_shape) + self.loc.shape, self.loc, generator)
        return self.loc + self.scale * noise

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return self.loc

    @property
    def spread(self) -> Float[Tensor, "*batch"]:
        """Root of the mean variance."""
        return self.scale.square().mean(-1).sqrt()


class DiagonalGaussianMixture(DeltaDistribution):
    """K diagonal Gaussians with weights softmax(`logits`) (Bishop 1994, Mixture Density Networks)."""

    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*batch K"],
        loc: Float[Tensor, "*batch K D"],
        log_scale: Float[Tensor, "*batch K D"],
    ) -> None:
        self.logits, self.loc, self.log_scale = logits, loc, log_scale
        super().__init__(loc.shape[:-2], loc.shape[-1])

    @property
    def weights(self) -> Float[Tensor, "*batch K"]:
        """Probabilities of the components."""
        return self.logits.softmax(-1)

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on R^D in nats, float64."""
        each = gaussian_kernel.component_log_prob(delta, self.loc, self.log_scale)
        return torch.logsumexp(self.logits.double().log_softmax(-1) + each, -1)

    def component(self, index: Int[Tensor, "*shape"]) -> DiagonalGaussian:
        """The Gaussian of one component for each element; `index` is (*sample, *batch)."""
        choice = index[..., None, None].expand(*index.shape, 1, self.dim)
        lead = index.shape[: index.dim() - len(self.batch_shape)]
        loc, log_scale = (x.expand(lead + x.shape).gather(-2, choice).squeeze(-2) for x in (self.loc, self.log_scale))
        return DiagonalGaussian(loc, log_scale.exp())

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw a component, then reparameterise its Gaussian: the gradient is the one given the component."""
        index = draw_component(self.logits, torch.Size(sample_shape), generator)
        return self.component(index).rsample(generator=generator)

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch"]]:
        """A draw like `rsample`'s, and the log-weight of its component."""
        index = draw_component(self.logits, EMPTY, generator)
        return self.component(index).rsample(generator=generator), log_weight(self.logits, index)

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch D"]:
        """The components' draws from the same noise, mixed by the weights of a relaxed choice."""
        weights = relaxed_choice(self.logits, temperature, generator)[..., None]
        noise = standard_normal(self.batch_shape + self.event_shape, self.loc, generator).unsqueeze(-2)
        return (weights * (self.loc + self.log_scale.exp() * noise)).sum(-2)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return (self.weights[..., None] * self.loc).sum(-2)

    @property
    def spread(self) -> Float[Tensor, "*batch"]:
        """Root of the mean variance: within components and between their means."""
        around = self.loc - self.mean.unsqueeze(-2)
        variance = ((2 * self.log_scale).exp() + around.square()).mean(-1)
        return (self.weights * variance).sum(-1).sqrt()

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """Mean of the most probable component."""
        choice = self.logits.argmax(-1)[..., None, None].expand(*self.batch_shape, 1, self.dim)
        return self.loc.gather(-2, choice).squeeze(-2)
