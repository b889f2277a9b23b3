"""A figure of generated trajectories beside the same figure of real ones, and how far two halves of real ones differ.

Generated and real trajectories come in pairs of one speaker, in the same number and length. Two ways of comparing:

* `paired`: a figure of a set (a median, a share). Its ratio is the generated set's over the real set's, on
  the same speakers; intervals from `SpeakerBootstrap`. The reference is the ratio of one half of the speakers' real
  trajectories to the other half's, over random halves.
* `Halves`: a distance between two sets, which is above 0 for two samples of one distribution and depends on their
  size. Of random halves A and B of the speakers, generated A to real B is compared with real A to real B: sizes are
  equal and no speaker is on both sides, so that the same distribution gives an expected ratio of 1 whatever the bias.
  Another distribution has another bias, which `Halves.bias` tells.
  A resample with replacement holds few speakers twice and would raise both distances; intervals are therefore from the
  jackknife over speakers (delete-a-group, Kott 2001), on the log scale for ratios.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, nan, sqrt

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t
from torch import Tensor

from audio_engram.statistics import LEVEL, Interval, SpeakerBootstrap

N_HALVES = 32
MOST_GROUPS = 32

Statistic = Callable[[Float[Tensor, "R P"]], Float[Tensor, " R"]]
"""A figure under weights of the P speakers, one set of weights a row."""


@dataclass(frozen=True)
class Figure:
    """`ratio` is generated over real: 1 for the same distribution. `halves` is real over real: low and high hold the
    ratios that 95 % of random halves of the speakers give, its value their median."""

    generated: Interval
    real: Interval
    ratio: Interval
    halves: Interval


def random_halves(n: int, generator: torch.Generator, times: int = N_HALVES) -> Bool[Tensor, "2 L P"]:
    """Two disjoint equal halves of n, at random, so many times; an odd one stays out."""
    order = torch.rand(times, n, generator=generator).argsort(1)
    halves = torch.zeros(2, times, n, dtype=torch.bool)
    halves[0].scatter_(1, order[:, : n // 2], True)
    halves[1].scatter_(1, order[:, n // 2 : 2 * (n // 2)], True)
    return halves


def paired(generated: Statistic, real: Statistic, bootstrap: SpeakerBootstrap, generator: torch.Generator) -> Figure:
    """Compare a figure of two sets on the same speakers, resampled together."""
    weights = torch.cat([torch.ones_like(bootstrap.counts[:1]), bootstrap.counts])
    of_generated, of_real = generated(weights), real(weights)
    first, second = random_halves(bootstrap.n_speakers, generator).double()
    n = len(bootstrap.index)
    return Figure(
        generated=bootstrap.interval(of_generated, n),
        real=bootstrap.interval(of_real, n),
        ratio=bootstrap.interval(of_generated / of_real, n),
        halves=spread(real(first) / real(second), n, bootstrap.n_speakers),
    )


def spread(values: Float[Tensor, " L"], n: int, n_speakers: int) -> Interval:
    """Median and central 95 % of figures of random halves; no ends where one is not finite."""
    if not values.isfinite().all():
        return Interval(float(values.nanmedian()), None, None, n, n_speakers)
    tail = (1 - LEVEL) / 2
    low, middle, high = values.double().quantile(torch.tensor([tail, 0.5, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(middle, low, high, n, n_speakers)


class Halves:
    """Groups of speakers, their halves, and the jackknife over them.

    Up to 32 speakers each is a group; more are dealt at random into 32 groups as equal as can be.
    """

    def __init__(self, bootstrap: SpeakerBootstrap, generator: torch.Generator) -> None:
        self.n_speakers, self.n = bootstrap.n_speakers, len(bootstrap.index)
        self.n_groups = min(MOST_GROUPS, self.n_speakers)
        group_of_speaker = torch.randperm(self.n_speakers, generator=generator) % self.n_groups
        self.group: Int[Tensor, " B"] = group_of_speaker[bootstrap.index]
        """The group of each trajectory."""
        self.kept = torch.cat([torch.ones(1, self.n_groups), 1 - torch.eye(self.n_groups)]).double()
        """All groups, then all but each (G + 1, G)."""
        self.first, self.second = random_halves(self.n_groups, generator).double()
        """Weights of two disjoint halves of the groups, random ones (L, G)."""

    def mean(self, distance: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, " G1"]:
        """Mean over halves of a distance that takes weights of the groups on both sides; then without each group."""
        return self.each(distance).mean(1)

    def each(self, distance: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "G1 L"]:
        """The distance of every two halves, of all groups and without each."""
        first, second = ((self.kept[:, None] * half).flatten(0, 1) for half in (self.first, self.second))
        return distance(first, second).view(len(self.kept), -1)

    def bias(self, values: Float[Tensor, " G1"]) -> float:
        """By how much a figure of all groups is too high for want of data, as far as that goes with 1/n.

        The jackknife's estimate from the figure without each (Quenouille 1956; Efron & Tibshirani 1993, section 10.5).
        """
        return (self.n_groups - 1) * float(values[1:].mean() - values[0])

    def interval(self, values: Float[Tensor, " G1"], log: bool = False) -> Interval:
        """The jackknife's t interval of a figure of all groups and then without each; on the log scale if asked.

        No ends with fewer than two groups or where a figure is not finite.
        """
        value = float(values[0])
        used = values.log() if log else values
        if self.n_groups < 2 or not bool(used.isfinite().all()):
            return Interval(value, None, None, self.n, self.n_speakers)
        centre, without = float(used[0]), used[1:]
        variance = (self.n_groups - 1) * float((without - without.mean()).square().mean())
        half_width = float(t.ppf((1 + LEVEL) / 2, self.n_groups - 1)) * sqrt(variance)
        low, high = centre - half_width, centre + half_width
        if log:
            low, high = exp(low), exp(min(high, 700.0))
        return Interval(value, low, high, self.n, self.n_speakers)

    def spread(self, values: Float[Tensor, " L"]) -> Interval:
        """What figures of single halves of the real trajectories give."""
        return spread(values, self.n, self.n_speakers) if self.n_groups > 1 else self.none

    @property
    def none(self) -> Interval:
        """What cannot be told, of a single speaker."""
        return Interval(nan, None, None, self.n, self.n_speakers)
