"""Sampled rollouts beside real speech: figures of a stretch before every horizon, survival, and where they broke."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from audio_engram.decision import Criterion
from audio_engram.experiments.followed import Batches, Followed, Wanted, follow
from audio_engram.experiments.trajectories import Trajectories
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.statistics import Interval, SpeakerBootstrap
from audio_engram.survival import CAUSES, Divergence, survival

JUDGED_AT = 20.0  # seconds
Record = Callable[[str, Interval, int], Measurement]
"""Of a metric, its interval and the step."""


@dataclass(frozen=True)
class RecordOf:
    """Makes the records of one model, or of a difference of two."""

    run: Run
    experiment: str
    model: str
    mode: str = "sampled"

    def __call__(self, metric: str, interval: Interval, step: int = 1) -> Measurement:
        what = {"experiment": self.experiment, "model": self.model, "mode": self.mode}
        return self.run.measure(interval, metric=metric, step=step, **what)


def horizons(some: Trajectories) -> list[int]:
    """How far rollouts go [frames]."""
    return [round(seconds * some.run.codec.frame_rate) for seconds in some.run.config.experiments.horizons]


def judged_end(some: Trajectories) -> int:
    """The end of the stretch that verdicts rest on: the last before 20 s, or the first there is."""
    ends = [end for end in horizons(some) if end >= some.real.shape[1]]
    limit = round(JUDGED_AT * some.run.codec.frame_rate)
    return max((end for end in ends if end <= limit), default=min(ends))


def followed(some: Trajectories, batches: Batches, heard: int = 0) -> Followed:
    """Rollouts as long as the last horizon: what figures of them need, and all that is `heard` of the first."""
    n = some.real.shape[1]
    ends = tuple(end for end in horizons(some) if end >= n)
    return follow(batches, Wanted(ends, n, (heard, judged_end(some))), some.manifold.range)


def stretches(some: Trajectories, rolled: Followed) -> dict[int, Traits]:
    """Traits of the stretch before every horizon that is as long as one."""
    return {end: some.manifold.traits(latents) for end, latents in rolled.stretches.items()}


def figures(some: Trajectories, of: dict[int, Traits], record: Record) -> list[Measurement]:
    """The ratios of every stretch to real ones."""
    found = []
    for end, traits in of.items():
        compared = some.manifold.compare(traits, some.real_traits, some.bootstrap)
        found += [record(f"{name}_ratio", figure.ratio, end) for name, figure in compared.items()]
    return found


def lived(some: Trajectories, rolled: Followed, record: Record) -> list[Measurement]:
    """Survival at every horizon; of what diverged by the last why it did, and the first step that is not finite."""
    ends = horizons(some)
    divergence, last = rolled.divergence, max(ends)
    found = survived(some, divergence, ends, record)
    for number, cause in enumerate(CAUSES[1:], start=1):
        share = some.bootstrap.mean((divergence.cause == number).double())
        found.append(record(f"diverged_{cause.replace(' ', '_')}", share, last))
    whole = unbroken(rolled.finite, rolled.steps, some.bootstrap)
    return [*found, *(record(metric, interval, last) for metric, interval in whole.items())]


def survived(some: Trajectories, divergence: Divergence, ends: list[int], record: Record) -> list[Measurement]:
    """The share that has not diverged by each of these steps."""
    shares = survival(divergence, torch.tensor(ends).double(), some.bootstrap)
    return [record("survival", interval, end) for end, interval in zip(ends, shares, strict=True)]


def stays_whole(criterion: Criterion, finite: Measurement) -> list[tuple[Criterion, Measurement]]:
    """The condition that no rollout leaves the finite numbers, where one did: figures are of finite windows, and silent
    about it. A share of 1 has no interval, and is all that can be asked."""
    if finite.value == 1.0:
        return []
    wanted = criterion.model_copy(update={"metric": "finite_share", "relation": "above", "threshold": 0.999})
    return [(wanted, finite.model_copy(update={"low": 0.0, "high": finite.value}))]


def not_whole(finite: Measurement) -> str:
    """How many rollouts stay finite, in a sentence where not all do."""
    return "" if finite.value == 1.0 else f" Only {finite.value:.1%} of them stay finite to the end, and all must."


def unbroken(finite: Int[Tensor, " B"], steps: int, bootstrap: SpeakerBootstrap) -> dict[str, Interval]:
    """Of rollouts that stay finite for so many steps: the share that does to the end, and the first step that is not
    (0: none)."""
    whole = finite >= steps
    first = 0 if bool(whole.all()) else int(finite.min()) + 1
    values = {"finite_share": float(whole.double().mean()), "first_nonfinite_step": float(first)}
    return {name: Interval(value, None, None, len(whole), bootstrap.n_speakers) for name, value in values.items()}
