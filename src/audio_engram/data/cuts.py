"""A part of an audio file as the source of an utterance: long recordings are cut when they are read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.errors import DataError

TOLERANCE = 0.025
"""Seconds by which a cut may reach past the end of its file: times in manifests are rounded."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Cut:
    """From `start` to `end` [s] of a file (to its end without one); of one channel, or of all averaged."""

    file: Path
    start: float = 0.0
    end: float | None = None
    channel: int | None = None

    def __call__(self, sample_rate: int) -> Float[Tensor, " T"]:
        """Mono audio at `sample_rate` [Hz]; only this part of the file is read.

        Raises: DataError for a file that is missing, damaged or too short for the cut, or samples that are not finite.
        """
        try:
            with self.file.open("rb") as handle, soundfile.SoundFile(handle) as file:
                samples, rate = self._samples(file), file.samplerate
        except OSError as error:
            raise DataError(f"{self.file}: cannot be read ({error.strerror}); check the path") from error
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".")
            raise DataError(f"{self}: not audio that can be read, or truncated ({reason}); replace the file") from error
        if not np.isfinite(samples).all():
            raise DataError(f"{self}: has a sample that is not a finite number; write the file again or remove the row")
        if rate != sample_rate:
            samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
        return torch.from_numpy(np.ascontiguousarray(samples))

    def __str__(self) -> str:
        end = "end" if self.end is None else f"{self.end:g} s"
        return f"{self.file} from {self.start:g} s to {end}"

    def _samples(self, file: soundfile.SoundFile) -> np.ndarray:
        first = round(self.start * file.samplerate)
        last = file.frames if self.end is None else round(self.end * file.samplerate)
        if self.channel is not None and self.channel >= file.channels:
            raise DataError(f"{self}: has {file.channels} channels, none of number {self.channel}; mend the row")
        file.seek(min(first, file.frames))
        blocks: list[np.ndarray] = []
        # Block by block: a damaged header may declare more samples than memory holds.
        while last > first + (done := sum(len(one) for one in blocks)):
            block = file.read(min(_BLOCK, last - first - done), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            blocks.append(block.mean(1, dtype=np.float32) if self.channel is None else block[:, self.channel])
        if not blocks or last - first - done > TOLERANCE * file.samplerate:
            raise DataError(f"{self}: reaches past the end of the file; mend the row or fetch the file again")
        return np.concatenate(blocks)
