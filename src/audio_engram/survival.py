"""When a rollout stops being like speech: the time to divergence, and the share that survives it.

Three quantities of every window of frames are followed: its distance to the training mean among the principal
components of windows, its distance beside them, and its mean increment. A trajectory diverges where one of them stays,
for `hold` windows in a row, beyond a bound that only 0.05 % of such runs of real training windows stay beyond:

* `far`: farther away, in either way; `collapsed`: nearer to the mean, as an average is;
* `racing`: moving more; `frozen`: moving less.

The longer the hold, the nearer to what is usual the bounds lie. The time is the end of the first window of the run. A
frame that is not finite is divergence at once (`not finite`). A departure shortly before the end, which cannot be seen
to last, is none. Real trajectories are measured alike: what survives of them is the reference.

Survival is Kaplan & Meier's (1958) product over times of divergence, trajectories that end being censored. Intervals
resample speakers, since trajectories of one speaker are not independent (Greenwood's formula takes them to be).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.statistics import LEVEL, Interval, SpeakerBootstrap
from audio_engram.trajectory_figures import magnitudes
from audio_engram.window_space import WindowSpace

INSIDE = 0.999
WAYS = (("far", 0, 1), ("far", 1, 1), ("racing", 2, 1), ("frozen", 2, 0), ("collapsed", 0, 0), ("collapsed", 1, 0))
"""Cause, which quantity it is of, and at which end."""
CAUSES = ("", "not finite", "far", "racing", "frozen", "collapsed")


def finite_frames(latents: Float[Tensor, "B S D"]) -> Int[Tensor, " B"]:
    """How many frames stand before the first that is not finite; all of them if none is."""
    return latents.isfinite().all(2).long().cumprod(1).sum(1)


@dataclass(frozen=True)
class Divergence:
    """Of each trajectory: frames until it diverged or ended, whether it diverged, and its cause's place in `CAUSES`."""

    frames: Int[Tensor, " B"]
    diverged: Bool[Tensor, " B"]
    cause: Int[Tensor, " B"]

    def why(self) -> list[str]:
        """The cause of each in a word; empty where it has not diverged."""
        return [CAUSES[number] for number in self.cause.tolist()]


class RealRange:
    """What runs of `hold` real windows stay within, fitted on training trajectories.

    Raises:
        ValueError: if these are shorter than such a run.
    """

    def __init__(self, space: WindowSpace, train: Float[Tensor, "B S D"], hold: int, inside: float = INSIDE) -> None:
        self.space, self.hold = space, hold
        if train.shape[1] < space.window + hold - 1:
            raise ValueError(f"trajectories of {train.shape[1]} frames hold no run of {hold} windows: use longer ones")
        runs = [values.unfold(1, hold, 1) for values in self.measure(train)]
        share = (1 - inside) / 2
        self.spans = [(_quantile(run.amax(2), share), _quantile(run.amin(2), 1 - share)) for run in runs]
        """Low and high bound of: distance among components, distance beside them, motion."""

    def diverge(self, latents: Float[Tensor, "B S D"], lengths: Int[Tensor, " B"] | None = None) -> Divergence:
        """The first time each trajectory stays beyond a bound.

        `lengths` is how many frames of each count, where they are padded to one length.
        """
        lengths = torch.full((len(latents),), latents.shape[1]) if lengths is None else lengths
        return self.diverge_by(self.measure(latents), finite_frames(latents), lengths)

    def diverge_by(
        self, measured: list[Float[Tensor, "B M"]], finite: Int[Tensor, " B"], lengths: Int[Tensor, " B"]
    ) -> Divergence:
        """The same of trajectories that are not at hand as a whole: what `measure` gives of all of their windows, and
        how many frames stand before the first that is not finite."""
        frames, why = lengths.clone(), torch.zeros_like(lengths)
        counts = torch.arange(measured[0].shape[1]) + self.space.window <= lengths[:, None]
        for cause, beyond in self._beyond(measured):
            start, lasts = _first_run(beyond & counts, self.hold)
            sooner = lasts & ((start + self.space.window < frames) | (why == 0))
            frames = torch.where(sooner, start + self.space.window, frames)
            why = torch.where(sooner, CAUSES.index(cause), why)
        broken = (finite < lengths) & ((why == 0) | (finite + 1 <= frames))
        return Divergence(
            frames=torch.where(broken, finite + 1, frames),
            diverged=broken | (why > 0),
            cause=torch.where(broken, CAUSES.index("not finite"), why),
        )

    def _beyond(self, measured: list[Float[Tensor, "B M"]]) -> Iterator[tuple[str, Bool[Tensor, "B M"]]]:
        """A cause and the windows beyond its bound; of two that begin together the first is told."""
        # What breaks has not come back: a departure lasts into it.
        broken = ~torch.stack(measured).isfinite().all(0)
        for cause, way, end in WAYS:
            bound = self.spans[way][end]
            yield cause, broken | (measured[way] > bound if end else measured[way] < bound)

    def measure(self, latents: Float[Tensor, "B S D"]) -> list[Float[Tensor, "B M"]]:
        """Of every window: its distance to the training mean among the components, beside them, and its motion."""
        return [*self.space.distance(latents), motion(latents, self.space.window)]


def motion(latents: Float[Tensor, "B S D"], window: int) -> Float[Tensor, "B M"]:
    """Mean length of the increments inside each window of frames."""
    return magnitudes(latents).unfold(1, window - 1, 1).mean(2)


def survival(divergence: Divergence, horizons: Float[Tensor, " H"], bootstrap: SpeakerBootstrap) -> list[Interval]:
    """The share that has not diverged by each horizon [frames]; NaN of no trajectory beyond what any was followed to.

    Where none diverged, or all did, resamples agree; the interval then ends where the exact binomial one of as many
    speakers as were followed would (Clopper & Pearson 1934).
    """
    order = (2 * divergence.frames - divergence.diverged.long()).argsort(stable=True)  # events before endings
    frames, event = divergence.frames[order], divergence.diverged[order]
    counts = torch.cat([torch.ones_like(bootstrap.counts[:1]), bootstrap.counts])
    weights = counts[:, bootstrap.index[order]]
    at_risk = weights.flip(1).cumsum(1).flip(1)
    lost = torch.where((at_risk > 0) & event, weights / at_risk.clamp(min=1), 0.0)
    curve = torch.cat([torch.ones_like(at_risk[:, :1]), (1 - lost).cumprod(1)], dim=1)
    found = []
    for horizon in horizons.tolist():
        share = curve[:, int((frames <= horizon).sum())]
        if float(share[0]) > 0 and not bool((frames >= int(horizon)).any()):
            found.append(Interval(torch.nan, None, None, 0, 0))
            continue
        interval = bootstrap.interval(share, len(frames))
        followed = bootstrap.index[(divergence.frames >= int(horizon)) | divergence.diverged].unique()
        found.append(_at_ends(interval, len(followed)))
    return found


def _at_ends(interval: Interval, n_speakers: int) -> Interval:
    """The interval of a share of 0 or 1."""
    if interval.low is None or interval.value not in (0.0, 1.0):
        return interval
    bound = ((1 - LEVEL) / 2) ** (1 / n_speakers)
    low, high = (bound, 1.0) if interval.value == 1 else (0.0, 1 - bound)
    return Interval(interval.value, low, high, interval.n_frames, interval.n_speakers)


def _quantile(values: Float[Tensor, "B M"], q: float) -> float:
    ordered = values.flatten().sort().values
    return float(ordered[round(q * (len(ordered) - 1))])


def _first_run(out: Bool[Tensor, "B M"], hold: int) -> tuple[Int[Tensor, " B"], Bool[Tensor, " B"]]:
    """Where the first run of `hold` begins, and whether there is one."""
    if out.shape[1] < hold:
        return torch.zeros(len(out), dtype=torch.long), torch.zeros(len(out), dtype=torch.bool)
    lasting = out.unfold(1, hold, 1).all(2)
    return lasting.long().argmax(1), lasting.any(1)
