"""Codecs wrapped around codecs: another representation of the same audio, decodable like the first."""

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.errors import UsageError


class Wrapper(Codec):
    """A codec whose latents are computed from those of `inner`."""

    def __init__(self, inner: Codec) -> None:
        super().__init__()
        self.inner = inner
        self.name = inner.name
        self.sample_rate, self.frame_rate = inner.sample_rate, inner.frame_rate
        self.latent_dim = inner.latent_dim
        self.causal, self.stochastic = inner.causal, inner.stochastic
        self.taps, self.tap, self.playable = inner.taps, inner.tap, inner.playable

    def description(self) -> dict[str, object]:
        """Return the wrapper's description around the inner codec's."""
        return super().description() | {"inner": self.inner.description()}


class Stacked(Wrapper):
    """Every `size` consecutive frames become one latent, oldest first."""

    def __init__(self, inner: Codec, size: int) -> None:
        super().__init__(inner)
        if size < 1:
            raise UsageError(f"codec.stack: at least 1 frame makes a latent, not {size}")
        self.size = size
        self.options = {"stack": size}
        self.frame_rate = inner.frame_rate / size
        self.latent_dim = inner.latent_dim * size

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.inner.hop * self.size

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return stacked latents of audio that is a whole number of stacks long."""
        return self.inner.analyse(audio).reshape(audio.shape[0], -1, self.latent_dim)

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return the inner codec's audio of the frames laid one after another again."""
        frames = latents.shape[1] * self.size
        return self.inner.decode(latents.reshape(latents.shape[0], frames, self.inner.latent_dim))


class Standardised(Wrapper):
    """Latents with `loc` subtracted and divided by `scale`, per dimension."""

    loc: Tensor
    scale: Tensor

    def __init__(self, inner: Codec, loc: Float[Tensor, " D"], scale: Float[Tensor, " D"]) -> None:
        super().__init__(inner)
        for name, statistic in (("loc", loc), ("scale", scale)):
            if statistic.shape != (inner.latent_dim,) or not bool(torch.isfinite(statistic).all()):
                raise UsageError(
                    f"{name} of a standardised codec: need {inner.latent_dim} finite numbers, not"
                    f" {tuple(statistic.shape)}; estimate it from latents of {inner.name}"
                )
        if not bool((scale > 0).all()):
            raise UsageError("scale of a standardised codec: every dimension's must be > 0; drop dead dimensions")
        self.register_buffer("loc", loc.detach().clone())
        self.register_buffer("scale", scale.detach().clone())

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return standardised latents."""
        return (self.inner.analyse(audio) - self.loc) / self.scale

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return the inner codec's audio of the unstandardised latents."""
        return self.inner.decode(latents * self.scale + self.loc)
