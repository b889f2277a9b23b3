"""Processes of which a context tells either the direction of the next increment or its magnitude, and not the other."""

from math import cos, exp, log, pi, sin, sqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaln, roots_hermitenorm, roots_jacobi
from torch import Tensor

from audio_engram.data.processes import Analytic, World
from audio_engram.distributions import VonMisesFisher

NODES = 48  # of every quadrature
Array = np.ndarray


class Headings(World):
    """Directions turn inward and around, by a von Mises-Fisher about a heading; magnitudes are drawn independently.

    The heading is cos(lean) towards the origin and sin(lean) along the last frame turned by a right angle in every
    pair of dimensions. What diagonal AR(1) can tell of it is the inward part.
    """

    name, dim = "headings", 16
    concentration, lean = 40.0, 1.0
    log_magnitude, log_spread = 0.0, 0.4
    settling = 50

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A bounded walk, its first steps left out."""
        n = self.frames + self.settling
        spread = self.spread().sample((n,), generator=generator).double().numpy()
        magnitude = (self.log_magnitude + self.log_spread * torch.randn(n, generator=generator)).exp().double().numpy()
        z, states = torch.randn(self.dim, generator=generator).double().numpy(), []
        for d, m in zip(spread, magnitude, strict=True):
            z = z + m * _reflected(d, self.heading(z))
            states.append(z)
        return torch.from_numpy(np.stack(states[self.settling :])).float()

    def heading(self, z: Array) -> Array:
        """The mean direction of the increment that follows a frame."""
        turned = np.empty_like(z)
        turned[0::2], turned[1::2] = -z[1::2], z[0::2]
        return (sin(self.lean) * turned - cos(self.lean) * z) / sqrt(z @ z)

    def spread(self) -> VonMisesFisher:
        """Directions about the first axis."""
        axis = torch.eye(self.dim, dtype=torch.float64)[0]
        return VonMisesFisher(axis, torch.tensor(self.concentration, dtype=torch.float64))

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """R² of log m is 0 at every lag. At lag 1 the cosine is A_D(κ), and the true density of an increment is a von
        Mises-Fisher times a log-normal, against a Gaussian of the same variance."""
        found = [Analytic("magnitude_r2", "truth", k, 0.0) for k in lags]
        if 1 in lags:
            d, s = self.dim, self.log_spread
            nll = float(self.spread().entropy()) + _log_normal_entropy(self.log_magnitude, s)
            nll += (d - 1) * self.log_magnitude
            variance = exp(2 * self.log_magnitude + 2 * s**2) / d
            found.append(Analytic("delta_nll", "truth", 1, nll - _gaussian_entropy(variance, d)))
            found.append(Analytic("direction_cosine", "truth", 1, float(self.spread().mean_resultant_length)))
        return found


def _reflected(d: Array, towards: Array) -> Array:
    """A direction drawn about the first axis, in the mirror that puts this axis on another unit vector."""
    normal = -towards
    normal[0] += 1.0
    square = normal @ normal
    return d if square < 1e-24 else d - (2 * (normal @ d) / square) * normal


class Strides(World):
    """Frames in independent uniform directions, at a distance from the origin whose logarithm is an AR(1).

    The last frame tells how far out the walk is, and so how long the next increments are; of their direction it tells
    that they lead back to the mean, and at longer lags nothing.
    """

    name, dim = "strides", 16
    memory, log_spread = 0.95, 0.4

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A stationary stretch."""
        noise = torch.randn(self.frames, generator=generator).tolist()
        logs = [noise[0]]
        for e in noise[1:]:
            logs.append(self.memory * logs[-1] + sqrt(1 - self.memory**2) * e)
        direction = torch.nn.functional.normalize(torch.randn(self.frames, self.dim, generator=generator), dim=1)
        return (self.log_spread * torch.tensor(logs)).exp().unsqueeze(1) * direction

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """R² of log m at every lag, by quadrature. At lag 1 ΔNLL, its excess (the best baseline is the state marginal:
        frames are uncorrelated) and the cosine; at longer lags contexts tell no direction."""
        found = [Analytic("magnitude_r2", "truth", k, self.magnitude_r2(k)) for k in lags]
        found += [Analytic("direction_cosine", "truth", k, self.cosine() if k == 1 else 0.0) for k in lags]
        if 1 in lags:
            d, s = self.dim, self.log_spread
            sphere = log(2) + d / 2 * log(pi) - float(gammaln(d / 2))
            nll = sphere + _log_normal_entropy(0.0, s * sqrt(1 - self.memory**2))  # of log-distances with mean 0
            variance = exp(2 * s**2) / d
            found.append(Analytic("delta_nll", "truth", 1, nll - _gaussian_entropy(2 * variance, d)))
            found.append(Analytic("delta_nll_excess", "truth", 1, nll - _gaussian_entropy(variance, d)))
        return found

    def cosine(self) -> float:
        """E[cos] of the increment and the way back to the origin."""
        x, _, w = self._grid()
        angle, share = self._angles()
        ratio = np.exp(self._growth(x, self._grid()[1]))[:, None]
        values = (1 - ratio * angle) / np.sqrt(1 + ratio**2 - 2 * ratio * angle)
        return float(w @ values @ share)

    def magnitude_r2(self, lag: int) -> float:
        """Share of the variance of log m that the log-distance `lag` frames before tells."""
        x, e, w = self._grid()
        step = self._log_length(self._growth(x, e))
        mean = float(w @ (x + step[0]))
        total = float(w @ (x**2 + 2 * x * step[0] + step[1])) - mean**2
        # E[log m] given the log-distance of the frame before, then given that of `lag` frames before.
        nodes, weights = _normal_rule()
        rho = self.memory ** (lag - 1)
        before = self.log_spread * (rho * nodes[:, None] + sqrt(1 - rho**2) * nodes)
        grown = self._growth(before[..., None], nodes)
        known = (before + self._log_length(grown)[0] @ weights) @ weights
        return float(weights @ (known - mean) ** 2) / total

    def _growth(self, x: Array, e: Array) -> Array:
        """Log-distance of the next frame less this one's, `x`, with a standard normal innovation `e`."""
        return (self.memory - 1) * x + self.log_spread * sqrt(1 - self.memory**2) * e

    def _log_length(self, growth: Array) -> tuple[Array, Array]:
        """E[l] and E[l²] of the log-length l of an increment from a frame at distance 1, over its direction."""
        angle, share = self._angles()
        ratio = np.exp(growth)[..., None]
        values = 0.5 * np.log(1 + ratio**2 - 2 * ratio * angle)
        return values @ share, values**2 @ share

    def _grid(self) -> tuple[Array, Array, Array]:
        """Log-distances, innovations and weights."""
        nodes, weights = _normal_rule()
        x, e = np.meshgrid(self.log_spread * nodes, nodes, indexing="ij")
        return x.ravel(), e.ravel(), np.outer(weights, weights).ravel()

    def _angles(self) -> tuple[Array, Array]:
        """Cosines of two independent directions, whose density is (1 - c²)^((D-3)/2), and weights."""
        nodes, weights = roots_jacobi(NODES, (self.dim - 3) / 2, (self.dim - 3) / 2)
        return nodes, weights / weights.sum()


def _normal_rule() -> tuple[Array, Array]:
    """Nodes and weights of a standard normal variable."""
    nodes, weights = roots_hermitenorm(NODES)
    return nodes, weights / weights.sum()


def _log_normal_entropy(loc: float, scale: float) -> float:
    return loc + 0.5 * log(2 * pi * scale**2) + 0.5


def _gaussian_entropy(variance: float, dim: int) -> float:
    """Of an isotropic one; also the mean NLL under it of anything with its mean and variance."""
    return dim / 2 * (1 + log(2 * pi * variance))
