"""Directions on the unit sphere around a mean direction."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.distributions import Distribution

from audio_engram.distributions import bessel, implicit, wood
from audio_engram.distributions.base import EMPTY, Shape, draw_component, log_weight, relaxed_choice


class VonMisesFisher(Distribution):
    """Density C_D(kappa) exp(kappa loc.d) on the unit sphere of R^D (Mardia and Jupp 2000, 9.3.4).

    `loc` is a unit vector, `concentration` (kappa) is not negative; at 0 the density is uniform.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (the type that torch declares)
    has_rsample = True

    def __init__(self, loc: Float[Tensor, "*#batch D"], concentration: Float[Tensor, "*#batch"]) -> None:
        self.loc, self.concentration = loc, concentration
        batch_shape = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        super().__init__(batch_shape, loc.shape[-1:], validate_args=False)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of the space around the sphere."""
        return self.event_shape[0]

    def log_prob(self, direction: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on the sphere in nats, float64.

        Written with the squared distance to `loc`: kappa (1 - cosine) would lose its digits at large kappa.
        """
        kappa = self.concentration.double()
        distance = (direction.double() - self.loc.double()).square().sum(-1)
        return bessel.shifted_log_normalizer(kappa, self.dim) - 0.5 * kappa * distance

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw unit vectors; NaN where the concentration is not finite.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        with torch.no_grad():
            loc = self.loc.expand(self.batch_shape + self.event_shape)
            return wood.draw(loc, self.concentration, torch.Size(sample_shape), generator)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw unit vectors so that the gradient reaches `loc` and `concentration`.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        loc = self.loc.expand(self.batch_shape + self.event_shape)
        return implicit.draw(loc, self.concentration, torch.Size(sample_shape), generator)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[d] = A_D(kappa) loc."""
        return self.mean_resultant_length[..., None] * self.loc

    @property
    def mean_resultant_length(self) -> Float[Tensor, "*batch"]:
        """A_D(kappa), the expected cosine to `loc`."""
        return bessel.mean_resultant_length(self.concentration, self.dim)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Differential entropy on the sphere in nats, float64."""
        kappa = self.concentration.double()
        rest = bessel.mean_resultant_complement(kappa, self.dim)
        return kappa * rest - bessel.shifted_log_normalizer(kappa, self.dim)

    def kl_to_uniform(self) -> Float[Tensor, "*batch"]:
        """Divergence from the uniform density on the sphere in nats, float64."""
        uniform = bessel.log_normalizer(torch.zeros_like(self.concentration, dtype=torch.float64), self.dim)
        return -uniform - self.entropy()


class VonMisesFisherMixture(Distribution):
    """K von Mises-Fisher densities with weights softmax(`logits`) (movMF, Banerjee et al. 2005)."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (the type that torch declares)
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*batch K"],
        loc: Float[Tensor, "*batch K D"],
        concentration: Float[Tensor, "*batch K"],
    ) -> None:
        self.logits, self.loc, self.concentration = logits, loc, concentration
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=False)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of the space around the sphere."""
        return self.event_shape[0]

    def log_prob(self, direction: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on the sphere in nats, float64."""
        repeated = direction[..., None, :].expand(*direction.shape[:-1], self.logits.shape[-1], self.dim)
        each = VonMisesFisher(self.loc, self.concentration).log_prob(repeated)
        return torch.logsumexp(self.logits.double().log_softmax(-1) + each, -1)

    def component(self, index: Int[Tensor, "*shape"]) -> VonMisesFisher:
        """The density of one component for each element; `index` is (*sample, *batch)."""
        lead = index.shape[: index.dim() - len(self.batch_shape)]
        choice = index[..., None]
        kappa = self.concentration.expand(lead + self.concentration.shape).gather(-1, choice)[..., 0]
        wide = choice[..., None].expand(index.shape + torch.Size([1]) + self.event_shape)
        return VonMisesFisher(self.loc.expand(lead + self.loc.shape).gather(-2, wide).squeeze(-2), kappa)

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw unit vectors.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        index = draw_component(self.logits, torch.Size(sample_shape), generator)
        return self.component(index).sample(generator=generator)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw a component, then reparameterise: the gradient is the one given the component.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        index = draw_component(self.logits, torch.Size(sample_shape), generator)
        return self.component(index).rsample(generator=generator)

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch"]]:
        """A draw like `rsample`'s, and the log-weight of its component."""
        index = draw_component(self.logits, EMPTY, generator)
        return self.component(index).rsample(generator=generator), log_weight(self.logits, index)

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch D"]:
        """Between draws of the components, by the weights of a relaxed choice."""
        weights = relaxed_choice(self.logits, temperature, generator)[..., None]
        each = VonMisesFisher(self.loc, self.concentration).rsample(generator=generator)
        return torch.nn.functional.normalize((weights * each).sum(-2), dim=-1)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[d], the weighted sum of A_D(kappa_k) loc_k."""
        means = VonMisesFisher(self.loc, self.concentration).mean
        return (self.logits.softmax(-1)[..., None] * means).sum(-2)

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """Mean direction of the most probable component."""
        return self.component(self.logits.argmax(-1)).loc
