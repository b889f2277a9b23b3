"""Latents that come from no codec of ours: arrays of a user, or a world with a known answer."""

from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.errors import UsageError


class Soundless(Codec):
    """Stands where a codec stands; it neither encodes nor decodes."""

    playable = False

    def __init__(self, name: str, frame_rate: float, latent_dim: int) -> None:
        super().__init__()
        self.name, self.frame_rate, self.latent_dim = name, frame_rate, latent_dim
        self.sample_rate = 0

    @property
    def hop(self) -> int:
        """Nothing is known of samples; 0 divides by everything that matters here."""
        return 0

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Raises: UsageError, because there is no encoder."""
        raise UsageError(f"{self.name}: these latents came without a codec, so no audio can be encoded")

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Raises: UsageError, because there is no decoder."""
        raise UsageError(f"{self.name}: these latents came without a codec, so they cannot be heard")
