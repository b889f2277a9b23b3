"""When a rollout stops being like speech: the time to divergence, and the share that survives it.

A window of frames is *out* when its distance to the training mean (among the principal components of windows, or beside
them) or its mean increment lies outside what the central 99.8 % of real training windows span:

* `far`: farther away than they are, in either way; `collapsed`: nearer to the mean, as an average is;
* `racing`: moving more than they do; `frozen`: moving less.

A trajectory diverges where it goes out and stays out, in whichever way, for a stated time; its time is the end of the
first window that is out. A frame that is not finite is divergence at once (`not finite`). A departure shortly before
the end, which cannot be seen to last, is none. Real trajectories are measured alike: what survives of them is the
reference.

Survival is Kaplan & Meier's (1958) product over times of divergence, trajectories that end being censored. Intervals
resample speakers, since trajectories of one speaker are not independent (Greenwood's formula takes them to be).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.statistics import LEVEL, Interval, SpeakerBootstrap
from audio_engram.trajectory_figures import magnitudes
from audio_engram.window_space import WindowSpace

INSIDE = 0.998
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
    """What real windows span: distances to the mean and motion, fitted on training trajectories."""

    def __init__(self, space: WindowSpace, train: Float[Tensor, "B S D"], inside: float = INSIDE) -> None:
        self.space = space
        ends = torch.tensor([(1 - inside) / 2, (1 + inside) / 2], dtype=torch.float64)
        self.spans = [_quantiles(values, ends) for values in self._measure(train)]
        """Low and high end of: distance among components, distance beside them, motion."""

    def diverge(
        self, latents: Float[Tensor, "B S D"], hold: int, lengths: Int[Tensor, " B"] | None = None
    ) -> Divergence:
        """The first time each trajectory is out of range for `hold` windows in a row.

        `lengths` is how many frames of each count, where they are padded to one length.
        """
        n, steps = latents.shape[:2]
        lengths = torch.full((n,), steps) if lengths is None else lengths
        window = self.space.window
        cause = self._cause(latents)
        ends = torch.arange(window, steps + 1)
        out = (cause > 0) & (ends <= lengths[:, None])
        start, lasts = _first_run(out, hold)
        finite = finite_frames(latents)
        broken = finite < lengths
        # The frame that broke is known at once, whatever the windows say later.
        at_break = broken & (~lasts | (finite + 1 <= start + window))
        frames = torch.where(lasts, start + window, lengths)
        why = torch.where(lasts, cause.gather(1, start[:, None])[:, 0], 0)
        frames, why = torch.where(at_break, finite + 1, frames), torch.where(at_break, 1, why)
        return Divergence(frames, lasts | broken, why)

    def _cause(self, latents: Float[Tensor, "B S D"]) -> Int[Tensor, "B M"]:
        """Why each window is out; 0 for one in range."""
        measured = self._measure(latents)
        cause = torch.zeros(measured[0].shape, dtype=torch.long)
        # The cause that is written last is the one that is told: of a far window that it is far, however it moves.
        for name, sign, ways in (
            ("collapsed", -1, (0, 1)),
            ("frozen", -1, (2,)),
            ("racing", 1, (2,)),
            ("far", 1, (0, 1)),
        ):
            for way in ways:
                end = self.spans[way][sign > 0]
                cause[(measured[way] - end) * sign > 0] = CAUSES.index(name)
        broken = ~torch.stack(measured).isfinite().all(0)
        return cause.masked_fill(broken, CAUSES.index("not finite"))

    def _measure(self, latents: Float[Tensor, "B S D"]) -> list[Float[Tensor, "B M"]]:
        return [*self.space.distance(latents), motion(latents, self.space.window)]


def motion(latents: Float[Tensor, "B S D"], window: int) -> Float[Tensor, "B M"]:
    """Mean length of the increments inside each window of frames."""
    return magnitudes(latents).unfold(1, window - 1, 1).mean(2)


def survival(divergence: Divergence, horizons: Float[Tensor, " H"], bootstrap: SpeakerBootstrap) -> list[Interval]:
    """The share that has not diverged by each horizon [frames]; NaN beyond what any trajectory was followed to.

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
            share = torch.full_like(share, torch.nan)
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


def _quantiles(values: Float[Tensor, "B M"], ends: Float[Tensor, " 2"]) -> tuple[float, float]:
    ordered = values.flatten().sort().values
    low, high = ordered[(ends * (len(ordered) - 1)).round().long()].tolist()
    return low, high


def _first_run(out: Bool[Tensor, "B M"], hold: int) -> tuple[Int[Tensor, " B"], Bool[Tensor, " B"]]:
    """Where the first run of `hold` begins, and whether there is one."""
    if out.shape[1] < hold:
        return torch.zeros(len(out), dtype=torch.long), torch.zeros(len(out), dtype=torch.bool)
    lasting = out.unfold(1, hold, 1).all(2)
    return lasting.long().argmax(1), lasting.any(1)
