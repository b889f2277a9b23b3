"""Latents that come from no codec of ours: arrays of a user, or a world with a known answer."""

from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.config import ENCODING, CodecConfig, Config
from audio_engram.errors import UsageError


class Soundless(Codec):
    """Stands where a codec stands; it neither encodes nor decodes."""

    playable = False

    def __init__(self, name: str, frame_rate: float, latent_dim: int) -> None:
        super().__init__()
        if not frame_rate > 0:
            raise UsageError(f"codec.frame_rate: say how many frames of {name} there are in a second [Hz]")
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


def refuse_codec(config: Config, allowed: tuple[str, ...] = ()) -> None:
    """Refuse settings of a codec where none is used, so that nothing is silently ignored.

    Raises:
        UsageError: for the first of them that is set and not `allowed`.
    """
    for name in ENCODING:
        if name not in allowed and getattr(config.codec, name) != getattr(CodecConfig(), name):
            raise UsageError(
                f"codec.{name}: the latents of {config.data.corpus} come from no codec: leave it out, or name a corpus"
                " with audio"
            )
