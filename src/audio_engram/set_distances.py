"""Distances between a set of generated and a set of real windows: Fréchet distance and maximum mean discrepancy.

Both are functions of sums over groups of speakers, so that a half of the speakers, or all but one, costs no new pass.

Fréchet distance of the Gaussians with the sets' moments (Dowson & Landau 1982; Heusel et al. 2017):
`|m1 - m2|^2 + tr S1 + tr S2 - 2 |S1^(1/2) S2^(1/2)|_*`, the last being the sum of singular values. It is biased
upwards by about 1/n, by an amount that depends on the distribution (Chong & Forsyth 2020): only sets of equal size are
compared (`against_real.Halves`), and a value alone means nothing. Of two sets that are as wrong the one of less
variance has less bias and would seem nearer: ratios are of distances whose own bias is exchanged for that of real sets.

MMD^2 with the kernel `exp(-|x - y|^2 / (2 s^2))`, s the median distance between training windows (Gretton et al. 2012,
section 8). Unbiased: the U-statistic of their formula 4 with speakers in the place of samples. Windows of one speaker
are not independent, so that every pair of one speaker is left out, of a generated and a real window too. It is 0 on
average for the same distribution, and can be negative.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.against_real import Figure, Halves
from audio_engram.group_moments import GroupMoments, Points
from audio_engram.statistics import Interval

MEDIAN_OF = 2000  # windows among which the bandwidth is the median distance
Source = Literal["generated", "real"]


Distance = Callable[[Source, Source, Float[Tensor, "R G"], Float[Tensor, "R G"]], Float[Tensor, " R"]]
"""Between two sets of which groups of speakers have weights, one set of weights a row."""


class Frechet:
    """The Fréchet distance of two sets of windows."""

    def __init__(self, generated: Points, real: Points, n_groups: int) -> None:
        centre = real.rows.mean(0)
        self._moments = {
            "generated": GroupMoments(generated, n_groups, centre),
            "real": GroupMoments(real, n_groups, centre),
        }

    def __call__(
        self, one: Source, other: Source, first: Float[Tensor, "R G"], second: Float[Tensor, "R G"]
    ) -> Float[Tensor, " R"]:
        """The distance for every row of weights; NaN where a set has fewer than two windows."""
        return frechet_distance(*self._moments[one](first), *self._moments[other](second))


def frechet_distance(
    mean1: Float[Tensor, "R k"],
    covariance1: Float[Tensor, "R k k"],
    mean2: Float[Tensor, "R k"],
    covariance2: Float[Tensor, "R k k"],
) -> Float[Tensor, " R"]:
    """Fréchet distance (a square) of Gaussians; NaN where a moment is not finite."""
    whole = covariance1.isfinite().flatten(1).all(1) & covariance2.isfinite().flatten(1).all(1)
    found = torch.full((len(mean1),), torch.nan, dtype=torch.float64)
    one, other = covariance1[whole], covariance2[whole]
    trace = (one + other).diagonal(dim1=1, dim2=2).sum(1)
    # Roots first: eigenvalues of the product would be exact to 1e-16 and their roots only to 1e-8.
    common = torch.linalg.svdvals(_root(one) @ _root(other)).sum(1)
    found[whole] = (mean1 - mean2)[whole].square().sum(1) + trace - 2 * common
    return found.clamp(min=0)


def _root(covariance: Float[Tensor, "R k k"]) -> Float[Tensor, "R k k"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt().unsqueeze(1)) @ vectors.mT


class MeanDiscrepancy:
    """MMD^2 of two sets of windows from kernel sums between groups; `bandwidth` is s [distance]."""

    def __init__(self, generated: Points, real: Points, n_groups: int, bandwidth: float) -> None:
        sets = {"generated": generated, "real": real}
        self._count = {k: torch.bincount(p.group, minlength=n_groups).double() for k, p in sets.items()}
        pairs = (("generated", "generated"), ("generated", "real"), ("real", "real"))
        self._kernel = {p: kernel_sums(sets[p[0]], sets[p[1]], n_groups, bandwidth) for p in pairs}
        self._kernel["real", "generated"] = self._kernel["generated", "real"].T

    def biased(
        self, one: Source, other: Source, first: Float[Tensor, "R G"], second: Float[Tensor, "R G"]
    ) -> Float[Tensor, " R"]:
        """All pairs: the V-statistic (Gretton et al. 2012, formula 5), at least 0."""
        return self._squared(one, other, first, second, torch.ones(2 * self._kernel["real", "real"].shape[:1]))

    def unbiased(
        self, one: Source, other: Source, first: Float[Tensor, "R G"], second: Float[Tensor, "R G"]
    ) -> Float[Tensor, " R"]:
        """Pairs of different groups of speakers only: the U-statistic."""
        return self._squared(one, other, first, second, 1 - torch.eye(first.shape[1]))

    def _squared(
        self, one: Source, other: Source, first: Tensor, second: Tensor, counted: Float[Tensor, "G G"]
    ) -> Tensor:
        mean = partial(self._mean, counted.double())
        within = mean((one, one), first, first) + mean((other, other), second, second)
        return within - 2 * mean((one, other), first, second)

    def _mean(self, counted: Tensor, pair: tuple[Source, Source], first: Tensor, second: Tensor) -> Tensor:
        total = (first @ (counted * self._kernel[pair]) * second).sum(1)
        number = ((first * self._count[pair[0]]) @ counted * (second * self._count[pair[1]])).sum(1)
        return total / number


def kernel_sums(one: Points, other: Points, n_groups: int, bandwidth: float) -> Float[Tensor, "G G"]:
    """Sums of the Gaussian kernel over all pairs of windows of every two groups."""
    squares = other.rows.square().sum(1)
    sums = torch.zeros(n_groups, n_groups, dtype=torch.float64)
    for g in range(n_groups):
        column = torch.zeros_like(squares)
        for part in one.rows[one.group == g].split(256):
            square = torch.addmm(squares, part, other.rows.T, alpha=-2).add_(part.square().sum(1, keepdim=True))
            column += square.clamp_(min=0).mul_(-0.5 / bandwidth**2).exp_().sum(0)
        sums[g] = torch.zeros(n_groups, dtype=torch.float64).index_add(0, other.group, column)
    return sums


def median_distance(points: Float[Tensor, "M k"]) -> float:
    """The median distance between two of at most 2,000 of these windows, evenly chosen."""
    chosen = points[torch.linspace(0, len(points) - 1, min(MEDIAN_OF, len(points))).long()]
    return float(torch.pdist(chosen.double()).median())


def frechet_figure(windows: tuple[Points, Points], halves: Halves) -> Figure:
    """Fréchet distance of generated to real windows, beside real to real of the same number; `ratio` is of distances
    with the same bias."""
    return _of_halves(Frechet(*windows, halves.n_groups), halves)


def frechet_times(one: tuple[Points, Points], other: tuple[Points, Points], halves: Halves) -> Interval:
    """How many times as far from real windows `one` is as `other`, of the same speakers: below 1 it is nearer.

    The ratio of two generated sets' `frechet_figure` ratios, each with its own real windows (those that are finite
    beside it), and the jackknife over speakers of that ratio, so that what both have in common cancels.
    """
    both = [_both_ways(Frechet(*windows, halves.n_groups), halves) for windows in (one, other)]
    ratios = [_over_real(generated, each.mean(1), halves) for generated, each in both]
    return halves.interval(ratios[0] / ratios[1], log=True)


def _over_real(generated: Float[Tensor, " G1"], real: Float[Tensor, " G1"], halves: Halves) -> Float[Tensor, " G1"]:
    """Distances of generated sets over those of real ones, both with the bias of real ones."""
    return (generated - halves.bias(generated) + halves.bias(real)) / real


def mmd_figure(windows: tuple[Points, Points], halves: Halves, bandwidth: float) -> Figure:
    """MMD^2: `generated` and `real` unbiased, 0 on average for the same distribution; `ratio` as that of
    `frechet_figure`, of V-statistics.

    `generated` takes all speakers on both sides, `real` one half against the other.
    """
    mmd = MeanDiscrepancy(*windows, halves.n_groups, bandwidth)
    biased = _of_halves(mmd.biased, halves)
    of_all = mmd.unbiased("generated", "real", halves.kept, halves.kept)
    of_real = halves.mean(partial(mmd.unbiased, "real", "real"))
    return Figure(halves.interval(of_all), halves.interval(of_real), biased.ratio, biased.halves)


def _both_ways(distance: Distance, halves: Halves) -> tuple[Float[Tensor, " G1"], Float[Tensor, "G1 L"]]:
    """Generated to real windows of other speakers, and real to real of every two halves."""
    one_way = halves.mean(partial(distance, "generated", "real"))
    generated = (one_way + halves.mean(partial(distance, "real", "generated"))) / 2
    return generated, halves.each(partial(distance, "real", "real"))


def _of_halves(distance: Distance, halves: Halves) -> Figure:
    generated, each = _both_ways(distance, halves)
    real = each.mean(1)
    return Figure(
        generated=halves.interval(generated, log=True),
        real=halves.interval(real, log=True),
        ratio=halves.interval(_over_real(generated, real, halves), log=True),
        halves=halves.spread(each[0] / real[0]),
    )
