"""Two densities in one: every draw comes from the one or from the other."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from audio_engram.distributions.base import EMPTY, DeltaDistribution, Shape


class Either(DeltaDistribution):
    """`share` of the draws come from `one`, the others from `other`, of the same shapes.

    The density is share p + (1 - share) q, so that its logarithm is nowhere more than -log(1 - share) below log q:
    that is all a likely density loses when most draws come from elsewhere (Theis et al. 2016, arXiv 1511.01844, 3.2).
    """

    def __init__(self, one: DeltaDistribution, other: DeltaDistribution, share: float) -> None:
        """Raises: ValueError for a share outside (0, 1), or densities of different shapes."""
        if not 0 < share < 1:
            raise ValueError(f"share {share:g}: use more than 0 and less than 1")
        if one.batch_shape != other.batch_shape or one.dim != other.dim:
            shapes = (tuple(law.batch_shape + law.event_shape) for law in (one, other))
            raise ValueError("densities of shapes {} and {}: use the same contexts for both".format(*shapes))
        self.one, self.other, self.share = one, other, share
        super().__init__(one.batch_shape, one.dim)

    def log_prob(self, delta: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Log-density of `delta` on R^D in nats, float64."""
        one = self.one.log_prob(delta) + math.log(self.share)
        return torch.logaddexp(one, self.other.log_prob(delta) + math.log1p(-self.share))

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw from both and keep one of them: the gradient reaches that one."""
        one, other = (law.rsample(sample_shape, generator) for law in (self.one, self.other))
        chosen = torch.rand(one.shape[:-1], generator=generator, device=one.device) < self.share
        return torch.where(chosen.unsqueeze(-1), one, other)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return self.share * self.one.mean + (1 - self.share) * self.other.mean
