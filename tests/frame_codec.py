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
    """`FrameCodec`, but the second batch of a process meets what UNLUCKY says, until the file LUCK is there."""

    batches = 0

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        Unlucky.batches += 1
        luck = Path(os.environ["LUCK"])
        if Unlucky.batches == 2 and not luck.exists():
            if os.environ["UNLUCKY"] == "killed":
                luck.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ["UNLUCKY"] == "killed always":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("bad luck")
        return super().analyse(audio)
