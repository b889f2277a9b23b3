"""Processes with structure planted in them: directions that come again, states that follow one another."""

from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.data.processes import Analytic, World, left
from audio_engram.distributions import VonMisesFisher
from audio_engram.seeds import generator_for


class Archetypes(World):
    """Increments along ±32 planted axes, spread by a von Mises-Fisher, with log-normal magnitudes.

    The axis is drawn at random; the sign leans toward the origin, which keeps the walk bounded.
    """

    name, dim = "archetypes", 32
    axes, concentration, pull = 32, 300.0, 1.0
    log_magnitude, log_spread = 0.0, 0.4

    def planted(self) -> Float[Tensor, "K D"]:
        """The K = 64 directions: random axes and their opposites, the same for every seed."""
        axes = torch.randn(self.axes, self.dim, generator=generator_for(0, "planted"), dtype=torch.float64)
        axes = axes / axes.norm(dim=1, keepdim=True)
        return torch.cat([axes, -axes]).float()

    def clusters(self) -> list[Analytic]:
        """How many there are, and the mean cosine A_D(κ) of a direction to the planted one it spreads about."""
        about = VonMisesFisher(self.planted()[0].double(), torch.tensor(self.concentration, dtype=torch.float64))
        cosine = float(about.mean_resultant_length)
        return [Analytic("found_k", "truth", 1, 2.0 * self.axes), Analytic("tightness_full", "truth", 1, cosine)]

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A bounded walk."""
        axes = self.planted()[: self.axes]
        index = torch.randint(self.axes, (self.frames,), generator=generator)
        spread = VonMisesFisher(axes[index], torch.full((self.frames,), self.concentration))
        direction = spread.sample(generator=generator)
        magnitude = (self.log_magnitude + self.log_spread * torch.randn(self.frames, generator=generator)).exp()
        coin = torch.rand(self.frames, generator=generator)
        z, states = torch.zeros(self.dim), []
        for t in range(self.frames):
            outward = torch.sigmoid(-2 * self.pull * (axes[index[t]] @ z))
            sign = 1.0 if coin[t] < outward else -1.0
            z = z + sign * magnitude[t] * direction[t]
            states.append(z)
        return torch.stack(states)


class Chained(Archetypes):
    """The same 64 directions, but each is followed by the next of them, with a jump now and then."""

    name = "chained"
    jumps, memory = 0.05, 0.97

    def clusters(self) -> list[Analytic]:
        """A context foretells the next direction, but for the jumps that lead elsewhere.

        The tightness has no closed form: drawing back turns increments as well, which takes 0.006 off A_D(κ)
        where the shortest quarter is left out.
        """
        k = 2 * self.axes
        told = 1 - self.jumps * (1 - 1 / k)
        return [Analytic("found_k", "truth", 1, float(k)), Analytic("membership_accuracy", "truth", 1, told)]

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """Steps in a circle of directions, around a mean that slowly draws back."""
        n, planted = self.frames, self.planted()
        around = _circle(n, len(planted), self.jumps, generator)
        spread = VonMisesFisher(planted[around], torch.full((n,), self.concentration))
        magnitude = (self.log_magnitude + self.log_spread * torch.randn(n, generator=generator)).exp()
        z, states = torch.zeros(self.dim), []
        for delta in magnitude.unsqueeze(1) * spread.sample(generator=generator):
            z = self.memory * z + delta
            states.append(z)
        return torch.stack(states)


class Correlated(World):
    """A Gaussian process whose dimensions are correlated: its directions crowd around a few axes, and nothing else.

    Two axes carry most of the variance, so that clusters of directions are tight and, because frames return to their
    mean, foretold by contexts. Gaussian increments of the same covariance are as tight.
    """

    name, dim = "correlated", 8
    memory, decay = 0.5, 0.2

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """First-order autoregressions along rotated axes of falling variance."""
        axes = torch.linalg.qr(torch.randn(self.dim, self.dim, generator=generator_for(0, "correlated")))[0]
        scale = self.decay ** torch.arange(self.dim).div(2, rounding_mode="floor")
        noise = torch.randn(self.frames, self.dim, generator=generator)
        states = [noise[0]]
        for e in noise[1:]:
            states.append(self.memory * states[-1] + sqrt(1 - self.memory**2) * e)
        return torch.stack(states) * scale @ axes.T

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """One memory in all directions, so that standardising and turning change nothing."""
        return [left(k, 1 - self.memory ** (2 * (k - 1)) * (1 - self.memory) / 2) for k in lags]


class Regimes(World):
    """Frames around 32 states in 8 dimensions that follow one another in a circle, with a jump now and then.

    No linear rule tells the next of 32 states in 8 dimensions, but a cluster of contexts around each state does.
    """

    name, dim = "regimes", 8
    states, jumps, spread = 32, 0.02, 0.1

    def centres(self) -> Float[Tensor, "K D"]:
        """The states, the same for every seed."""
        return torch.randn(self.states, self.dim, generator=generator_for(0, "regimes"))

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """States in a circle, each seen with noise."""
        around = _circle(self.frames, self.states, self.jumps, generator)
        noise = torch.randn(self.frames, self.dim, generator=generator)
        return self.centres()[around] + self.spread * noise

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """Known at lag 1, to whom the state before is known."""
        return [left(k, self.unexplained()) for k in lags if k == 1]

    def unexplained(self) -> float:
        """Share of the variance of standardised increments that is left when the state before them is known."""
        p = self.centres().double()
        p = (p - p.mean(0)) / (p.var(0, correction=0) + self.spread**2).sqrt()
        noise = 2 * (self.spread**2 / (self.centres().double().var(0, correction=0) + self.spread**2)).sum()
        q = self.jumps
        # From a state: the next with probability 1 - q, otherwise each of all states alike, whose mean is 0.
        following, everywhere = p[torch.arange(1, self.states + 1) % self.states], p.square().sum(1).mean()
        second = (1 - q) * following.square().sum(1).mean() + q * everywhere
        within = second - ((1 - q) * following).square().sum(1).mean()
        covariance = (1 - q) * (following * p).sum(1).mean()
        total = 2 * everywhere - 2 * covariance
        return float((within + noise) / (total + noise))


def _circle(n: int, places: int, jumps: float, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A walk of `n` steps around a circle of so many places, which starts anywhere and jumps now and then."""
    steps = torch.ones(n, dtype=torch.long)
    jumping = torch.rand(n, generator=generator) < jumps
    steps[jumping] = torch.randint(places, (int(jumping.sum()),), generator=generator)
    steps[0] = torch.randint(places, (1,), generator=generator)
    return steps.cumsum(0) % places
