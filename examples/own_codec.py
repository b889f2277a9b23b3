"""A codec of one's own, and what the conformance suite says of it: `python examples/own_codec.py`."""

import math

import torch

from audio_engram.codecs.base import Codec
from audio_engram.codecs.check_result import format_checks
from audio_engram.codecs.conformance import check_codec


class BlockDCT(Codec):
    """Every 20 ms of audio as its first 160 cosine coefficients: 4 kHz of speech, no weights."""

    name = "block-dct"
    sample_rate = 16_000
    frame_rate = 50.0
    latent_dim = 160

    def __init__(self) -> None:
        super().__init__()
        time = (torch.arange(self.hop) + 0.5) * (math.pi / self.hop)
        basis = torch.cos(torch.arange(self.latent_dim)[:, None] * time) * math.sqrt(2 / self.hop)
        basis[0] /= math.sqrt(2)
        self.register_buffer("basis", basis)

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, 1, T) with whole frames -> (B, N, D)."""
        return audio.reshape(len(audio), -1, self.hop) @ self.basis.T

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, N, D) -> (B, 1, N * hop)."""
        return (latents @ self.basis).reshape(len(latents), 1, -1)


if __name__ == "__main__":
    print(format_checks(check_codec(BlockDCT())))
