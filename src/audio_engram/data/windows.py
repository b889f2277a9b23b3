"""Segments: context and future cut from one contiguous run. The only code that knows which frame follows which."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audio_engram.data.frames import Frames
from audio_engram.errors import DataError

NUMBERS = 2**22
"""In a batch of no stated size, at the least one segment."""


@dataclass(frozen=True)
class Segment:
    """W frames of context and the S frames that follow: `future[:, 0]` comes directly after `context[:, -1]`.

    `valid` marks the futures whose increment has a density (no digital silence); `speaker` is the index of the
    speaker of each future frame.
    """

    context: Float[Tensor, "B W D"]
    future: Float[Tensor, "B S D"]
    valid: Bool[Tensor, "B S"]
    speaker: Int[Tensor, "B S"]
    describe: Callable[[], Tensor]

    @property
    def utterance(self) -> Float[Tensor, "B F"]:
        """The utterance without the future frames: mean of its frames, mean log m of its increments.

        It knows what comes after the future, as a description of the speaker and the loudness. Made when asked for.
        """
        return self.describe().to(self.context.device)

    @property
    def previous(self) -> Float[Tensor, "B S D"]:
        """The frame before each future frame."""
        return torch.cat([self.context[:, -1:], self.future[:, :-1]], dim=1)

    @property
    def delta(self) -> Float[Tensor, "B S D"]:
        """The true increments `z_t - z_{t-1}` of the future frames."""
        return self.future - self.previous

    def to(self, device: torch.device) -> "Segment":
        """The same segment on another device."""
        tensors = (self.context, self.future, self.valid, self.speaker)
        context, future, valid, speaker = (tensor.to(device) for tensor in tensors)
        return Segment(context, future, valid, speaker, self.describe)


class Windows:
    """Every segment of a split: `context` + `steps` consecutive frames of one utterance, gathered by index.

    For lag k use `steps = k` and take the last future frame as target: the context then ends k frames before it.

    Raises:
        DataError: if no utterance of the split is long enough.
    """

    def __init__(self, frames: Frames, split: str, context: int, steps: int) -> None:
        self.frames, self.split, self.context, self.steps = frames, split, context, steps
        check_length(frames, split, context, steps)
        self.starts = _starts(frames, split, context + steps)
        self._sums = _UtteranceSums(frames)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def target(self) -> Int[Tensor, " B"]:
        """The place of each segment's last future frame in the flat array."""
        return self.starts + self.context + self.steps - 1

    def with_valid_target(self) -> Int[Tensor, " B"]:
        """Indices of the segments whose last future increment has a density."""
        return self.frames.moving[self.target].nonzero().flatten()

    def increments(self, index: Int[Tensor, " M"]) -> Float[Tensor, "M D"]:
        """The increment of each segment's last future frame, without the segment."""
        place = self.target[index]
        return self.frames.z[place] - self.frames.z[place - 1]

    def gather(self, index: Int[Tensor, " B"], out: Tensor | None = None) -> Segment:
        """Cut the segments with these indices, into the memory of `out` if it is given."""
        frames, run = self.frames, self.context + self.steps
        starts = self.starts[index]
        places = (starts.unsqueeze(1) + torch.arange(run)).flatten()
        flat = torch.index_select(frames.z, 0, places, out=out)
        cut = flat.view(len(index), run, frames.dim)
        future = (starts + self.context).unsqueeze(1) + torch.arange(self.steps)
        return Segment(
            context=cut[:, : self.context],
            future=cut[:, self.context :],
            valid=frames.moving[future],
            speaker=frames.speaker[future],
            describe=partial(self._sums.without, future),
        )

    def batches(
        self, index: Int[Tensor, " M"], batch_size: int | None = None, reuse: bool = False
    ) -> Iterator[Segment]:
        """The segments with these indices, in this order, some at a time: without a size as many as hold 16 MB.

        With `reuse` all share one block of memory, so that each is valid only until the next is asked for: memory that
        is new to the process costs more to touch than a batch costs to copy.
        """
        if batch_size is None:
            batch_size = max(1, NUMBERS // ((self.context + self.steps) * self.frames.dim))
        rows = min(batch_size, len(index)) * (self.context + self.steps)
        block = self.frames.z.new_empty(rows, self.frames.dim) if reuse else None
        for part in index.split(batch_size):
            rows = len(part) * (self.context + self.steps)
            yield self.gather(part, None if block is None else block[:rows])

    def evenly(self, most: int) -> Int[Tensor, " M"]:
        """At most `most` indices, spread evenly over the split, the same in every call."""
        n = min(most, len(self))
        return torch.linspace(0, len(self) - 1, n, dtype=torch.float64).round().long().unique()


def check_length(frames: Frames, split: str, context: int, steps: int, setting: str = "the lag or unrolling") -> None:
    """Refuse a split without a single segment; `setting` names what asks for so many steps.

    Raises:
        DataError: if no utterance of the split is long enough.
    """
    mine = frames.in_split(split)[frames.offsets[:-1]]
    longest = int(frames.offsets.diff()[mine].max()) if mine.any() else 0
    if longest < context + steps:
        raise DataError(
            f"{split} split: no utterance has {context + steps} frames ({context} of context + {steps} steps for "
            f"{setting}; the longest has {longest}): use longer audio, or lower model.context or {setting}"
        )


class _UtteranceSums:
    """Sums over each utterance, from which the target's own part is taken out again."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._utterance = frames.utterance
        lengths = frames.offsets.diff()
        self._count = lengths.double()
        n = len(lengths)
        self._z = torch.zeros(n, frames.dim, dtype=torch.float64).index_add(0, self._utterance, frames.z.double())
        log_m = torch.zeros(len(frames.z), dtype=torch.float64)
        log_m[1:] = (frames.z[1:] - frames.z[:-1]).double().norm(dim=1).clamp(min=1e-30).log()
        self._log_m = torch.where(frames.moving, log_m, 0.0)
        self._log_m_sum = torch.zeros(n, dtype=torch.float64).index_add(0, self._utterance, self._log_m)
        self._moving = torch.zeros(n, dtype=torch.float64).index_add(0, self._utterance, frames.moving.double())

    def without(self, future: Int[Tensor, "B S"]) -> Float[Tensor, "B F"]:
        """Mean of the other frames (D), then mean log magnitude of the increments that touch none of these (1).

        All frames between context and target are left out, not the target alone: at a lag above 1 they would tell what
        the context must not know.
        """
        frames, u = self._frames, self._utterance[future[:, 0]]
        left = (self._count[u] - future.shape[1]).clamp(min=1)
        mean = (self._z[u] - frames.z[future].double().sum(1)) / left.unsqueeze(1)
        after = (future[:, -1:] + 1).clamp(max=len(frames.z) - 1)
        inside = (self._utterance[after] == u.unsqueeze(1)) & (after > future[:, -1:])
        touched = torch.cat([future, after], dim=1)
        counted = frames.moving[touched] & torch.cat([torch.ones_like(future, dtype=torch.bool), inside], dim=1)
        removed = torch.where(counted, self._log_m[touched], 0.0).sum(1)
        others = (self._moving[u] - counted.double().sum(1)).clamp(min=1)
        log_m = (self._log_m_sum[u] - removed) / others
        return torch.cat([mean, log_m.unsqueeze(1)], dim=1).float()


def _starts(frames: Frames, split: str, run: int) -> Int[Tensor, " B"]:
    """The first frame of every run of `run` frames that stays inside one utterance of the split."""
    ends = torch.repeat_interleave(frames.offsets[1:], frames.offsets.diff())
    place = torch.arange(len(frames.z))
    # The surrogates move frames but not places, and every utterance lies in one split.
    first_of_utterance = torch.repeat_interleave(frames.offsets[:-1], frames.offsets.diff())
    return ((place + run <= ends) & frames.in_split(split)[first_of_utterance]).nonzero().flatten()
