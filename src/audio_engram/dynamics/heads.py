"""Heads: from hidden features to a distribution over the increment."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.codecs.pca import Moments
from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import (
    CoupledConcentration,
    DeltaDistribution,
    DiagonalGaussianMixture,
    LogNormal,
    LogNormalMixture,
    Polar,
    Rotated,
    concentration_from_mean_cosine,
)
from audio_engram.dynamics.baselines import Baseline


@dataclass(frozen=True)
class Start:
    """Where a head starts: the AR(1) baseline (`last`, `scale`), its mean cosine and the law of log m.

    `axes` (columns) are the principal axes of the baseline's residual and `axes_scale` the deviations along them.
    `data_loc` and `data_scale` standardise raw latents; a model keeps them, so that its file is enough to use it.
    `prototypes` are the directions, among standardised increments, that a memory starts from; None: random ones.
    """

    last: Float[Tensor, " D"]
    scale: Float[Tensor, " D"]
    concentration: float
    log_magnitude: float
    log_spread: float
    data_loc: Float[Tensor, " D"] | None = None
    data_scale: Float[Tensor, " D"] | None = None
    axes: Float[Tensor, "D D"] | None = None
    axes_scale: Float[Tensor, " D"] | None = None
    prototypes: Float[Tensor, "K D"] | None = None


class Head(nn.Module, ABC):
    """One linear layer and the distribution its outputs stand for.

    `last` frame times a learned factor is added to the predicted increment, so that regression to the mean
    need not pass through the backbone.
    """

    n_outputs: int
    scale: Tensor

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__()
        self.config, self.dim = config, len(start.last)
        self.last = nn.Parameter(start.last.clone())
        self.register_buffer("scale", start.scale.clone())
        self.linear = nn.Linear(config.width, self.n_outputs)

    @abstractmethod
    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """The distribution that the linear layer's outputs and the last frame stand for."""


class MixtureHead(Head):
    """Mixture density (Bishop 1994): K diagonal Gaussians over the increment."""

    def __init__(self, config: ModelConfig, start: Start) -> None:
        self.n_outputs = config.components * (2 * len(start.last) + 1)
        super().__init__(config, start)

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """Means and scales are offsets from the AR(1) baseline, in units of its residual."""
        k, d = self.config.components, self.dim
        logits, loc, log_scale = raw.split([k, k * d, k * d], dim=1)
        centre = self._centre(last).unsqueeze(1)
        loc = torch.addcmul(centre, self.scale, loc.view(-1, k, d))
        # In place: these are the largest arrays of a step, and each further copy costs as much as reading them.
        log_scale = (self.scale.log() + log_scale.view(-1, k, d)).clamp_(min=log(self.config.min_scale))
        return DiagonalGaussianMixture(logits, loc, log_scale)

    def _centre(self, last: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return self.last * last


class SemiTiedHead(MixtureHead):
    """The same along the principal axes of the AR(1) residual, so that covariances are full (Gales 1999)."""

    axes: Tensor

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__(config, start)
        dim = len(start.last)
        self.register_buffer("axes", torch.eye(dim) if start.axes is None else start.axes.clone())
        if start.axes_scale is not None:
            self.scale = start.axes_scale.clone()

    def _centre(self, last: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return super()._centre(last) @ self.axes

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """A mixture along the axes, turned back."""
        return Rotated(super().distribution(raw, last), self.axes)


class PolarHead(Head):
    """Von Mises-Fisher direction times (mixture of) log-normal magnitude."""

    centre: Tensor
    log_concentration: Tensor

    def __init__(self, config: ModelConfig, start: Start, n_further: int = 0) -> None:
        self.n_outputs = len(start.last) + 2 + 3 * config.magnitude_components + n_further
        super().__init__(config, start)
        self.register_buffer("centre", torch.tensor([start.log_magnitude, log(start.log_spread)]))
        self.register_buffer("log_concentration", torch.tensor(log(start.concentration)))
        if config.concentration == "coupled":
            self.log_m_scale = nn.Parameter(torch.tensor(start.log_magnitude))

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """Direction, concentration and magnitude from one set of outputs."""
        direction, concentration, magnitude = self._parts(raw)
        return self._polar(self._towards(direction, last), concentration, magnitude)

    def _parts(self, raw: Float[Tensor, "B O"]) -> tuple[Tensor, Tensor, Tensor]:
        direction, concentration, magnitude = raw.split([self.dim, 2, 3 * self.config.magnitude_components], dim=1)
        return direction, concentration[:, 0], magnitude

    def _towards(self, direction: Float[Tensor, "B D"], last: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return nn.functional.normalize(self.last * last + self.scale * direction, dim=1, eps=1e-12)

    def _polar(
        self, loc: Float[Tensor, "B D"], concentration: Float[Tensor, " B"], magnitude: Float[Tensor, "B M"]
    ) -> Polar:
        log_kappa = (self.log_concentration + concentration).clamp(-7.0, 14.0)
        law = self._law(magnitude)
        if self.config.concentration == "coupled":
            return Polar(loc, CoupledConcentration(log_kappa, self.log_m_scale.exp()), law)
        return Polar(loc, log_kappa.exp(), law)

    def _law(self, raw: Float[Tensor, "B M"]) -> LogNormal | LogNormalMixture:
        return magnitude_law(raw, self.centre)


def magnitude_law(raw: Float[Tensor, "*batch M"], centre: Float[Tensor, "2"]) -> LogNormal | LogNormalMixture:
    """One log-normal for every three numbers; they are offsets from `centre`, mean and log spread of log m."""
    loc, spread, logits = raw.unflatten(-1, (3, -1)).unbind(-2)
    loc = centre[0] + loc
    sigma = (centre[1] + spread).clamp(-5.0, 3.0).exp()
    n = loc.shape[-1]
    if n == 1:
        return LogNormal(loc[..., 0], sigma[..., 0])
    # Without an offset the components would start alike and stay alike.
    return LogNormalMixture(logits, loc + torch.linspace(-0.5, 0.5, n, device=loc.device), sigma)


class MagnitudeHead(PolarHead):
    """Uniform direction times log-normal magnitude: what the magnitude alone can be told."""

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """Direction carries nothing: concentration 0."""
        loc = nn.functional.normalize(raw[:, : self.dim].detach() + self.scale, dim=1)
        return Polar(loc, torch.zeros_like(raw[:, 0]), self._law(raw[:, self.dim + 2 :]))


HEADS: dict[str, type[Head]] = {"mdn": MixtureHead, "vmf": PolarHead, "magnitude": MagnitudeHead}


def measure_start(windows: Windows, ar1: Baseline, covariance: str = "diagonal") -> Start:
    """Read the starting point off the training split at this lag; axes for `semi-tied` covariances alone."""
    cosines, log_m, residual = [], [], Moments()
    tied = covariance == "semi-tied"
    index = windows.with_valid_target()
    for segment in windows.batches(index[:: 1 + len(index) // 20_000]):
        delta = segment.delta[:, -1]
        log_m.append(delta.norm(dim=1).log())
        expected = ar1(segment.context).mean
        cosines.append(nn.functional.cosine_similarity(expected, delta))
        if tied:
            residual.add(delta - expected)
    values = torch.cat(log_m).double()
    cosine = torch.cat(cosines).double().mean().clamp(0.01, 0.99)
    variances, axes = torch.linalg.eigh(residual.covariance) if tied else (None, None)
    return Start(
        last=ar1.last,
        scale=ar1.scale,
        concentration=float(concentration_from_mean_cosine(cosine, windows.frames.dim)),
        log_magnitude=float(values.mean()),
        log_spread=float(values.std().clamp(min=1e-3)),
        data_loc=windows.frames.loc,
        data_scale=windows.frames.scale,
        axes=None if axes is None else axes.float(),
        axes_scale=None if variances is None else variances.clamp(min=1e-12).sqrt().float(),
    )
