"""Do reusable directions exist: tight clusters of increments, beyond their nulls, that contexts foretell?"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from audio_engram import numbers
from audio_engram.archetypes import EXPLAINED, Kind, hold
from audio_engram.breathing import fit_breathing
from audio_engram.cluster_criteria import FORETOLD, KNOWN, TIGHT, TIGHTER, TIGHTER_BY
from audio_engram.clustering import TooFewDirectionsError
from audio_engram.data.processes import Analytic
from audio_engram.decision import Criterion, Finding, Verdict, decisive
from audio_engram.errors import DataError
from audio_engram.experiments.direction_clusters import DirectionClusters, Directions
from audio_engram.experiments.known import analytic
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.prototypes import keep_prototypes
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import Interval

NAME = "archetypes"
KINDS: tuple[Kind, ...] = ("real", "gaussian", "random_pairs")
NULLS = KINDS[1:]
LEAST = 10  # training directions for every cluster
STATES = 8
ORDER: tuple[Verdict, ...] = ("pass", "undecided", "unattainable", "fail")


def archetypes(run: Run) -> Outcome:
    """Clusters of directions at every K, on real increments and on both nulls.

    Raises:
        DataError: too few training directions for any K, or fewer that differ than the least K.
    """
    outcome = Outcome()
    kinds = {kind: Directions(run, kind) for kind in KINDS}
    n = len(kinds["real"].rows["train"])
    _refuse_few(run, n)
    counts = [k for k in run.config.experiments.archetype_counts if LEAST * k <= n]
    left_out = [k for k in run.config.experiments.archetype_counts if k not in counts]
    if left_out:
        outcome.warnings.append(
            f"Archetypes: K = {', '.join(map(str, left_out))} left out: under {LEAST} training directions for each."
        )
    outcome.warnings += [
        f"Archetypes: {of.left_out} increments ({kind}) left out: they have no part among the principal components."
        for kind, of in kinds.items()
        if of.left_out
    ]
    judged = _clustered(kinds, counts, outcome)
    found = _found_k(judged)
    best = _spokesman(judged, found)
    known = [] if run.world is None else run.world.clusters()
    outcome.measurements += [
        found,
        *_state_conditioned(kinds["real"], best),
        *(analytic(run, one, NAME) for one in known),
    ]
    keep_prototypes(run, {one.real.k: [one.real, *one.nulls] for one in judged}, best.real.k)
    outcome.findings.append(_judge(best, found, known))
    return outcome


def _clustered(kinds: dict[Kind, Directions], counts: list[int], outcome: Outcome) -> "list[_Judged]":
    """Every K that there are directions for, its figures and what is left out put into `outcome`."""
    judged = []
    for k in counts:
        kinds["real"].run.log(f"archetypes: K = {k}")
        try:
            cells = {kind: DirectionClusters(kinds[kind], k) for kind in KINDS}
        except TooFewDirectionsError as reason:
            if k == min(counts):
                raise
            outcome.warnings.append(f"Archetypes: K = {k} left out: {reason}.")
            continue
        judged.append(_Judged(cells["real"], [cells[null] for null in NULLS]))
        outcome.measurements += [record for cell in cells.values() for record in cell.records]
        outcome.measurements += judged[-1].records
    return judged


def check_counts(run: Run, names: Collection[str]) -> None:
    """Refuse numbers of clusters that are all too many, before anything is measured, if they are asked.

    Raises:
        DataError: naming the setting to lower.
    """
    if NAME in names:
        n = len(run.windows("train", 1).with_valid_target())
        _refuse_few(run, ceil(n * (1 - run.config.experiments.archetype_quantile)))


def _refuse_few(run: Run, n: int) -> None:
    least = min(run.config.experiments.archetype_counts)
    if n < LEAST * least:
        raise DataError(
            f"experiments.archetype_counts: {n} training directions are under {LEAST} for each of K = {least}: "
            "add audio, or a smaller K"
        )


@dataclass(frozen=True)
class _Judged:
    """K clusters beside those of the nulls."""

    real: DirectionClusters
    nulls: list[DirectionClusters]

    @property
    def excess(self) -> Tensor:
        """Tightness beyond the tighter null, for the sample and every resample."""
        return self.real.tightness - torch.stack([null.tightness for null in self.nulls]).amax(0)

    def beyond(self) -> Interval:
        """`excess` with its interval."""
        b, nulls = self.real.bootstrap, [null.bootstrap for null in self.nulls]
        return b.interval(self.excess, len(self.real.held["test"].labels), *nulls)

    @cached_property
    def records(self) -> list[Measurement]:
        """The differences to the nulls, paired over speakers."""
        b, n = self.real.bootstrap, len(self.real.held["test"].labels)
        found = []
        for null in self.nulls:
            tighter = b.interval(self.real.tightness - null.tightness, n, null.bootstrap)
            found.append(self.real.record("tightness_excess", tighter, data=null.of.kind))
        pairs = self.nulls[NULLS.index("random_pairs")]
        foretold = b.interval(self.real.accuracy - pairs.accuracy, n, pairs.bootstrap)
        return [*found, self.real.record("membership_excess", foretold, data="random_pairs")]

    @cached_property
    def verdict(self) -> Verdict:
        """That of the condition that decides."""
        criterion, measured = decisive(self.conditions)
        return criterion.judge(measured)

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        differences = self.records
        return [
            (TIGHT, self.real.one("tightness")),
            (FORETOLD, self.real.one("membership_accuracy")),
            *((TIGHTER, one) for one in differences[:-1]),
            (KNOWN, differences[-1]),
        ]


def _found_k(judged: list[_Judged]) -> Measurement:
    """The least K whose tightness beyond the nulls is as good as the best, within the best's own uncertainty.

    None where no K is `TIGHTER_BY` tighter than both nulls with its whole interval. After the gap statistic of
    Tibshirani, Walther and Hastie (2001), with cosines for log dispersions.
    """
    intervals = [one.beyond() for one in judged]
    tighter = [(i, one.real.k) for i, one in zip(intervals, judged, strict=True) if _lowest(i) > TIGHTER_BY]
    lowest = _lowest(max((i for i, _ in tighter), key=lambda i: i.value, default=intervals[0]))
    k = next((float(k) for i, k in tighter if i.value >= lowest), float("nan"))
    plain = Interval(k, None, None, intervals[0].n_frames, intervals[0].n_speakers)
    return judged[0].real.record("found_k", plain, model="gap")


def _lowest(interval: Interval) -> float:
    return interval.value if interval.low is None else interval.low


def _state_conditioned(of: Directions, best: _Judged) -> list[Measurement]:
    """As many clusters in all, but `STATES` groups of states first and directions within each group."""
    cell, k = best.real, best.real.k
    each = k // STATES
    groups = {s: _states(of, s) for s in ("train", "test")}
    cosine = torch.zeros(len(of.rows["test"]))
    for state in range(STATES):
        train = of.rows["train"][groups["train"] == state]
        mine = groups["test"] == state
        if len(train) < max(2, each) or not bool(mine.any()):
            return []
        generator = generator_for(of.run.config.seed, "archetypes", "states", k, state)
        try:
            means = fit_breathing(max(2, each), train, generator)
        except TooFewDirectionsError:
            return []
        cosine[mine] = hold(of.rows["test"][mine], means.cluster_centers_, train, means.labels_).cosine
    return [cell.record("tightness_state_conditioned", cell.bootstrap.mean(cosine))]


def _states(of: Directions, split: str) -> Tensor:
    """The group of the frame that each increment starts from."""

    def fit() -> KMeans:
        z = of.run.frames().z[of.places("train") - 1]
        seed = seed_for(of.run.config.seed, "archetypes", "states") % 2**32
        return KMeans(STATES, n_init=4, random_state=seed).fit(z.numpy())

    means = of.run.once(("archetypes", "states"), fit)
    return torch.from_numpy(means.predict(of.run.frames().z[of.places(split) - 1].numpy())).long()


def _spokesman(judged: list[_Judged], found: Measurement) -> _Judged:
    """The K that is judged, shown and heard: of those with the best verdict the found one, else the one that comes
    nearest to all that is asked. Some K is enough."""
    return min(judged, key=lambda one: (ORDER.index(one.verdict), one.real.k != found.value, _distance(one)))


def _judge(best: _Judged, found: Measurement, known: Sequence[Analytic]) -> Finding:
    criterion, measured = decisive(best.conditions)
    accuracy, tight, full = (best.real.one(m) for m in ("membership_accuracy", "tightness", "tightness_full"))
    beyond = " and ".join(f"{show(r)} for {_NULL_WORDS[r.data]}" for r in best.records[:-1])
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=best.verdict,
        cause=criterion.cause(measured),
        words=f"K = {best.real.k}: held-out directions have cosine {show(tight)} to their centroid among the principal "
        f"components that hold {EXPLAINED:.0%} of their variance ({show(full)} in all dimensions); less that of the "
        f"nulls it is {beyond}, where more than {TIGHTER_BY} is asked. Contexts foretell {show(accuracy)} of their "
        f"clusters (majority {show(best.real.one('membership_majority'))}). {_of_found(best.real.k, found)}"
        f"{_truth(known)}",
        would_change="Directions of another representation, or of rarer and larger increments "
        "(experiments.archetype_quantile).",
    )


def _of_found(k: int, found: Measurement) -> str:
    """What the gap says of the K that is judged."""
    if found.value is None:
        return f"The gap finds no K: none is more than {TIGHTER_BY} tighter than both nulls with its whole interval."
    if found.value == k:
        return "This K is the one that the gap finds."
    return f"The gap finds K = {found.value:.0f}, whose verdict is worse."


def _truth(known: Sequence[Analytic]) -> str:
    """What a world is known to have, beside what was found in it."""
    told = [f"{_KNOWN_WORDS[one.metric]} {numbers.threshold(one.value)}" for one in known]
    return f" Known of this world beforehand: {', '.join(told)}." if told else ""


def _distance(one: _Judged) -> float:
    """How far the worse of tightness and accuracy falls short."""
    short = [(TIGHT, "tightness"), (FORETOLD, "membership_accuracy")]
    return max(criterion.threshold - (one.real.one(metric).value or 0.0) for criterion, metric in short)


_KNOWN_WORDS = {
    "found_k": "K",
    "tightness_full": "cosine in all dimensions",
    "membership_accuracy": "foretold at best",
}
_NULL_WORDS = {"gaussian": "Gaussian increments", "random_pairs": "random pairs of frames"}
