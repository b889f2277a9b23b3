"""Do coarse clusters of contexts explain the next increment?"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.data.windows import Windows
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.experiments.conditioning import Conditioning, conditionings
from audio_engram.experiments.meaning import LEVEL, heard
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import Interval, SpeakerBootstrap

CLUSTERS = (64, 256)
SMALLEST = 100  # training frames, below which a cluster is left out
LARGEST_DEGRADATION = 0.2
LEAST_KEPT = 0.5  # of the held-out frames, for a conditioning to be judged
NULLS = ("shuffled_within", "phase_randomised")
BEYOND = 0.05  # of the variance; the surrogates share the spectrum up to what a finite utterance leaves of it
SHARES = (0.5, 0.25, 0.1)  # of the most confident assignments
CHUNK = 8192

CRITERION = Criterion(
    experiment="structure",
    question="Do coarse clusters of contexts explain the next increment?",
    metric="variance_ratio",
    relation="below",
    threshold=0.6,
    reason="Variance of standardised increments within clusters over their total variance, on held-out speakers with "
    f"the clusters' training means; at most {LARGEST_DEGRADATION:.0%} above the ratio on training speakers, and "
    f"{BEYOND} below that of frames in random order and of noise with the same spectrum: differencing and filtering "
    "alone make increments predictable from their context.",
)


@dataclass(frozen=True)
class Means:
    """Count, mean and variance of the training increments in every cluster, and of all together."""

    count: Float[Tensor, " K"]
    mean: Float[Tensor, "K D"]
    variance: Float[Tensor, "K D"]
    total_mean: Float[Tensor, " D"]
    total_variance: Float[Tensor, " D"]
    kept: Bool[Tensor, " K"]

    @property
    def ratio(self) -> float:
        """Within over total variance of the training frames in clusters that are kept, without bias."""
        n = self.count[self.kept]
        about = self.mean[self.kept] - self.total_mean
        within = self.variance[self.kept].sum(1)
        total = within * (n - 1) / n + about.square().sum(1)
        return float((n * within).sum() / (n * total).sum())


def cluster_means(windows: Windows, index: Int[Tensor, " M"], labels: Int[Tensor, " M"]) -> Means:
    """Moments of increments by cluster, in float64."""
    n_clusters = int(labels.max()) + 1
    count = torch.bincount(labels, minlength=n_clusters).double()
    sums = torch.zeros(n_clusters, windows.frames.dim, dtype=torch.float64)
    squares = torch.zeros_like(sums)
    for part, label in zip(index.split(CHUNK), labels.split(CHUNK), strict=True):
        delta = windows.increments(part).double()
        sums.index_add_(0, label, delta)
        squares.index_add_(0, label, delta.square())
    mean = sums / count.clamp(min=1).unsqueeze(1)
    spread = squares - count.unsqueeze(1) * mean.square()
    n = count.sum()
    total_mean = sums.sum(0) / n
    return Means(
        count,
        mean,
        (spread / (count - 1).clamp(min=1).unsqueeze(1)).clamp(min=1e-12),
        total_mean,
        ((squares.sum(0) - n * total_mean.square()) / (n - 1)).clamp(min=1e-12),
        count >= SMALLEST,
    )


@dataclass(frozen=True)
class Explained:
    """Held-out frames whose cluster is kept: squared errors, log-likelihood gained, and who said them."""

    within: Float[Tensor, " M"]
    total: Float[Tensor, " M"]
    gained: Float[Tensor, " M"]
    confidence: Float[Tensor, " M"]
    place: Int[Tensor, " M"]
    share: float

    def only(self, chosen: Bool[Tensor, " M"]) -> "Explained":
        """Some of the frames."""
        within, total, gained = self.within[chosen], self.total[chosen], self.gained[chosen]
        return Explained(within, total, gained, self.confidence[chosen], self.place[chosen], self.share)


def explain(
    means: Means, windows: Windows, index: Int[Tensor, " M"], labels: Int[Tensor, " M"], sure: Tensor
) -> Explained:
    """Score held-out increments against the training mean of their cluster.

    The mean of n frames is off by a share 1/n of their variance, so squared errors are divided by 1 + 1/n: of clusters
    that mean nothing the expected ratio is 1.
    """
    known = labels < len(means.kept)
    known[known.clone()] = means.kept[labels[known]]
    index, labels, share = index[known], labels[known], float(known.double().mean()) if len(known) else 0.0
    parts = [
        _errors(means, windows.increments(part).double(), label)
        for part, label in zip(index.split(CHUNK), labels.split(CHUNK), strict=True)
    ]
    within, total, gained = (torch.cat(one) for one in zip(*parts, strict=True)) if parts else [torch.zeros(0)] * 3
    return Explained(within, total, gained, sure[known], windows.target[index], share)


def _errors(means: Means, delta: Float[Tensor, "M D"], label: Int[Tensor, " M"]) -> tuple[Tensor, Tensor, Tensor]:
    off, off_total = (delta - means.mean[label]).square(), (delta - means.total_mean).square()
    variance = means.variance[label]
    gained = 0.5 * ((means.total_variance / variance).log() + off_total / means.total_variance - off / variance).sum(1)
    within = off.sum(1) / (1 + 1 / means.count[label])
    return within, off_total.sum(1) / (1 + 1 / means.count.sum()), gained


def structure(run: Run) -> Outcome:
    """Variance ratios of three conditionings at every lag, on real data and on its nulls."""
    cells, lags = {}, run.config.experiments.structure_lags
    for data in ("real", *NULLS):
        run.log(f"structure: {data}")
        fitted = conditionings(run.windows("train", 1, data), CLUSTERS, seed_for(run.config.seed, "structure") % 2**32)
        for lag in lags:
            for conditioning in fitted:
                cells[conditioning.name, lag, data] = _Cell(run, conditioning, lag, data)
    outcome = Outcome()
    for cell in cells.values():
        outcome.measurements += cell.measurements()
    names = list(dict.fromkeys(name for name, _, _ in cells))
    judged = [_Judged(cells[name, lag, "real"], [cells[name, lag, n] for n in NULLS]) for name in names for lag in lags]
    outcome.measurements += [record for one in judged for record in one.differences]
    outcome.findings.append(_judge(judged))
    outcome.warnings += [warning for one in judged if (warning := one.warning)]
    return outcome


class _Cell:
    """One conditioning at one lag on one kind of data."""

    def __init__(self, run: Run, conditioning: Conditioning, lag: int, data: str) -> None:
        self.run, self.name, self.lag, self.data = run, conditioning.name, lag, data
        self.train, self.test = (run.windows(split, lag, data) for split in ("train", "test"))
        train, test = self.train.with_valid_target(), self.test.with_valid_target()
        labels, _ = conditioning.assign_all(self.train, train)
        asked, sure = conditioning.assign_all(self.test, test)
        self.means = cluster_means(self.train, train, labels)
        self.explained = explain(self.means, self.test, test, asked, sure)
        self.permuted = self._permuted(train, test, labels, asked) if data == "real" else None
        self.bootstrap = self._bootstrap(self.explained)
        self.ratios = self.bootstrap.ratios(self.explained.within, self.explained.total)
        n = len(self.explained.within)
        self.measured = self._record("variance_ratio", self.bootstrap.interval(self.ratios, n))
        # How much the ratio is higher on held-out speakers than on those the means are of.
        change = self.ratios / self.means.ratio - 1
        self.degradation = self._record("degradation", self.bootstrap.interval(change, n))

    def measurements(self) -> list[Measurement]:
        """All that is told of this cell."""
        train = Interval(self.means.ratio, None, None, int(self.means.count.sum()), 0)
        found = [self.measured, self._record("variance_ratio", train, split="train"), self.degradation]
        found.append(self._record("entropy_reduction", self.bootstrap.mean(self.explained.gained)))
        n = len(self.explained.within)
        found.append(self._record("mass_kept", Interval(self.explained.share, None, None, n, 0)))
        found.append(self._record("clusters_kept", Interval(float(self.means.kept.sum()), None, None, n, 0)))
        if self.permuted is not None:
            found.append(self._ratio(self.permuted, data="permuted"))
            found += self._slices() + self._of_speakers()
        return found

    def _permuted(self, train: Tensor, test: Tensor, labels: Tensor, asked: Tensor) -> Explained:
        """The same cluster sizes, with frames put into them at random."""
        generator = generator_for(self.run.config.seed, "permuted", self.name, self.lag)
        means = cluster_means(self.train, train, labels[torch.randperm(len(labels), generator=generator)])
        asked = asked[torch.randperm(len(asked), generator=generator)]
        return explain(means, self.test, test, asked, torch.zeros(len(asked)))

    def _slices(self) -> list[Measurement]:
        """The middle of utterances, their louder half, and the assignments that are most confident."""
        sure = self.explained.confidence
        chosen = {"middle": self._in_the_middle()}
        if level := heard(self.run):
            chosen["high_energy"] = _louder_half(level[LEVEL], self.test.frames.offsets)[self.explained.place]
        chosen |= {f"confident_{share:.0%}": sure >= sure.quantile(1 - share) for share in SHARES if len(sure)}
        return [self._ratio(self.explained.only(mask), f"variance_ratio_{name}") for name, mask in chosen.items()]

    def _in_the_middle(self) -> Bool[Tensor, " M"]:
        frames, place = self.test.frames, self.explained.place
        utterance = frames.utterance[place]
        start, end = frames.offsets[utterance], frames.offsets[utterance + 1]
        through = (place - start) / (end - start)
        return (through >= 0.25) & (through < 0.75)

    def _of_speakers(self) -> list[Measurement]:
        """How the ratio differs between held-out speakers."""
        b = self.bootstrap
        own = b.sums(self.explained.within) / b.sums(self.explained.total)
        own = own[own.isfinite()]
        return [
            self._record(
                f"variance_ratio_speakers_p{q}",
                Interval(float(own.quantile(q / 100)), None, None, len(self.explained.within), len(own)),
            )
            for q in (10, 50, 90)
            if len(own)
        ]

    def _bootstrap(self, explained: Explained) -> SpeakerBootstrap:
        return self.run.bootstrap(self.test.frames.speaker[explained.place])

    def _ratio(self, explained: Explained, metric: str = "variance_ratio", data: str = "") -> Measurement:
        interval = self._bootstrap(explained).ratio(explained.within, explained.total)
        return self._record(metric, interval, data=data or self.data)

    def _record(self, metric: str, interval: Interval, **what: Any) -> Measurement:
        known = {"experiment": "structure", "model": self.name, "lag": self.lag, "data": self.data}
        return self.run.measure(interval, metric=metric, **(known | what))


def _louder_half(level: Float[Tensor, " N"], offsets: Int[Tensor, " U1"]) -> Bool[Tensor, " N"]:
    """Frames above the median level of their utterance."""
    return torch.cat([one > one.nanmedian() for one in level.split(offsets.diff().tolist())])


class _Judged:
    """A conditioning at a lag beside its nulls."""

    def __init__(self, real: _Cell, nulls: list[_Cell]) -> None:
        self.real = real
        n = len(real.explained.within)
        # Where no cluster of a null is large enough to be kept, its clusters explain nothing.
        self.differences = [
            real._record(
                "variance_ratio_excess",
                real.bootstrap.interval(real.ratios - null.ratios.nan_to_num(1.0), n),
                data=null.data,
            )
            for null in nulls
        ]

    @property
    def warning(self) -> str:
        """What to say of a conditioning that leaves most frames out, empty if it does not."""
        share, n = self.real.explained.share, len(self.real.explained.within)
        if share >= LEAST_KEPT:
            return ""
        return (
            f"Structure: clusters of at least {SMALLEST} training frames hold {share:.1%} of the held-out frames "
            f"({n:,}) by {self.real.name} at lag {self.real.lag}: its ratios, permuted ones too, rest on these and "
            "are not judged."
        )

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        beyond = [(_BEYOND_NULL, difference) for difference in self.differences]
        return [(CRITERION, self.real.measured), (_GENERALISES, self.real.degradation), *beyond]


_GENERALISES = CRITERION.model_copy(update={"metric": "degradation", "threshold": LARGEST_DEGRADATION})
_BEYOND_NULL = CRITERION.model_copy(update={"metric": "variance_ratio_excess", "threshold": -BEYOND})


def _judge(judged: list[_Judged]) -> Finding:
    """The conditioning and lag that explain most speak for all: luck gives the best of nine nothing near 0.6."""
    enough = [one for one in judged if one.real.explained.share >= LEAST_KEPT] or judged
    best = min(enough, key=lambda one: (one.real.measured.high or 9.0, one.real.measured.value or 9.0))
    criterion, measured = decisive(best.conditions)
    judged_at_all = best.real.explained.share >= LEAST_KEPT
    beyond = " and ".join(f"{show(d)} beyond {_NULL_WORDS[d.data]}" for d in best.differences)
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured) if judged_at_all else "undecided",
        cause=criterion.cause(measured) if judged_at_all else "no interval",
        words=f"{best.real.name} at lag {best.real.lag} leaves {show(best.real.measured)} of the variance of held-out "
        f"increments within clusters ({show(best.real.degradation)} more than on training speakers), "
        f"{beyond}.",
        would_change="Finer clusters with more data for each, or another representation.",
    )


_NULL_WORDS = {"shuffled_within": "frames in random order", "phase_randomised": "noise with the same spectrum"}
