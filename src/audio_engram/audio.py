"""Read and write audio files; whatever is wrong with a file that is read is one `DataError`.

libsndfile reads half of a truncated WAV or Ogg file without a word, so the length that a file declares is
compared with what is there.
"""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.data.publish import published
from audio_engram.errors import DataError, NumericalError, UsageError

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
SILENCE_DB = -200.0

# libsndfile's log of a file whose chunks are longer than the file: "data : 32000 (should be 15978)".
_DECLARED = re.compile(r"(\w+)\s*: (\d+) \(should be (\d+)\)")
# A WAV written to a pipe cannot know its length and says this instead.
_UNKNOWN_LENGTH = 0xFFFFFFFF
_BLOCK = 1 << 20


def read_audio(path: str | Path, sample_rate: int | None = None) -> Float[Tensor, " T"]:
    """Return a file's samples, channels averaged, resampled (soxr HQ) to `sample_rate` [Hz] if that is given.

    Raises:
        DataError: no such file, not audio, truncated, without samples, or with samples that are not finite.
    """
    data = _read_bytes(Path(path))
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples, file_rate = _read_samples(file), file.samplerate
            shortfall = _shortfall(file, len(samples), data)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise DataError(f"{path}: not audio that can be read, or truncated ({reason}); replace or remove it") from error
    if shortfall:
        raise DataError(f"{path}: truncated, {shortfall}; fetch or write the file again")
    if len(samples) == 0:
        raise DataError(f"{path}: holds no samples; replace or remove it")
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise DataError(f"{path}: sample {first} is not a finite number; write the file again or remove it")
    mono = samples.mean(axis=1, dtype=np.float32)
    if sample_rate is not None and sample_rate != file_rate:
        mono = soxr.resample(mono, file_rate, sample_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(mono))


def write_audio(path: str | Path, audio: Float[Tensor, " T"], sample_rate: int) -> None:
    """Write 16-bit WAV or FLAC, by the suffix; what lies outside [-1, 1] is clipped, never wrapped.

    Samples read from a 16-bit file are written back unchanged.

    Raises:
        UsageError: another suffix, or a place that cannot be written.
        DataError: the disk is full.
        NumericalError: samples that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: audio is written as {' or '.join(FORMATS)}, by the name's ending")
    if not bool(torch.isfinite(audio).all()):
        raise NumericalError(f"{path}: the audio to be written has samples that are not finite numbers")
    pcm = (audio.detach().cpu().double() * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, sample_rate, format=FORMATS[path.suffix.lower()], subtype="PCM_16")
    with published(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def file_sample_rate(path: str | Path) -> int:
    """Return the sample rate [Hz] that a file declares.

    Raises:
        DataError: no such file or not audio.
    """
    try:
        return int(soundfile.info(io.BytesIO(_read_bytes(Path(path)))).samplerate)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not audio that can be read; replace or remove it") from error


def source_hash(path: str | Path) -> str:
    """Return the BLAKE2b hash of a file's bytes.

    Raises:
        DataError: no such file.
    """
    return hashlib.blake2b(_read_bytes(Path(path)), digest_size=16).hexdigest()


def rms_db(audio: Float[Tensor, "*batch T"]) -> Float[Tensor, "*batch"]:
    """Return the level [dB, full scale 0] by root mean square; silence and no samples at all give -200."""
    mean_square = audio.double().square().sum(-1) / max(audio.shape[-1], 1)
    return (10 * mean_square.log10()).clamp(min=SILENCE_DB).to(audio.dtype)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not data:
        raise DataError(f"{path}: the file is empty; replace or remove it")
    return data


def _read_samples(file: soundfile.SoundFile) -> np.ndarray:
    """Read block by block: a damaged header may declare more samples than memory holds."""
    blocks = []
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32)


def _shortfall(file: soundfile.SoundFile, n_samples: int, data: bytes) -> str:
    """Return how a file falls short of what it declares; empty if it does not."""
    if n_samples < file.frames:
        return f"{n_samples} of {file.frames} samples are there"
    for chunk, declared, real in _DECLARED.findall(file.extra_info):
        # The pad byte after an odd chunk is often left out, which leaves the outer chunk one byte short.
        spare = 0 if chunk in ("data", "SSND") else 1
        if int(declared) > int(real) + spare and int(declared) != _UNKNOWN_LENGTH:
            return f"{real} of the {declared} bytes of '{chunk}' are there"
    if data[:4] == b"OggS" and not _ogg_is_ended(data):
        return "the Ogg stream's last page is not there"
    return ""


def _ogg_is_ended(data: bytes) -> bool:
    """Tell whether the last page is whole and marked as the end of its stream (RFC 3533, section 6)."""
    start = data.rfind(b"OggS")
    header = data[start : start + 27]
    if len(header) < 27:
        return False
    lengths = data[start + 27 : start + 27 + header[26]]
    return bool(header[5] & 4) and start + 27 + header[26] + sum(lengths) <= len(data)
