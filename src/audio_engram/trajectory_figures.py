"""Figures of generated trajectories that are made of frames and windows, each paired with real ones.

Shares and quantiles are taken over all finite values of a set; what is not finite is counted elsewhere
(`survival.finite_frames`) and would otherwise make every figure NaN.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.against_real import Figure, Halves, Statistic, paired
from audio_engram.group_moments import GroupMoments, Points, finite_pairs
from audio_engram.statistics import Interval, SpeakerBootstrap, _quantile

Pair = tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]
"""Values of generated and of real trajectories."""
ROWS = 64  # resamples at once: frames times rows are held in memory


def magnitudes(latents: Float[Tensor, "B S D"]) -> Float[Tensor, "B S1"]:
    """The lengths of the increments inside each trajectory, float64."""
    return torch.linalg.vector_norm(latents.diff(dim=1).double(), dim=2)


def quantile_figure(values: Pair, q: float, bootstrap: SpeakerBootstrap, generator: torch.Generator) -> Figure:
    """The q-quantile of values of trajectories: magnitudes, distances to training frames, cycle errors, levels."""
    generated, real = (_quantile_of(some, bootstrap.index, q) for some in values)
    return paired(generated, real, bootstrap, generator)


def share_figure(values: Pair, below: float, bootstrap: SpeakerBootstrap, generator: torch.Generator) -> Figure:
    """The share of values below a threshold, such as frozen or repeated windows."""
    generated, real = (_share_of(some, bootstrap, below) for some in values)
    return paired(generated, real, bootstrap, generator)


class CovarianceFigures:
    """Named figures of the covariance of generated and of real frames, on the same speakers.

    Many sets are held against the same real frames, whose figures are therefore kept. Intervals are the jackknife's: a
    resample with replacement has a lower rank than its sample, and variances that differ more between dimensions.
    """

    def __init__(
        self,
        real: Float[Tensor, "B S D"],
        of: Mapping[str, Callable[[Float[Tensor, "R D D"]], Float[Tensor, " R"]]],
        halves: Halves,
    ) -> None:
        self._real, self._of, self._halves = real, of, halves

    def __call__(self, generated: Float[Tensor, "B S D"]) -> dict[str, Figure]:
        """The figures of a set beside those of the real frames, without the places that are not finite in both."""
        halves = self._halves
        mine, real = finite_pairs(generated, self._real, halves.group)
        beside = self._whole if len(real.rows) == self._n_whole else self._of_real(real)
        covariance = self._moments(mine)(halves.kept)[1]
        found = {}
        for name, figure in self._of.items():
            one, (other, spread) = figure(covariance), beside[name]
            found[name] = Figure(
                generated=halves.interval(one, log=True),
                real=halves.interval(other, log=True),
                ratio=halves.interval(one / other, log=True),
                halves=spread,
            )
        return found

    @cached_property
    def _n_whole(self) -> int:
        return int(self._real.isfinite().all(2).sum())

    @cached_property
    def _whole(self) -> dict[str, tuple[Float[Tensor, " G1"], Interval]]:
        return self._of_real(finite_pairs(self._real, self._real, self._halves.group)[1])

    def _of_real(self, points: Points) -> dict[str, tuple[Float[Tensor, " G1"], Interval]]:
        """Of all groups and without each; and the spread of halves."""
        moments = self._moments(points)
        parts = (self._halves.kept, self._halves.first, self._halves.second)
        kept, first, second = (moments(weights)[1] for weights in parts)
        spread = self._halves.spread
        return {name: (figure(kept), spread(figure(first) / figure(second))) for name, figure in self._of.items()}

    def _moments(self, points: Points) -> GroupMoments:
        return GroupMoments(points, self._halves.n_groups, torch.zeros(self._real.shape[2], dtype=torch.float64))


def variance_quantile(covariance: Float[Tensor, "R D D"], q: float) -> Float[Tensor, " R"]:
    """The q-quantile over dimensions of the variance."""
    return covariance.diagonal(dim1=1, dim2=2).quantile(q, dim=1)


def shared_means(
    generated: Float[Tensor, "B M k"], real: Float[Tensor, "B M k"]
) -> tuple[Float[Tensor, "B 1 k"], Float[Tensor, "B 1 k"]]:
    """The mean of each trajectory's windows that are finite in both sets; NaN where none is."""
    whole = (generated.isfinite() & real.isfinite()).all(2, keepdim=True)
    n = whole.sum(1, keepdim=True)
    return (generated.where(whole, 0.0).sum(1, keepdim=True) / n, real.where(whole, 0.0).sum(1, keepdim=True) / n)


def total_variance(covariance: Float[Tensor, "R D D"]) -> Float[Tensor, " R"]:
    """The sum over dimensions of the variance."""
    return covariance.diagonal(dim1=1, dim2=2).sum(1)


def effective_rank(covariance: Float[Tensor, "R D D"]) -> Float[Tensor, " R"]:
    """exp of the entropy of the eigenvalues' shares (Roy & Vetterli 2007); NaN where a covariance is not finite."""
    found = torch.full((len(covariance),), torch.nan, dtype=torch.float64)
    whole = covariance.isfinite().flatten(1).all(1)
    values = torch.linalg.eigvalsh(covariance[whole]).clamp(min=0)
    shares = values / values.sum(1, keepdim=True)
    found[whole] = torch.special.entr(shares).sum(1).exp()
    return found


def _quantile_of(values: Float[Tensor, "B N"], index: Int[Tensor, " B"], q: float) -> Statistic:
    finite, speaker = _finite(values, index)
    ordered, order = finite.sort()
    speaker = speaker[order]

    def statistic(weights: Float[Tensor, "R P"]) -> Float[Tensor, " R"]:
        if not len(ordered):
            return torch.full((len(weights),), torch.nan, dtype=torch.float64)
        return torch.cat([_quantile(ordered, rows[:, speaker], q) for rows in weights.split(ROWS)])

    return statistic


def _share_of(values: Float[Tensor, "B N"], bootstrap: SpeakerBootstrap, below: float) -> Statistic:
    finite, speaker = _finite(values, bootstrap.index)
    zeros = torch.zeros(bootstrap.n_speakers, dtype=torch.float64)
    under = zeros.index_add(0, speaker, (finite < below).double())
    number = torch.bincount(speaker, minlength=bootstrap.n_speakers).double()
    return lambda weights: (weights @ under) / (weights @ number)


def _finite(values: Float[Tensor, "B N"], index: Int[Tensor, " B"]) -> tuple[Float[Tensor, " M"], Int[Tensor, " M"]]:
    """The finite values and the speaker of each."""
    flat, speaker = values.flatten().double(), index.repeat_interleave(values.shape[1])
    whole = flat.isfinite()
    return flat[whole], speaker[whole]
