"""Do reusable directions exist: tight clusters of increments, beyond their nulls, that contexts foretell?"""

from dataclasses import dataclass
from functools import cached_property

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from audio_engram.archetypes import Kind, hold
from audio_engram.breathing import fit_breathing
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.experiments.direction_clusters import DirectionClusters, Directions
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.prototypes import keep_prototypes
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import generator_for, seed_for
from audio_engram.statistics import Interval

KINDS: tuple[Kind, ...] = ("real", "gaussian", "random_pairs")
NULLS = KINDS[1:]
LEAST = 10  # training directions for every cluster
STATES = 8
ACCURATE = 0.6
TIGHTER_BY = 0.01  # more than two k-means from other starts differ by

CRITERION = Criterion(
    experiment="archetypes",
    question="Do reusable directions exist, and do contexts foretell them?",
    metric="tightness",
    relation="above",
    threshold=0.75,
    reason="Mean cosine of held-out directions to their centroid for some number of clusters, "
    f"{TIGHTER_BY} above that of both nulls "
    "(Gaussian increments of the same covariance; increments to random frames of the same speaker), with "
    f"{ACCURATE:.0%} of the clusters of held-out speakers' next increments foretold from their contexts, more than "
    "where the next frame is a random one.",
)
FORETOLD = CRITERION.model_copy(update={"metric": "membership_accuracy", "threshold": ACCURATE})
TIGHTER = CRITERION.model_copy(update={"metric": "tightness_excess", "threshold": TIGHTER_BY})
KNOWN = CRITERION.model_copy(update={"metric": "membership_excess", "threshold": 0.0})


def archetypes(run: Run) -> Outcome:
    """Clusters of directions at every K, on real increments and on both nulls."""
    outcome = Outcome()
    kinds = {kind: Directions(run, kind) for kind in KINDS}
    counts = [k for k in run.config.experiments.archetype_counts if LEAST * k <= len(kinds["real"].rows["train"])]
    left_out = [k for k in run.config.experiments.archetype_counts if k not in counts]
    if left_out:
        outcome.warnings.append(
            f"Archetypes: K = {', '.join(map(str, left_out))} left out: under {LEAST} training directions for each."
        )
    judged = []
    for k in counts:
        run.log(f"archetypes: K = {k}")
        cells = {kind: DirectionClusters(kinds[kind], k) for kind in KINDS}
        judged.append(_Judged(cells["real"], [cells[null] for null in NULLS]))
        outcome.measurements += [record for cell in cells.values() for record in cell.records]
        outcome.measurements += judged[-1].records
    if judged:
        found = _found_k(judged)
        shown = int(found.value or judged[-1].real.k)
        outcome.measurements += [found, *_state_conditioned(kinds["real"], judged, shown)]
        keep_prototypes(run, {one.real.k: [one.real, *one.nulls] for one in judged}, shown)
        outcome.findings.append(_judge(judged, found))
    return outcome


@dataclass(frozen=True)
class _Judged:
    """K clusters beside those of the nulls."""

    real: DirectionClusters
    nulls: list[DirectionClusters]

    @property
    def excess(self) -> Tensor:
        """Tightness beyond the tighter null, for the sample and every resample."""
        return self.real.tightness - torch.stack([null.tightness for null in self.nulls]).amax(0)

    @cached_property
    def records(self) -> list[Measurement]:
        """The differences to the nulls, paired over speakers."""
        b, n = self.real.bootstrap, len(self.real.held["test"].labels)
        found = [
            self.real.record("tightness_excess", b.interval(self.real.tightness - null.tightness, n), data=null.of.kind)
            for null in self.nulls
        ]
        pairs = self.nulls[NULLS.index("random_pairs")]
        foretold = b.interval(self.real.accuracy - pairs.accuracy, n)
        return [*found, self.real.record("membership_excess", foretold, data="random_pairs")]

    @property
    def conditions(self) -> list[tuple[Criterion, Measurement]]:
        """All that must hold."""
        differences = self.records
        return [
            (CRITERION, self.real.one("tightness")),
            (FORETOLD, self.real.one("membership_accuracy")),
            *((TIGHTER, one) for one in differences[:-1]),
            (KNOWN, differences[-1]),
        ]


def _found_k(judged: list[_Judged]) -> Measurement:
    """The least K whose tightness beyond the nulls is as good as the best, within the best's own uncertainty.

    None where no K is tighter than the nulls. After the gap statistic of Tibshirani, Walther and Hastie (2001), with
    cosines for log dispersions.
    """
    intervals = [one.real.bootstrap.interval(one.excess, len(one.real.held["test"].labels)) for one in judged]
    best = max(intervals, key=lambda i: i.value)
    lowest = best.value if best.low is None else best.low
    k = next(one.real.k for one, i in zip(judged, intervals, strict=True) if i.value >= lowest)
    plain = Interval(float(k) if lowest > TIGHTER_BY else float("nan"), None, None, best.n_frames, best.n_speakers)
    return judged[0].real.record("found_k", plain, model="gap")


def _state_conditioned(of: Directions, judged: list[_Judged], k: int) -> list[Measurement]:
    """As many clusters in all, but `STATES` groups of states first and directions within each group."""
    cell = next(one.real for one in judged if one.real.k == k)
    each = k // STATES
    groups = {s: _states(of, s) for s in ("train", "test")}
    cosine = torch.zeros(len(of.rows["test"]))
    for state in range(STATES):
        train = of.rows["train"][groups["train"] == state]
        mine = groups["test"] == state
        if len(train) < max(2, each) or not bool(mine.any()):
            return []
        generator = generator_for(of.run.config.seed, "archetypes", "states", k, state)
        means = fit_breathing(max(2, each), train, generator)
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


def _judge(judged: list[_Judged], found: Measurement) -> Finding:
    """Some K is enough: the one that comes nearest to all that is asked speaks for all."""
    order = {"pass": 0, "undecided": 1, "unattainable": 2, "fail": 3}
    decided = [(one, *decisive(one.conditions)) for one in judged]
    best, criterion, measured = min(decided, key=lambda d: (order[d[1].judge(d[2])], _distance(d[0])))
    accuracy, tight = best.real.one("membership_accuracy"), best.real.one("tightness")
    beyond = ", ".join(f"{show(r)} beyond {_NULL_WORDS[r.data]}" for r in best.records[:-1])
    return Finding(
        criterion=criterion,
        measured=measured,
        verdict=criterion.judge(measured),
        cause=criterion.cause(measured),
        words=f"K = {best.real.k}: held-out directions have cosine {show(tight)} to their centroid ({beyond}); "
        f"contexts foretell {show(accuracy)} of their clusters "
        f"(majority {show(best.real.one('membership_majority'))}). "
        + ("No K is tighter than the nulls." if found.value is None else f"K found by the gap: {found.value:.0f}."),
        would_change="Directions of another representation, or of rarer and larger increments "
        "(experiments.archetype_quantile).",
    )


def _distance(one: _Judged) -> float:
    """How far the worse of tightness and accuracy falls short."""
    short = [(CRITERION, "tightness"), (FORETOLD, "membership_accuracy")]
    return max(criterion.threshold - (one.real.one(metric).value or 0.0) for criterion, metric in short)


_NULL_WORDS = {"gaussian": "Gaussian increments", "random_pairs": "random pairs of frames"}
