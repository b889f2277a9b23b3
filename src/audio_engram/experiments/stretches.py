"""Sampled rollouts beside real speech: figures of a stretch before every horizon, survival, and where they broke."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.experiments.trajectories import Trajectories
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.statistics import Interval
from audio_engram.survival import CAUSES, finite_frames, survival

JUDGED_AT = 20.0  # seconds
Record = Callable[[str, Interval, int], Measurement]
"""Of a metric, its interval and the step."""


def horizons(some: Trajectories) -> list[int]:
    """How far rollouts go [frames]."""
    return [round(seconds * some.run.codec.frame_rate) for seconds in some.run.config.experiments.horizons]


def judged_end(some: Trajectories) -> int:
    """The end of the stretch that verdicts rest on: the last before 20 s, or the first there is."""
    ends = [end for end in horizons(some) if end >= some.real.shape[1]]
    limit = round(JUDGED_AT * some.run.codec.frame_rate)
    return max((end for end in ends if end <= limit), default=min(ends))


def stretches(some: Trajectories, rolled: Float[Tensor, "B S D"]) -> dict[int, Traits]:
    """Traits of the stretch before every horizon that is as long as one."""
    n = some.real.shape[1]
    return {end: some.manifold.traits(rolled[:, end - n : end]) for end in horizons(some) if end >= n}


def figures(some: Trajectories, of: dict[int, Traits], record: Record) -> list[Measurement]:
    """The ratios of every stretch to real ones."""
    found = []
    for end, traits in of.items():
        compared = some.manifold.compare(traits, some.real_traits, some.bootstrap)
        found += [record(f"{name}_ratio", figure.ratio, end) for name, figure in compared.items()]
    return found


def lived(some: Trajectories, rolled: Float[Tensor, "B S D"], record: Record) -> list[Measurement]:
    """Survival at every horizon; of what diverged by the last why it did, and the first step that is not finite."""
    ends = horizons(some)
    divergence = some.manifold.range.diverge(rolled)
    shares = survival(divergence, torch.tensor(ends).double(), some.bootstrap)
    found = [record("survival", interval, end) for end, interval in zip(ends, shares, strict=True)]
    last = max(ends)
    for number, cause in enumerate(CAUSES[1:], start=1):
        share = some.bootstrap.mean((divergence.cause == number).double())
        found.append(record(f"diverged_{cause.replace(' ', '_')}", share, last))
    finite = finite_frames(rolled)
    whole = finite == rolled.shape[1]
    first = 0 if bool(whole.all()) else int(finite.min()) + 1
    n, speakers = len(whole), some.bootstrap.n_speakers
    share = Interval(float(whole.double().mean()), None, None, n, speakers)
    step = Interval(float(first), None, None, n, speakers)
    return [*found, record("finite_share", share, last), record("first_nonfinite_step", step, last)]
