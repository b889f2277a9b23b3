"""One sound of a run on disk, and what the index says of it."""

from math import log10
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from audio_engram.audio import rms_db, write_audio


def write_clip(folder: Path, name: str, audio: Float[Tensor, " T"], sample_rate: int) -> dict[str, object]:
    """Write `name.flac` into a folder and return its row of the index."""
    path = folder / f"{name.translate(str.maketrans('×', 'x', ',%'))}.flac"
    peak = float(audio.abs().max())
    if peak > 1:  # rather quieter than clipped
        audio = audio / peak
    write_audio(path, audio, sample_rate)
    return {
        "note": f"turned down by {20 * log10(peak):.1f} dB to fit" if peak > 1 else "",
        "file": path.name,
        "seconds": round(len(audio) / sample_rate, 3),
        "rms_db": round(float(rms_db(audio)), 2),
    }
