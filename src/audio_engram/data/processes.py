"""Gaussian processes whose truth is known: rotating, resonant, white, shuffled."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, exp, log, sin, sqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import gammaln, hyp2f1
from torch import Tensor

from audio_engram.seeds import generator_for


@dataclass(frozen=True)
class Analytic:
    """The exact value of a figure at a lag (`delta_nll` in nats per frame, or a cosine)."""

    metric: str
    model: str
    lag: int
    value: float


class World(ABC):
    """A process: `utterance` draws one, `analytic` says what is true of it."""

    name: str
    dim: int
    speakers = 64
    utterances_per_speaker = 4
    frames = 500
    frame_rate = 12.5

    @abstractmethod
    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """Draw the latents of one utterance of a speaker."""

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """The figures that are known exactly; none by default."""
        return []

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Share of the variance of increments that is left when all frames up to `lag` before are known: the least
        that clusters of contexts can leave. None by default."""
        return []

    def clusters(self) -> list[Analytic]:
        """What is known of the clusters of its directions; nothing by default."""
        return []

    def draw(self, seed: int) -> list[tuple[str, str, Float[Tensor, "N D"]]]:
        """All utterances as (id, speaker, latents)."""
        drawn = []
        for speaker in range(self.speakers):
            generator = generator_for(seed, "world", self.name, speaker)
            for number in range(self.utterances_per_speaker):
                name = f"{self.name}-{speaker:03d}"
                drawn.append((f"{name}-{number}", name, self.utterance(generator, speaker)))
        return drawn


def left(lag: int, ratio: float) -> Analytic:
    """A world's least variance ratio at a lag."""
    return Analytic("variance_ratio", "truth", lag, ratio)


def expected_cosine(correlation: float, dim: int) -> float:
    """E[cos(x, y)] of two isotropic Gaussian vectors in R^D whose coordinates correlate by `correlation`.

    The cosine is an uncentred sample correlation of D pairs, whose mean is known (Hotelling 1953; Muirhead 1982,
    section 5.1): 2/D (Γ((D+1)/2) / Γ(D/2))² ρ ₂F₁(1/2, 1/2; D/2 + 1; ρ²).
    """
    gamma_ratio = 2 * (gammaln((dim + 1) / 2) - gammaln(dim / 2))
    return float(2 / dim * exp(gamma_ratio) * correlation * _hypergeometric(dim / 2 + 1, correlation**2))


def _hypergeometric(c: float, x: float) -> float:
    """₂F₁(1/2, 1/2; c; x) for 0 <= x <= 1."""
    if c < 32:
        return float(hyp2f1(0.5, 0.5, c, x))
    # SciPy's overflows from c = 100 on; there the terms fall faster than k^-32 even at x = 1.
    k = np.arange(2000)
    return float(1 + np.cumprod((k + 0.5) ** 2 / ((c + k) * (k + 1)) * x).sum())


class AR(World):
    """z_t = r R(θ) z_{t-1} + noise: every pair of dimensions turns by θ and shrinks by r; stationary variance 1.

    With A = r R(θ) and unit stationary variance the noise has variance 1 - r². Because A is a scaled rotation all
    covariances are multiples of the identity, so the true predictive density is a diagonal Gaussian at every lag.
    """

    name, dim = "ar", 16
    radius, angle = 0.99, 0.35
    frames = 1000

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A stationary stretch of the process."""
        turn = self.matrix()
        noise = torch.randn(self.frames, self.dim, generator=generator, dtype=torch.float64)
        z = [noise[0]]
        for e in noise[1:]:
            z.append(turn @ z[-1] + sqrt(1 - self.radius**2) * e)
        return torch.stack(z).float()

    def matrix(self) -> Float[Tensor, "D D"]:
        """A."""
        c, s = self.radius * cos(self.angle), self.radius * sin(self.angle)
        return torch.block_diag(*[torch.tensor([[c, -s], [s, c]], dtype=torch.float64)] * (self.dim // 2))

    def correlation(self, k: int) -> float:
        """Lag-k autocorrelation of one dimension."""
        return self.radius**k * cos(k * self.angle)

    @property
    def delta_variance(self) -> float:
        """Variance of an increment in one dimension."""
        return 2 * (1 - self.correlation(1))

    def explained(self, lag: int) -> float:
        """Variance of E[delta_t | z_{t-lag}] = (A^k - A^(k-1)) z_{t-k} in one dimension."""
        return self.radius ** (2 * (lag - 1)) * (self.radius**2 - 2 * self.correlation(1) + 1)

    def explained_by_ar1(self, lag: int) -> float:
        """Variance of the best prediction of each dimension from its own past value alone."""
        return (self.correlation(lag) - self.correlation(lag - 1)) ** 2

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """ΔNLL and direction cosine of the true predictor and of diagonal AR(1); innovation cosine at each lag."""
        found = []
        for k in lags:
            total, full, own = self.delta_variance, self.explained(k), self.explained_by_ar1(k)
            beyond = sqrt((full - own) / (total - own))
            found += [
                Analytic("delta_nll", "truth", k, 0.5 * self.dim * log(1 - full / total)),
                Analytic("delta_nll", "ar1", k, 0.5 * self.dim * log(1 - own / total)),
                Analytic("delta_nll_excess", "truth", k, 0.5 * self.dim * log((total - full) / (total - own))),
                Analytic("direction_cosine", "truth", k, expected_cosine(sqrt(full / total), self.dim)),
                Analytic("direction_cosine", "ar1", k, expected_cosine(sqrt(own / total), self.dim)),
                Analytic("innovation_cosine", "truth", k, expected_cosine(beyond, self.dim)),
            ]
        return found

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """What the true predictor leaves."""
        return [left(k, 1 - self.explained(k) / self.delta_variance) for k in lags]

    def rollout_mean(self, z: Float[Tensor, "*batch D"], steps: int) -> Float[Tensor, "*batch S D"]:
        """E[z_{t+s} | z_t] = A^s z_t: what a free-running mean rollout must reach."""
        turn, states = self.matrix().to(z.dtype), []
        for _ in range(steps):
            z = z @ turn.T
            states.append(z)
        return torch.stack(states, dim=-2)

    def rollout_error(self, steps: int) -> list[float]:
        """Root mean square of ‖z_{t+s} - A^s z_t‖ at s = 1..steps."""
        return [sqrt(self.dim * (1 - self.radius ** (2 * s))) for s in range(1, steps + 1)]


class Noise(World):
    """Independent standard Gaussian frames: regression to the mean and nothing else."""

    name, dim = "noise", 32

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """White noise."""
        return torch.randn(self.frames, self.dim, generator=generator)

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """-ln(2)/2 nats per dimension and cosine 1/√2 (its exact value at D) at lag 1; nothing later."""
        found = []
        for k in lags:
            nll, cosine = (-0.5 * self.dim * log(2), expected_cosine(sqrt(0.5), self.dim)) if k == 1 else (0.0, 0.0)
            found += [Analytic("delta_nll", "truth", k, nll), Analytic("direction_cosine", "truth", k, cosine)]
            found += [Analytic("delta_nll_excess", "truth", k, 0.0)]
        return found

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Half at lag 1, everything later."""
        return [left(k, 0.5 if k == 1 else 1.0) for k in lags]


class Shuffled(AR):
    """Frames of `ar` with an offset for each speaker and a loudness for each utterance, in random order."""

    name = "shuffled"

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """Shuffled frames: who speaks and how loud can be found, dynamics cannot."""
        offset = 0.5 * torch.randn(self.dim, generator=generator_for(speaker, "offset"))
        loudness = (0.25 * torch.randn(1, generator=generator)).exp()
        z = offset + loudness * super().utterance(generator, speaker)
        return z[torch.randperm(len(z), generator=generator)]

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Nothing in closed form."""
        return []

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Nothing in closed form."""
        return []


class Resonance(AR):
    """One pair of dimensions of `ar`: white noise through a resonator, and nothing but its spectrum.

    Clusters of contexts tell where in its swing the pair is and so explain its increments, which a linear rule does
    as well: a filter's doing and no reusable structure.
    """

    name, dim = "resonance", 2


class Walk(World):
    """A walk by independent Gaussian increments: what comes next is the same wherever it is and came from."""

    name, dim = "walk", 8
    frames = 120

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A stretch that starts with an increment from the origin."""
        return torch.randn(self.frames, self.dim, generator=generator).cumsum(0)

    def analytic(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Nothing is foretold, at any lag."""
        names = ("delta_nll", "direction_cosine", "magnitude_r2")
        return [Analytic(name, "truth", k, 0.0) for k in lags for name in names]

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """All of it."""
        return [left(k, 1.0) for k in lags]
