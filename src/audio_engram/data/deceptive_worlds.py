"""Processes with nothing to find that look as if there were: a linear filter of pulses, a plane for every recording."""

import cmath
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.data.processes import Analytic, World, left


class Pulses(World):
    """z_t = a z_{t-1} + e_t, where e_t is now and then a pulse of ±1 in one dimension, with a little noise in all.

    A context after a pulse tells what follows as any linear filter does, but Gaussian noise with the same spectrum has
    no pulses for clusters to gather around.
    """

    name, dim = "pulses", 8
    memory, rate, spread = -0.85, 0.06, 0.02

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A stretch that starts at rest."""
        n = self.frames
        axis = torch.randint(self.dim, (n,), generator=generator)
        height = torch.randint(2, (n,), generator=generator) * 2.0 - 1.0
        struck = torch.rand(n, generator=generator) < self.rate
        innovations = self.spread * torch.randn(n, self.dim, generator=generator)
        innovations[torch.arange(n), axis] += height * struck
        z, states = torch.zeros(self.dim), []
        for e in innovations:
            z = self.memory * z + e
            states.append(z)
        return torch.stack(states)

    def variance_left(self, lags: tuple[int, ...]) -> list[Analytic]:
        """What first-order autoregression leaves, and nothing leaves less."""
        return [left(k, 1 - self.memory ** (2 * (k - 1)) * (1 - self.memory) / 2) for k in lags]


class Planes(World):
    """A Gaussian resonance that turns in one of four orthogonal planes, drawn for every utterance.

    Directions of one utterance fill its plane evenly. Taken together those of many crowd into four planes, which a
    Gaussian of their common covariance, or pairs of frames of several utterances, do not.
    """

    name, dim = "planes", 8
    frames = 200
    planes, radius, angle, spread = 4, 0.97, 1.3, 0.01

    def utterance(self, generator: torch.Generator, speaker: int) -> Float[Tensor, "N D"]:
        """A stationary stretch in a plane, with a little noise in all dimensions."""
        plane = int(torch.randint(self.planes, (), generator=generator))
        noise = torch.randn(self.frames, 2, generator=generator, dtype=torch.float64)
        z = self.spread * torch.randn(self.frames, self.dim, generator=generator)
        turn, state = cmath.rect(self.radius, self.angle), complex(*noise[0].tolist())
        for t, (x, y) in enumerate(noise.tolist()):
            if t:
                state = turn * state + sqrt(1 - self.radius**2) * complex(x, y)
            z[t, 2 * plane] += state.real
            z[t, 2 * plane + 1] += state.imag
        return z
