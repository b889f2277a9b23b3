"""Directions of increments as frames of their own, and the head that foretells the next from those before it.

What is a frame elsewhere is here a unit vector, and the increment leads from one to the next: windows, training and
rollout then serve as they stand, and no model of directions can see where a trajectory is or how fast it moves.
"""

from dataclasses import replace
from math import log

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.data.frames import Frames
from audio_engram.data.windows import Windows
from audio_engram.distributions import DeltaDistribution, VonMisesFisher, concentration_from_mean_cosine
from audio_engram.distributions.base import EMPTY, Shape
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import Head, Start

DIRECTION = "direction"


def directions(latents: Float[Tensor, "B N D"], least: float = 0.0) -> Float[Tensor, "B N1 D"]:
    """The unit vectors of the increments inside each trajectory; zeros for those no longer than `least`."""
    delta = latents.diff(dim=1)
    length = torch.linalg.vector_norm(delta, dim=2, keepdim=True)
    return torch.where(length > least, delta / length.clamp(min=1e-30), 0.0)


def direction_frames(frames: Frames) -> Frames:
    """The directions of all increments, utterance after utterance, zeros where there is digital silence.

    `loc` and `scale` stay those of the latents, by whose standardised increments the directions are.
    """
    inner = torch.ones(len(frames.z), dtype=torch.bool)
    inner[frames.offsets[:-1]] = False
    u = torch.zeros_like(frames.z)
    u[1:] = directions(frames.z.unsqueeze(0))[0]
    lengths = frames.offsets.diff() - 1
    kept = lengths > 0
    return replace(
        frames,
        z=torch.where(frames.moving.unsqueeze(1), u, 0.0)[inner],
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), lengths[kept].cumsum(0)]),
        speaker=frames.speaker[inner],
        split=frames.split[inner],
        moving=frames.moving[inner],
        utterances=tuple(name for name, one in zip(frames.utterances, kept.tolist(), strict=True) if one),
    )


class NextDirection(DeltaDistribution):
    """A von Mises-Fisher density of the next direction, as one of the step that leads to it from the `last`.

    It lives on the sphere: `log_prob` is in nats with respect to its surface, not to R^D.
    """

    has_rsample = True

    def __init__(self, towards: VonMisesFisher, last: Float[Tensor, "*batch D"]) -> None:
        self.towards, self.last = towards, last
        super().__init__(towards.batch_shape, towards.dim)

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density of the direction that `delta` leads to, in nats on the sphere, float64."""
        return self.towards.log_prob(self.last.double() + delta.double())

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw a step so that the gradient reaches the parameters.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        return self.towards.rsample(sample_shape, generator) - self.last

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw a step without a gradient.

        Raises:
            NumericalError: a concentration is so large that its square is no number.
        """
        return self.towards.sample(sample_shape, generator) - self.last

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[d] less the last direction: what it leads to lies inside the sphere."""
        return self.towards.mean - self.last

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """The step to the mean direction."""
        return self.towards.loc - self.last


class DirectionHead(Head):
    """Von Mises-Fisher around a learned direction to which the last one, times a learned factor, is added."""

    log_concentration: Tensor

    def __init__(self, config: ModelConfig, start: Start) -> None:
        self.n_outputs = len(start.last) + 1
        super().__init__(config, start)
        self.register_buffer("log_concentration", torch.tensor(log(start.concentration)))

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> NextDirection:
        """Direction and concentration from one set of outputs."""
        towards, concentration = raw.split([self.dim, 1], dim=1)
        loc = nn.functional.normalize(self.last * last + self.scale * towards, dim=1, eps=1e-12)
        kappa = (self.log_concentration + concentration[:, 0]).clamp(-7.0, 14.0).exp()
        return NextDirection(VonMisesFisher(loc, kappa), last)


def measure_direction_start(windows: Windows) -> Start:
    """Read off training directions how each dimension follows its last value, and how well that foretells."""
    ar1 = fit_baseline("ar1", windows)
    follows = 1.0 + ar1.last
    index, cosines = windows.with_valid_target(), []
    for segment in windows.batches(index[:: 1 + len(index) // 20_000]):
        expected = follows * segment.context[:, -1]
        cosines.append(nn.functional.cosine_similarity(expected, segment.future[:, -1]))
    cosine = torch.cat(cosines).double().mean().clamp(0.01, 0.99)
    return Start(
        last=follows,
        scale=ar1.scale,
        concentration=float(concentration_from_mean_cosine(cosine, windows.frames.dim)),
        log_magnitude=0.0,
        log_spread=1.0,
        data_loc=windows.frames.loc,
        data_scale=windows.frames.scale,
    )
