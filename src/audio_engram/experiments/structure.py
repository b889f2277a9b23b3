"""Do coarse clusters of contexts explain the next increment?"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram import numbers
from audio_engram.cluster_criteria import (
    BEYOND,
    BEYOND_NULL,
    ENOUGH,
    EXPLAINS,
    GENERALISES,
    LEAST_KEPT,
    SMALLEST,
)
from audio_engram.cluster_criteria import CONTEXT_NULLS as NULLS
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.experiments.cluster_moments import Explained, Means, cluster_means, explain
from audio_engram.experiments.conditioning import Conditioning, conditionings
from audio_engram.experiments.known import analytic
from audio_engram.experiments.meaning import LEVEL, heard
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import Interval, SpeakerBootstrap

CLUSTERS = (64, 256)
SHARES = (0.5, 0.25, 0.1)  # of the most confident assignments


def structure(run: Run) -> Outcome:
    """Variance ratios of three conditionings at every lag, on real data and on its nulls."""
    cells, lags = {}, run.config.experiments.structure_lags
    for data in ("real", *NULLS):
        run.log(f"structure: {data}")
        fitted = conditionings(run.windows("train", 1, data), CLUSTERS, seed_for(run.config.seed, "structure") % 2**32)
        for lag in lags:
            for conditioning in fitted:
                cells[conditioning.name, lag, data] = _Cell(run, conditioning, lag, data)
    outcome = Outcome([record for cell in cells.values() for record in cell.records])
    names = list(dict.fromkeys(name for name, _, _ in cells))
    judged = [_Judged(cells[name, lag, "real"], [cells[name, lag, n] for n in NULLS]) for name in names for lag in lags]
    outcome.measurements += [record for one in judged for record in one.differences]
    known = [] if run.world is None else run.world.variance_left(lags)
    outcome.measurements += [analytic(run, one, "structure") for one in known]
    outcome.findings.append(_judge(judged))
    outcome.warnings += _warnings(judged)
    return outcome


class _Cell:
    """One conditioning at one lag on one kind of data. Of the frames themselves nothing is kept."""

    def __init__(self, run: Run, conditioning: Conditioning, lag: int, data: str) -> None:
        self.run, self.name, self.lag, self.data = run, conditioning.name, lag, data
        self.train, self.test = (run.windows(split, lag, data) for split in ("train", "test"))
        train, test = self.train.with_valid_target(), self.test.with_valid_target()
        labels, _ = conditioning.assign_all(self.train, train)
        asked, sure = conditioning.assign_all(self.test, test)
        means = cluster_means(self.train, train, labels)
        found = explain(means, self.test, test, asked, sure)
        self.share = found.share
        self.bootstrap = self._bootstrap(found)
        self.ratios = self.bootstrap.ratios(found.within, found.total)
        self.measured = self._record("variance_ratio", self.interval(self.ratios))
        # How much the ratio is higher on held-out speakers than on those the means are of.
        self.degradation = self._record("degradation", self.interval(self.ratios / means.ratio - 1))
        self.on_training = self._on_training(means, train[means.rows(labels) >= 0])
        everywhere = self.test.frames.speaker[self.test.target[test]]
        share = Interval(found.share, None, None, len(test), len(everywhere.unique()))
        self.kept = self._record("mass_kept", share)
        self.records = [self.measured, self.on_training, self.degradation, *self._more(found, means)]
        if data == "real":
            permuted = self._permuted(train, test, labels, asked)
            self.records += [self._ratio(permuted, data="permuted"), *self._slices(found), *self._of_speakers(found)]

    @property
    def enough(self) -> bool:
        """Whether its ratio speaks for the frames at large."""
        return self.share >= LEAST_KEPT

    def interval(self, values: Tensor, *others: SpeakerBootstrap) -> Interval:
        """The interval of a statistic; its speakers are those that are heard in clusters that are kept."""
        return self.bootstrap.interval(values, len(self.bootstrap.index), *others)

    def _on_training(self, means: Means, kept: Int[Tensor, " M"]) -> Measurement:
        speakers = self.train.frames.speaker[self.train.target[kept]].unique()
        interval = Interval(means.ratio, None, None, len(kept), len(speakers))
        return self._record("variance_ratio", interval, split="train")

    def _more(self, found: Explained, means: Means) -> list[Measurement]:
        """What clusters tell of the density, and how many frames they hold."""
        clusters = Interval(float(len(means.count)), None, None, len(found.within), self.bootstrap.n_speakers)
        return [
            self._record("entropy_reduction", self.bootstrap.mean(found.gained)),
            self.kept,
            self._record("clusters_kept", clusters),
        ]

    def _permuted(self, train: Tensor, test: Tensor, labels: Tensor, asked: Tensor) -> Explained:
        """The same cluster sizes, with frames put into them at random."""
        generator = generator_for(self.run.config.seed, "permuted", self.name, self.lag)
        means = cluster_means(self.train, train, labels[torch.randperm(len(labels), generator=generator)])
        asked = asked[torch.randperm(len(asked), generator=generator)]
        return explain(means, self.test, test, asked, torch.zeros(len(asked)))

    def _slices(self, found: Explained) -> list[Measurement]:
        """The middle of utterances, their louder half, and the assignments that are most confident."""
        sure = found.confidence
        chosen = {"middle": self._in_the_middle(found.place)}
        if level := heard(self.run):
            chosen["high_energy"] = _louder_half(level[LEVEL], self.test.frames.offsets)[found.place]
        chosen |= {f"confident_{share:.0%}": sure >= sure.quantile(1 - share) for share in SHARES if len(sure)}
        return [self._ratio(found.only(mask), f"variance_ratio_{name}") for name, mask in chosen.items()]

    def _in_the_middle(self, place: Int[Tensor, " M"]) -> Bool[Tensor, " M"]:
        frames = self.test.frames
        utterance = frames.utterance[place]
        start, end = frames.offsets[utterance], frames.offsets[utterance + 1]
        through = (place - start) / (end - start)
        return (through >= 0.25) & (through < 0.75)

    def _of_speakers(self, found: Explained) -> list[Measurement]:
        """How the ratio differs between held-out speakers."""
        own = self.bootstrap.sums(found.within) / self.bootstrap.sums(found.total)
        own = own[own.isfinite()]
        return [
            self._record(
                f"variance_ratio_speakers_p{q}",
                Interval(float(own.quantile(q / 100)), None, None, len(found.within), len(own)),
            )
            for q in (10, 50, 90)
            if len(own)
        ]

    def _bootstrap(self, found: Explained) -> SpeakerBootstrap:
        return self.run.bootstrap(self.test.frames.speaker[found.place])

    def _ratio(self, found: Explained, metric: str = "variance_ratio", data: str = "") -> Measurement:
        interval = self._bootstrap(found).ratio(found.within, found.total)
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
        self.real, self.nulls = real, nulls
        # What holds fewest frames: a null that cannot be measured is none to beat.
        self.least = min([real, *nulls], key=lambda cell: cell.share)

    @cached_property
    def differences(self) -> list[Measurement]:
        """The ratio less that of each null, paired over speakers; none where one of them holds too few frames."""
        nulls = self.nulls if self.least.enough else []
        less = {null.data: self.real.interval(self.real.ratios - null.ratios, null.bootstrap) for null in nulls}
        return [self.real._record("variance_ratio_excess", interval, data=data) for data, interval in less.items()]

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        beyond = [(BEYOND_NULL, difference) for difference in self.differences]
        return [(EXPLAINS, self.real.measured), (GENERALISES, self.real.degradation), *beyond]


def _judge(judged: list[_Judged]) -> Finding:
    """The conditioning and lag that explain most speak for all: luck gives the best of nine nothing near 0.6."""
    enough = [one for one in judged if one.least.enough]
    if not enough:
        return _too_few(max(judged, key=lambda one: (one.least.share, one.real.share)).least)
    best = min(enough, key=lambda one: (one.real.measured.high or 9.0, one.real.measured.value or 9.0))
    criterion, measured = decisive(best.conditions)
    less = [f"{show(d)} for {_NULL_WORDS[d.data]}" for d in best.differences]
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured),
        cause=criterion.cause(measured),
        words=f"{best.real.name} at lag {best.real.lag} leaves {show(best.real.measured)} of the variance of held-out "
        f"increments within clusters, on training speakers {numbers.number(best.real.on_training.value)}; less what "
        f"it leaves of the nulls it is {', '.join(less[:-1])} and {less[-1]}, where less than "
        f"{numbers.threshold(-BEYOND)} is asked.",
        would_change="Finer clusters with more data for each, or another representation.",
    )


def _too_few(cell: _Cell) -> Finding:
    """Nothing can be judged; `cell` is the one that comes nearest."""
    of = _NULL_WORDS.get(cell.data, "the real frames")
    return Finding(
        criterion=ENOUGH,
        measured=cell.kept,
        verdict="undecided",
        cause="too few frames",
        words=f"Too few frames: nothing can be judged unless clusters of at least {SMALLEST} training frames hold "
        f"{LEAST_KEPT:.0%} of the held-out frames and of each null's. What comes nearest is {cell.name} at lag "
        f"{cell.lag}, with {cell.share:.1%} of {of}.",
        would_change="More audio: of more training speakers, or longer.",
    )


def _warnings(judged: Sequence[_Judged]) -> list[str]:
    """One line on what is not judged because it holds too few frames."""
    few: dict[str, list[_Judged]] = {}
    for one in judged:
        if not one.least.enough:
            few.setdefault(one.real.name, []).append(one)
    said = [f"{name} at lag {', '.join(f'{o.real.lag} ({o.least.share:.1%})' for o in of)}" for name, of in few.items()]
    return [
        f"Structure: not judged, because clusters of at least {SMALLEST} training frames hold under {LEAST_KEPT:.0%} "
        f"of the held-out frames, real ones or a null's: {'; '.join(said)}. Their ratios rest on few frames."
    ] * bool(said)


_NULL_WORDS = {
    "shuffled_within": "frames in random order",
    "phase_randomised": "noise with the same spectrum",
    "autoregressed": "AR(1) with residuals in random order",
}
