"""A codec and recordings for tests of extraction, also in other processes (`--codec frame_codec:FrameCodec`)."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from audio_engram.codecs.base import Codec

RATE, HOP, DIM = 16000, 160, 4


class FrameCodec(Codec):
    """A fixed projection of each frame."""

    name = "frame"
    sample_rate = RATE
    frame_rate = 100.0
    latent_dim = DIM
    pause = 0.0

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        matrix = torch.randn(HOP, DIM, generator=torch.Generator().manual_seed(0))
        self.register_buffer("matrix", scale * matrix)

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        return audio[:, 0].unflatten(-1, (-1, HOP)) @ self.matrix

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Unused(FrameCodec):
    """The same latents as far as a store can tell, but encoding is an error."""

    def description(self) -> dict[str, object]:
        return FrameCodec().description()

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        raise AssertionError("encoded again")


def noise(seconds: float, seed: int = 0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Unlucky(FrameCodec):
    """`FrameCodec`, but some batches meet what UNLUCKY says, until the file LUCK is there.

    The error is raised where it counts as a bug of ours: what `analyse` raises would be the codec's own.
    An utterance of more than half a second raises an error, or kills the process if UNLUCKY says so; a batch of
    eight always kills it.
    """

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        luck = Path(os.environ["LUCK"])
        long = audio.shape[-1] > RATE / 2
        if long and os.environ["UNLUCKY"] == "killed once" and not luck.exists():
            luck.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if long and not luck.exists():
            raise RuntimeError("bad luck")
        if len(audio) == 8 and not luck.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(audio)
