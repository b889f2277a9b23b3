"""How far latents are from what their own sound is encoded to: large where no sound has such latents."""

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.device import device_of
from audio_engram.errors import UsageError

BATCH = 8  # trajectories decoded at once


@torch.no_grad()
def cycle_error(
    codec: Codec, latents: Float[Tensor, "B N D"], loc: Float[Tensor, " D"], scale: Float[Tensor, " D"]
) -> Float[Tensor, "B N"]:
    """`|enc(dec(z)) - z|` of standardised latents, frame by frame, `loc` and `scale` being what standardised them.

    NaN in a trajectory from its first frame on that is not finite, and wherever what comes back is not finite.

    Raises:
        UsageError: if the codec has no decoder for these latents, or gives back another number of frames.
    """
    if not codec.playable:
        raise UsageError(f"cycle error: {codec.title} has no decoder for these latents: choose a playable codec.tap")
    device = device_of(codec)
    errors = []
    for part in latents.split(BATCH):
        # A decoder may look back, so that what follows a broken frame is void.
        alive = part.isfinite().all(2).long().cumprod(1).bool()
        z = torch.where(alive[..., None], part, 0.0)
        error = return_error(codec, codec.render((z * scale + loc).to(device)), z, loc, scale)
        errors.append(error.masked_fill(~alive, torch.nan))
    return torch.cat(errors)


def return_error(
    codec: Codec,
    audio: Float[Tensor, "B 1 T"],
    latents: Float[Tensor, "B N D"],
    loc: Float[Tensor, " D"],
    scale: Float[Tensor, " D"],
) -> Float[Tensor, "B N"]:
    """`|enc(audio) - z|`: the cycle error of latents, if this is their audio; NaN where what comes back is not finite.

    Raises:
        UsageError: if the codec gives back another number of frames.
    """
    back = codec.encode(audio.to(device_of(codec))).cpu()
    if back.shape != latents.shape:
        raise UsageError(
            f"cycle error: {codec.title} made {back.shape[1]} frames of {latents.shape[1]}: give whole seconds"
        )
    error = torch.linalg.vector_norm(((back - loc) / scale - latents).double(), dim=2)
    return error.masked_fill(~error.isfinite(), torch.nan)
