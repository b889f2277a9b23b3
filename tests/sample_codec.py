"""A codec whose latents are its samples."""

import torch

from audio_engram.codecs.base import Codec


class SampleCodec(Codec):
    """Every latent is its 32 samples; nothing is lost."""

    name, sample_rate, frame_rate, latent_dim = "samples", 16000, 500.0, 32

    def analyse(self, audio: torch.Tensor) -> torch.Tensor:
        return audio.reshape(len(audio), -1, 32)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.reshape(len(latents), 1, -1)
