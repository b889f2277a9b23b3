"""Stored residuals as a density: each with a little Gaussian noise around it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from audio_engram.distributions.base import EMPTY, DeltaDistribution, Shape, standard_normal

LEAST_VARIANCE = 1e-6  # of an axis, over that of the largest
CHUNK = 2048


@dataclass(frozen=True)
class Residuals:
    """Residuals less their mean `centre`, along the principal axes in the columns of `axes`, over their deviations."""

    white: Float[Tensor, "N D"]
    centre: Float[Tensor, " D"]
    axes: Float[Tensor, "D D"]
    deviation: Float[Tensor, " D"]

    @classmethod
    def of(cls, rows: Float[Tensor, "N D"]) -> "Residuals":
        """Two or more residuals, in float64. An axis without variance has a millionth of the largest one's.

        Raises:
            ValueError: for fewer, or any that is not finite, or no variance at all.
        """
        if len(rows) < 2 or not bool(rows.isfinite().all()):
            raise ValueError(f"residuals: {len(rows)}, of which some may not be finite: give two or more finite ones")
        centre = rows.double().mean(0)
        left = rows.double() - centre
        variance, axes = torch.linalg.eigh(left.T @ left / len(rows))
        if float(variance[-1]) <= 0:
            raise ValueError("residuals: all the same: nothing to draw from")
        deviation = variance.clamp(min=LEAST_VARIANCE * float(variance[-1])).sqrt()
        return cls(left @ axes / deviation, centre, axes, deviation)

    def whitened(self, rows: Float[Tensor, "M D"]) -> Float[Tensor, "M D"]:
        """Others in the same way."""
        return (rows - self.centre) @ self.axes / self.deviation

    def coloured(self, white: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """The way back."""
        return (white * self.deviation) @ self.axes.T + self.centre

    def to(self, like: Tensor) -> "Residuals":
        """On the device of `like`."""
        return Residuals(*(x.to(like.device) for x in (self.white, self.centre, self.axes, self.deviation)))


class SmoothedBootstrap(DeltaDistribution):
    """delta = `loc` + `scale` r, where r is one of the residuals, all alike probable, and noise of their covariance.

    Whitened, r is sqrt(1 - h²) u + h ε with u a stored residual, ε standard normal and h the `bandwidth`, so that it
    keeps mean and covariance at every h (West 1993, Approximating posterior distributions by mixtures, section 2.2;
    Silverman & Young 1987). h = 1 is the Gaussian of their covariance; towards 0 draws become stored residuals.
    """

    has_rsample = True

    def __init__(
        self,
        loc: Float[Tensor, "*batch D"],
        scale: Float[Tensor, "*batch"],
        residuals: Residuals,
        bandwidth: float,
    ) -> None:
        """Raises: ValueError for a bandwidth outside (0, 1]."""
        if not 0 < bandwidth <= 1:
            raise ValueError(f"bandwidth {bandwidth:g}: use more than 0, where there is no density, and up to 1")
        self.loc, self.scale, self.residuals, self.bandwidth = loc, scale, residuals, bandwidth
        super().__init__(loc.shape[:-1], loc.shape[-1])

    @property
    def _shrink(self) -> float:
        return math.sqrt(1 - self.bandwidth**2)

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on R^D in nats, float64."""
        scale = self.scale.double().expand(delta.shape[:-1])
        rows = ((delta.double() - self.loc.double()) / scale.unsqueeze(-1)).flatten(0, -2)
        known = self.residuals
        each = [self._kernels(known.whitened(part)) for part in rows.split(CHUNK)]
        volume = known.deviation.log().sum() + self.dim * math.log(self.bandwidth) + math.log(len(known.white))
        log_prob = torch.cat(each) - volume - 0.5 * self.dim * math.log(2 * math.pi)
        return log_prob.view(scale.shape) - self.dim * scale.log()

    def _kernels(self, rows: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
        """Log of the sum of the kernels at whitened rows, without their volume."""
        centres = self._shrink * self.residuals.white
        square = rows.square().sum(1, keepdim=True) - 2 * rows @ centres.T + centres.square().sum(1)
        return torch.logsumexp(-0.5 * square / self.bandwidth**2, 1)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw a residual and noise: the gradient reaches `loc` and `scale`."""
        shape = torch.Size(sample_shape) + self.batch_shape
        known = self.residuals
        which = torch.randint(len(known.white), shape, generator=generator, device=self.loc.device)
        noise = standard_normal(shape + self.event_shape, known.white, generator)
        drawn = known.coloured(self._shrink * known.white[which] + self.bandwidth * noise)
        return self.loc + self.scale.unsqueeze(-1) * drawn.to(self.loc)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return self.loc + self.scale.unsqueeze(-1) * self.residuals.centre.to(self.loc)
