"""A density in another orthogonal basis: diagonal there, with a full covariance here."""

from jaxtyping import Float
from torch import Generator, Tensor

from audio_engram.distributions.base import EMPTY, DeltaDistribution, Shape


class Rotated(DeltaDistribution):
    """delta = `axes` x with x from `base`; the columns of `axes` are orthonormal, so that densities keep their values.

    With a mixture of diagonal Gaussians as `base` all components share the axes of their covariances: semi-tied
    covariances (Gales 1999) with a fixed transform.
    """

    has_rsample = True

    def __init__(self, base: DeltaDistribution, axes: Float[Tensor, "D D"]) -> None:
        self.base, self.axes = base, axes
        super().__init__(base.batch_shape, base.dim)

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on R^D in nats, float64."""
        return self.base.log_prob(delta @ self.axes.to(delta))

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw without a gradient."""
        return self._turned(self.base.sample(sample_shape, generator))

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw so that the gradient reaches the parameters."""
        return self._turned(self.base.rsample(sample_shape, generator))

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch"]]:
        """A draw of `base`, and the log-probability of the discrete choice in it."""
        draw, log_weight = self.base.choose(generator)
        return self._turned(draw), log_weight

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch D"]:
        """A relaxed draw of `base`."""
        return self._turned(self.base.relaxed(temperature, generator))

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return self._turned(self.base.mean)

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """The typical step of `base`."""
        return self._turned(self.base.typical)

    @property
    def spread(self) -> Float[Tensor, "*batch"]:
        """That of `base`, which no rotation changes."""
        return self.base.spread

    def expected_log_magnitude(
        self, generator: Generator | None = None, n_samples: int = 32
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """E[log |delta|] and the variance of its error, which no rotation changes."""
        return self.base.expected_log_magnitude(generator, n_samples)

    def _turned(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        return x @ self.axes.T.to(x)
