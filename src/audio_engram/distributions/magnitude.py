"""Densities of the magnitude m = |delta| > 0: log-normal and mixtures of log-normals."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.distributions import Distribution

from audio_engram.distributions.base import (
    EMPTY,
    Shape,
    draw_component,
    log_weight,
    relaxed_choice,
    standard_normal,
)

_BISECTIONS = 60


class Magnitude(Distribution):
    """A density over m > 0, one scalar for each element of the batch."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (the type that torch declares)

    def __init__(self, batch_shape: torch.Size) -> None:
        super().__init__(batch_shape, torch.Size(), validate_args=False)

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape"]:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape"]:
        """Draw so that the gradient reaches the parameters."""
        raise NotImplementedError

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """A draw like `rsample`'s, and the log-probability of the discrete choice in it (0 where there is none)."""
        draw = self.rsample(generator=generator)
        return draw, torch.zeros_like(draw)

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch"]:
        """A draw whose discrete choice is relaxed, so that its gradient reaches the weights as well."""
        return self.rsample(generator=generator)

    @property
    def median(self) -> Float[Tensor, "*batch"]:
        """The magnitude that half of the mass lies under."""
        raise NotImplementedError

    @property
    def expected_log(self) -> Float[Tensor, "*batch"]:
        """E[log m]."""
        raise NotImplementedError

    def first_moment_rule(self, n_points: int) -> tuple[Tensor, Tensor]:
        """Points and weights (*batch, points) with E[m f(m)] = sum of weight f(point).

        Gauss-Hermite over log m.
        """
        raise NotImplementedError


class LogNormal(Magnitude):
    """log m is normal with mean `loc` and standard deviation `scale`."""

    def __init__(self, loc: Float[Tensor, "*batch"], scale: Float[Tensor, "*batch"]) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape)

    def log_prob(self, magnitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log-density over m in nats, float64."""
        return _log_normal_log_prob(magnitude.double().log(), self.loc.double(), self.scale.double())

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape"]:
        """Draw so that the gradient reaches the parameters."""
        noise = standard_normal(torch.Size(sample_shape) + self.loc.shape, self.loc, generator)
        return torch.exp(self.loc + self.scale * noise)

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        """E[m], which explodes with `scale`."""
        return torch.exp(self.loc + 0.5 * self.scale**2)

    @property
    def median(self) -> Float[Tensor, "*batch"]:
        """The magnitude that half of the mass lies under."""
        return torch.exp(self.loc)

    @property
    def expected_log(self) -> Float[Tensor, "*batch"]:
        """E[log m]."""
        return self.loc

    def first_moment_rule(self, n_points: int) -> tuple[Tensor, Tensor]:
        """See `Magnitude`; weighting by m only shifts log m by the variance."""
        points, weights = _hermite(n_points, self.loc)
        centre, spread = self.loc + self.scale**2, self.scale
        return torch.exp(centre[..., None] + spread[..., None] * points), self.mean[..., None] * weights


class LogNormalMixture(Magnitude):
    """A mixture of K log-normals with weights softmax(`logits`)."""

    def __init__(
        self,
        logits: Float[Tensor, "*batch K"],
        loc: Float[Tensor, "*batch K"],
        scale: Float[Tensor, "*batch K"],
    ) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(loc.shape[:-1])

    @property
    def weights(self) -> Float[Tensor, "*batch K"]:
        """Probabilities of the components."""
        return self.logits.softmax(-1)

    def log_prob(self, magnitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log-density over m in nats, float64."""
        each = _log_normal_log_prob(magnitude.double().log()[..., None], self.loc.double(), self.scale.double())
        return torch.logsumexp(self.logits.double().log_softmax(-1) + each, -1)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape"]:
        """Draw a component, then reparameterise: the gradient is the one given the component."""
        shape = torch.Size(sample_shape)
        return self._of(draw_component(self.logits, shape, generator), shape, generator)

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """A draw like `rsample`'s, and the log-weight of its component."""
        component = draw_component(self.logits, EMPTY, generator)
        return self._of(component, EMPTY, generator), log_weight(self.logits, component)

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch"]:
        """log m of the components' draws from the same noise, mixed by the weights of a relaxed choice."""
        weights = relaxed_choice(self.logits, temperature, generator)
        noise = standard_normal(self.batch_shape, self.loc, generator)[..., None]
        return torch.exp((weights * (self.loc + self.scale * noise)).sum(-1))

    def _of(self, component: Tensor, shape: torch.Size, generator: Generator | None) -> Tensor:
        """A draw of each component (*shape, *batch)."""
        choice = component[..., None]
        loc, scale = (x.expand(shape + x.shape).gather(-1, choice)[..., 0] for x in (self.loc, self.scale))
        return torch.exp(loc + scale * standard_normal(loc.shape, loc, generator))

    @property
    def mean(self) -> Float[Tensor, "*batch"]:
        """E[m], which explodes with `scale`."""
        return (self.weights * torch.exp(self.loc + 0.5 * self.scale**2)).sum(-1)

    @property
    def median(self) -> Float[Tensor, "*batch"]:
        """The magnitude that half of the mass lies under, by bisection on the distribution function.

        The gradient is the implicit one, -dF/dparameter / density.
        """
        low, high = self.loc.detach().aminmax(dim=-1)
        with torch.no_grad():
            for _ in range(_BISECTIONS):
                middle = 0.5 * (low + high)
                under = self._cdf_of_log(middle) < 0.5
                low, high = torch.where(under, middle, low), torch.where(under, high, middle)
            root = 0.5 * (low + high)
            density = torch.exp(self.log_prob(torch.exp(root)) + root).to(root.dtype)
        return torch.exp(root - (self._cdf_of_log(root) - self._cdf_of_log(root).detach()) / density)

    def _cdf_of_log(self, log_magnitude: Tensor) -> Tensor:
        z = (log_magnitude[..., None] - self.loc) / self.scale
        return (self.weights * torch.special.ndtr(z)).sum(-1)

    @property
    def expected_log(self) -> Float[Tensor, "*batch"]:
        """E[log m]."""
        return (self.weights * self.loc).sum(-1)

    def first_moment_rule(self, n_points: int) -> tuple[Tensor, Tensor]:
        """See `Magnitude`; the rules of the components one after the other."""
        points, weights = LogNormal(self.loc, self.scale).first_moment_rule(n_points)
        return points.flatten(-2), (self.weights[..., None] * weights).flatten(-2)


def _log_normal_log_prob(log_magnitude: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    z = (log_magnitude - loc) / scale
    return -0.5 * z * z - scale.log() - log_magnitude - 0.5 * math.log(2 * math.pi)


def _hermite(n_points: int, like: Tensor) -> tuple[Tensor, Tensor]:
    points, weights = np.polynomial.hermite_e.hermegauss(n_points)
    weights = weights / math.sqrt(2 * math.pi)
    return torch.as_tensor(points).to(like), torch.as_tensor(weights).to(like)
