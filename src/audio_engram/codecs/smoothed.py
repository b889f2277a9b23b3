"""Smoother trajectories of the same frames: a moving average, and its directions at the raw magnitudes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.codecs.projected import Wrapper
from audio_engram.errors import UsageError


class Smoothed(Wrapper):
    """The mean of `taps` consecutive frames around each frame; the ends repeat the first and the last frame.

    It looks (taps - 1) / 2 frames ahead. What the average took away is gone: `restore` changes nothing, and the
    decoder hears the smoothed frames.
    """

    mixes_frames = True

    def __init__(self, inner: Codec, taps: int) -> None:
        super().__init__(inner)
        if taps < 3 or taps % 2 == 0:
            raise UsageError(f"codec.smooth: an average around a frame has 3, 5, 7, ... taps, not {taps}")
        self.width = taps
        self.causal = False
        self.options = {"smooth": taps}

    @property
    def treatment(self) -> str:
        """`smooth 3`."""
        return f"smooth {self.width}"

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return the moving average."""
        if latents.shape[1] == 0:
            return latents
        reach = self.width // 2
        padded = F.pad(latents.transpose(1, 2), (reach, reach), mode="replicate")
        return F.avg_pool1d(padded, self.width, 1).transpose(1, 2)

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return the latents as they are."""
        return latents


class Hybrid(Smoothed):
    """A trajectory whose increments have the direction of the smoothed one and the magnitude of the raw one.

    It starts at the first raw frame and adds up its increments, so it wanders off from the recording: how far the
    decoder lets it is what the experiment `smoothing` hears.
    """

    def __init__(self, inner: Codec, taps: int) -> None:
        super().__init__(inner, taps)
        self.options = {"smooth": taps, "hybrid": True}

    @property
    def treatment(self) -> str:
        """`hybrid 3`."""
        return f"hybrid {self.width}"

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return the sum of smoothed directions times raw magnitudes."""
        direction = F.normalize(super().project(latents).diff(dim=1), dim=2)
        steps = direction * latents.diff(dim=1).norm(dim=2, keepdim=True)
        return torch.cat([latents[:, :1], steps], dim=1).cumsum(1)
