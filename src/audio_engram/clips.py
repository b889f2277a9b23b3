"""One sound of a run: from latents to audio, to a file on disk, and what the index says of it."""

from math import log10
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.audio import rms_db, write_audio
from audio_engram.codecs.base import Codec
from audio_engram.codecs.foreign import CodecError
from audio_engram.data.frames import Frames
from audio_engram.device import device_of


def heard(codec: Codec, latents: Float[Tensor, "N D"], frames: Frames, context: int = 0) -> Float[Tensor, " T"] | str:
    """The audio of standardised latents, of which the first are a true context, or why they have none."""
    left = (~latents.isfinite().all(1)).nonzero()
    if len(left):
        return f"the rollout left the finite numbers at step {int(left[0]) - context + 1}"
    try:
        audio = decode(codec, latents, frames)
    except CodecError as error:
        return str(error)
    return audio if bool(audio.isfinite().all()) else "the decoder's audio is not finite"


def decode(codec: Codec, z: Float[Tensor, "N D"], frames: Frames) -> Float[Tensor, " T"]:
    """Audio of standardised latents."""
    raw = (z * frames.scale + frames.loc).clamp(-1e4, 1e4)
    with torch.no_grad():
        return codec.render(raw.unsqueeze(0).to(device_of(codec)))[0, 0].cpu()


def write_clip(folder: Path, name: str, audio: Float[Tensor, " T"], sample_rate: int) -> dict[str, object]:
    """Write `name.flac` into a folder and return its row of the index."""
    path = folder / f"{name.translate(str.maketrans('×', 'x', ',%'))}.flac"
    peak = float(audio.abs().max())
    if peak > 1:  # rather quieter than clipped
        audio = audio / peak
    write_audio(path, audio, sample_rate)
    return {
        "note": f"{20 * log10(peak):.1f} dB louder than can be played, and turned down" if peak > 1 else "",
        "file": path.name,
        "seconds": round(len(audio) / sample_rate, 3),
        "rms_db": round(float(rms_db(audio)), 2),
    }
