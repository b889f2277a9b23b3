"""Codecs wrapped around codecs: another representation of the same audio, decodable like the first.

A wrapper computes its latents from those of the codec inside it, so that stored latents serve every wrapper
and no audio is encoded twice.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.device import device_of
from audio_engram.errors import UsageError


class Wrapper(Codec):
    """A codec whose latents are computed from those of `inner` by `project`, and decoded after `restore`."""

    mixes_frames: bool = False
    """A latent depends on several frames of `inner` that other latents depend on too."""

    def __init__(self, inner: Codec) -> None:
        super().__init__()
        self.inner = inner
        self.name = inner.name
        self.sample_rate, self.frame_rate = inner.sample_rate, inner.frame_rate
        self.latent_dim = inner.latent_dim
        self.causal, self.stochastic = inner.causal, inner.stochastic
        self.taps, self.tap, self.playable = inner.taps, inner.tap, inner.playable

    @abstractmethod
    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return this codec's latents from those of `inner`."""

    @abstractmethod
    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return latents that `inner` decodes; gradients pass."""

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the projected latents of audio that is a whole number of frames long."""
        return self.project(self.inner.encode(audio))

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return the inner codec's audio of the restored latents."""
        return self.inner.render(self.restore(latents))

    def description(self) -> dict[str, object]:
        """Return the wrapper's description around the inner codec's."""
        return super().description() | {"inner": self.inner.description()}

    def treatments(self) -> list[str]:
        """The inner codec's, and what this wrapper adds; frame rate and dimensions speak for themselves."""
        return [*self.inner.treatments(), *filter(None, [self.treatment])]

    @property
    def treatment(self) -> str:
        """What the title says of this wrapper."""
        return ""


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
        self.frames_per_latent = inner.frames_per_latent * size

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        return self.inner.hop * self.size

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return stacked latents; frames that fill no stack are dropped."""
        whole = latents.shape[1] // self.size
        return latents[:, : whole * self.size].reshape(len(latents), whole, self.latent_dim)

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return the frames laid one after another again."""
        return latents.reshape(len(latents), latents.shape[1] * self.size, self.inner.latent_dim)


class Unstacked(Wrapper):
    """Every latent is cut into `size` consecutive frames; what `Stacked` puts together, this takes apart."""

    def __init__(self, inner: Codec, size: int) -> None:
        super().__init__(inner)
        if size < 1 or inner.frames_per_latent % size or inner.hop % size:
            raise UsageError(
                f"codec.unstack: {inner.title} has {inner.frames_per_latent} frames side by side in a latent, which"
                f" cannot be cut into {size}: what is no stack of frames has no frames to be taken apart"
            )
        self.size = size
        self.frames_per_latent = inner.frames_per_latent // size
        self.options = {"unstack": size}
        self.frame_rate = inner.frame_rate * size
        self.latent_dim = inner.latent_dim // size

    def n_frames(self, samples: int) -> int:
        """Return how many frames lie in the whole latents of `inner`."""
        return self.inner.n_frames(samples) * self.size

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return the parts, one after another."""
        return latents.reshape(len(latents), latents.shape[1] * self.size, self.latent_dim)

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return the parts side by side again; those of a latent that is not whole are dropped."""
        whole = latents.shape[1] // self.size
        return latents[:, : whole * self.size].reshape(len(latents), whole, self.inner.latent_dim)


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

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return standardised latents."""
        return (latents - self.loc) / self.scale

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return unstandardised latents."""
        return latents * self.scale + self.loc


def wrappers(codec: Codec) -> list[Wrapper]:
    """The wrappers of a codec, the innermost first."""
    return [*wrappers(codec.inner), codec] if isinstance(codec, Wrapper) else []


@torch.no_grad()
def apply(some: list[Wrapper], latents: Float[Tensor, "N D"]) -> Float[Tensor, "N2 D2"]:
    """One utterance's latents through several wrappers, the innermost first; back on the CPU."""
    batch = latents.unsqueeze(0)
    for wrapper in some:
        batch = wrapper.project(batch.to(device_of(wrapper)))
    return batch[0].cpu()
