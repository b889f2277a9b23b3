"""Intervals by bootstrap over speakers, never over frames: frames of one speaker are not independent."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Int
from scipy.stats import norm, t
from torch import Tensor

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; no ends with fewer than two speakers or where a resample is not finite.

    The speakers are those that have frames in it.
    """

    value: float
    low: float | None
    high: float | None
    n_frames: int
    n_speakers: int


class SpeakerBootstrap:
    """Resamples speakers with replacement and recomputes a statistic from per-speaker sums.

    One instance holds one set of resamples, so that every figure of a run, and every difference of two figures,
    rests on the same draws. Intervals are expanded percentiles (Hesterberg 2015, section 5.3): the tails are moved
    out so that few speakers give the width of a t interval, where plain percentiles are too narrow.
    """

    def __init__(
        self, speaker: Int[Tensor, " N"], resamples: int = 2000, seed: int = 0, among: Int[Tensor, " P"] | None = None
    ) -> None:
        """`among` names all speakers that are drawn, so that samples in which some of them are missing stay paired.

        Those that are missing are not counted: a resample holds of the others as many as were drawn.
        """
        names, self.index = speaker.unique(return_inverse=True)
        drawn = names if among is None else among.unique()
        self.n_speakers = len(names)
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randint(len(drawn), (resamples, len(drawn)), generator=generator)
        counts = torch.zeros(resamples, len(drawn), dtype=torch.float64)
        counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
        self.counts = counts[:, torch.isin(drawn, names)]

    def sums(self, values: Float[Tensor, " N"]) -> Float[Tensor, " P"]:
        """Per-speaker sums in float64."""
        zeros = torch.zeros(self.n_speakers, dtype=torch.float64)
        return zeros.index_add(0, self.index, values.double())

    def mean(self, values: Float[Tensor, " N"]) -> Interval:
        """Mean over frames."""
        return self.ratio(values, torch.ones_like(values))

    def ratio(self, numerator: Float[Tensor, " N"], denominator: Float[Tensor, " N"]) -> Interval:
        """Sum over frames of one quantity over the sum of another."""
        return self.interval(self.ratios(numerator, denominator), len(numerator))

    def r2(self, error: Float[Tensor, " N"], total: Float[Tensor, " N"]) -> Interval:
        """1 - sum of squared errors / sum of squares."""
        return self.interval(1 - self.ratios(error, total), len(error))

    def quantile(self, values: Float[Tensor, " N"], q: float) -> Interval:
        """The q-quantile over frames (the smallest value with at least a share q of the frames at or below it)."""
        ordered, order = values.double().sort()
        return self._weighted(ordered, order, lambda w: _quantile(ordered, w, q))

    def trimmed_mean(self, values: Float[Tensor, " N"], share: float = 0.05) -> Interval:
        """Mean over frames without the lowest and the highest `share` of them."""
        ordered, order = values.double().sort()
        return self._weighted(ordered, order, lambda w: _trimmed(ordered, w, share))

    def ratios(self, numerator: Tensor, denominator: Tensor) -> Float[Tensor, " R1"]:
        """The statistic of the sample itself, then of every resample."""
        weights = torch.cat([torch.ones_like(self.counts[:1]), self.counts])
        return (weights @ self.sums(numerator)) / (weights @ self.sums(denominator))

    def _weighted(self, ordered: Tensor, order: Tensor, statistic: Callable[[Tensor], Tensor]) -> Interval:
        speaker = self.index[order]
        ones = torch.ones_like(self.counts[:1])
        parts = [statistic(rows[:, speaker]) for rows in torch.cat([ones, self.counts]).split(64)]
        return self.interval(torch.cat(parts), len(ordered))

    def interval(self, values: Float[Tensor, " R1"], n_frames: int, *others: "SpeakerBootstrap") -> Interval:
        """The interval of a statistic given for the sample itself and then for every resample.

        Resamples that drew none of the speakers tell nothing and are left out: of 6 speakers one in 400 at most.
        `others` are the other samples that it is made of; the one of fewest speakers counts.
        """
        value, made_of = float(values[0]), (self, *others)
        n_speakers = min(one.n_speakers for one in made_of)
        resampled = values[1:][torch.stack([one.counts.sum(1) > 0 for one in made_of]).all(0)]
        if n_speakers < 2 or not resampled.isfinite().all():
            return Interval(value, None, None, n_frames, n_speakers)
        tail = _expanded_tail(n_speakers)
        low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
        return Interval(value, low, high, n_frames, n_speakers)


def _expanded_tail(n: int) -> float:
    """Percentile whose normal quantile, scaled by the bootstrap's (n - 1) / n variance, is that of t (n - 1)."""
    return float(norm.cdf(sqrt(n / (n - 1)) * t.ppf((1 - LEVEL) / 2, n - 1)))


def _quantile(ordered: Float[Tensor, " N"], weights: Float[Tensor, "R N"], q: float) -> Float[Tensor, " R"]:
    cumulative = weights.cumsum(1)
    place = torch.searchsorted(cumulative, q * cumulative[:, -1:]).squeeze(1)
    return ordered[place.clamp(max=len(ordered) - 1)]


def _trimmed(ordered: Float[Tensor, " N"], weights: Float[Tensor, "R N"], share: float) -> Float[Tensor, " R"]:
    cumulative = weights.cumsum(1)
    total = cumulative[:, -1:]
    # What of each frame's weight lies between the two cuts.
    upper = cumulative.minimum((1 - share) * total)
    lower = (cumulative - weights).maximum(share * total)
    kept = (upper - lower).clamp(min=0)
    return (kept @ ordered) / kept.sum(1)
