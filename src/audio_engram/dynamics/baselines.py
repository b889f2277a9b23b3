"""What predicts without having learned any dynamics: every ΔNLL and cosine is read beside these.

All are diagonal Gaussians over the increment whose mean is linear, per dimension, in at most two numbers: the last
frame of the context and the mean of the utterance's other frames. They are fitted in closed form.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audio_engram.data.frames import Frames
from audio_engram.data.windows import Windows
from audio_engram.distributions import DiagonalGaussian
from audio_engram.errors import UsageError

BaselineName = Literal["increment", "state", "ar1", "utterance"]
BASELINES: tuple[BaselineName, ...] = ("increment", "state", "ar1", "utterance")


class Baseline(nn.Module):
    """delta ~ N(bias + last * z_{t-k} + around * utterance mean, scale²), per dimension.

    `increment`  no context: the published reference
    `state`      z_t is drawn from its marginal whatever came before: last = -1 (lag 1 only)
    `ar1`        diagonal first-order autoregression on the last frame of the context
    `utterance`  the same around the mean of the utterance's other frames (who speaks, how loud)
    """

    bias: Tensor
    last: Tensor
    around: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name in ("bias", "last", "around"):
            self.register_buffer(name, torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> DiagonalGaussian:
        """The distribution of the next increment."""
        loc = self.bias + self.last * context[:, -1]
        if utterance is not None:
            loc = loc + self.around * utterance[:, : len(self.bias)]
        return DiagonalGaussian(loc, self.scale.expand_as(loc))


def fit_baseline(name: BaselineName, windows: Windows) -> Baseline:
    """Least squares on all training increments that have a density; the lag is `windows.steps`.

    Raises:
        UsageError: for `state` at a lag above 1, where z_{t-1} is not in the context.
    """
    if name == "state" and windows.steps > 1:
        raise UsageError("the state baseline needs lag 1: at longer lags the context lacks z_{t-1}")
    moments = _moments(windows, fixed_last=-1.0 if name == "state" else None)
    free = {"increment": [2], "state": [2], "ar1": [0, 2], "utterance": [0, 1, 2]}[name]
    weights = torch.zeros(windows.frames.dim, 3, dtype=torch.float64)
    xx, xy = moments.xx[:, free][:, :, free], moments.xy[:, free]
    weights[:, free] = torch.linalg.solve(xx + 1e-12 * torch.eye(len(free)), xy)
    residual = moments.yy - (weights * moments.xy).sum(1)
    baseline = Baseline(windows.frames.dim)
    baseline.last, baseline.around, baseline.bias = weights.float().unbind(1)
    if name == "state":
        baseline.last = baseline.last - 1.0
    baseline.scale = residual.clamp(min=1e-12).sqrt().float()
    return baseline


class _Moments:
    """Second moments, per dimension, of x = (z_{t-k}, utterance mean, 1) and of y = delta."""

    def __init__(self, dim: int) -> None:
        self.xx = torch.zeros(dim, 3, 3, dtype=torch.float64)
        self.xy = torch.zeros(dim, 3, dtype=torch.float64)
        self.yy = torch.zeros(dim, dtype=torch.float64)


def _moments(windows: Windows, fixed_last: float | None) -> _Moments:
    moments, count = _Moments(windows.frames.dim), 0
    for segment in windows.batches(windows.with_valid_target()):
        last = segment.context[:, -1].double()
        y = segment.delta[:, -1].double()
        if fixed_last is not None:
            y = y - fixed_last * last
        mean = segment.utterance[:, : windows.frames.dim].double()
        x = torch.stack([last, mean, torch.ones_like(last)], dim=-1)
        moments.xx += torch.einsum("bdi,bdj->dij", x, x)
        moments.xy += torch.einsum("bdi,bd->di", x, y)
        moments.yy += y.square().sum(0)
        count += len(y)
    for total in (moments.xx, moments.xy, moments.yy):
        total /= max(count, 1)
    return moments


def autoregressed(frames: Frames, seed: int) -> Frames:
    """The surrogate of whose order diagonal AR(1) tells all: its residuals in random order, put together again.

    One coefficient per dimension, fitted on training frames around the means of their utterances. Residuals are
    shuffled within their utterance, all dimensions alike, so that their density, the first frames, who speaks and how
    loud stay as they were (the residual bootstrap; Efron & Tibshirani 1993, section 8.5). Digital silence and the frame
    that follows it stay too.
    """
    generator = torch.Generator().manual_seed(seed)
    sounding, lengths = frames.sounding, frames.stretches()[1]
    utterance, starts = frames.utterance[sounding], lengths.cumsum(0) - lengths
    mean = _means(frames.z[sounding], utterance)
    z = frames.z[sounding] - mean
    previous = torch.cat([z[:1], z[:-1]])
    previous[starts] = 0.0
    train = frames.in_split("train")[sounding]
    a = (previous * z)[train].sum(0, dtype=torch.float64) / previous[train].square().sum(0, dtype=torch.float64)
    residual, a = z - a.float() * previous, a.float()
    later = torch.ones(len(z), dtype=torch.bool)
    later[starts] = False
    key = utterance + torch.rand(len(z), generator=generator, dtype=torch.float64)
    order = torch.arange(len(z))
    order[later] = order[later][key[later].argsort(stable=True)]
    z = residual[order]
    for step in range(1, int(lengths.max())):
        place = starts[lengths > step] + step
        z[place] += a * z[place - 1]
    made = frames.z.clone()
    made[sounding] = z + mean
    return replace(frames, z=made)


def _means(z: Float[Tensor, "N D"], utterance: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
    """The mean of its utterance for every frame."""
    count = torch.bincount(utterance)
    total = torch.zeros(len(count), z.shape[1], dtype=torch.float64).index_add(0, utterance, z.double())
    return (total / count.clamp(min=1).unsqueeze(1)).float()[utterance]
