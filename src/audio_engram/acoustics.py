"""What is heard in every latent frame: level, spectral change, pitch, and how level and pitch change since the last.

Latent frame t covers samples [t * hop, (t + 1) * hop). Spectral change and pitch are analysed every 10 ms at 16 kHz,
whatever the codec, and brought to its frames by integer arithmetic, so that no frame rate drifts.
"""

from dataclasses import dataclass, fields

import soxr
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.audio import rms_db
from audio_engram.errors import UsageError
from audio_engram.pitch import BLOCK, HOP, SAMPLE_RATE, fundamental

INTERVALS = SAMPLE_RATE // HOP  # of the analysis, per second
FLOOR_DB = -100.0  # the rounding noise of 16-bit samples; digital silence must not make steps of 170 dB
VOICED = 0.5
WINDOW = 400
N_FFT = 512
BINS_PER_BAND = 8
LOUDNESS = 1 / 3


@dataclass(frozen=True)
class Acoustics:
    """One value per latent frame, NaN in frames that do not lie inside the audio.

    `energy` [dB, full scale 0] is not under -100. `flux` has no unit: see `spectral_flux`. `voicing` is the share of
    voiced analysis frames; `pitch` [Hz] is their median, NaN where less than half are voiced. `energy_change` [dB]
    and `pitch_change` [semitones] are against the frame before: NaN in the first, and in pitch if either is NaN.
    """

    energy: Float[Tensor, " N"]
    flux: Float[Tensor, " N"]
    voicing: Float[Tensor, " N"]
    pitch: Float[Tensor, " N"]
    energy_change: Float[Tensor, " N"]
    pitch_change: Float[Tensor, " N"]


def measure_acoustics(samples: Float[Tensor, " T"], sample_rate: int, hop: int, n_frames: int) -> Acoustics:
    """Return the acoustic facts of `n_frames` latent frames of `hop` samples at `sample_rate` [Hz].

    Raises:
        UsageError: a sample rate or hop under 1, or a negative number of frames.
    """
    if min(sample_rate, hop) < 1 or n_frames < 0:
        raise UsageError(
            f"acoustics: {n_frames} frames of {hop} samples at {sample_rate} Hz do not exist; take the codec's own"
        )
    heard = min(n_frames, len(samples) // hop)
    found = _inside(samples.float(), sample_rate, hop, heard) if heard else _nowhere(0)
    missing = _nowhere(n_frames - heard)
    return Acoustics(*(torch.cat([getattr(part, f.name) for part in (found, missing)]) for f in fields(Acoustics)))


def spectral_flux(samples: Float[Tensor, " T"], n: int) -> Float[Tensor, " n"]:
    """Return how far the spectrum moves in each of `n` intervals of 10 ms of 16 kHz audio.

    The 2-norm of the difference (Scheirer and Slaney 1997, spectral flux) between the spectra around an interval's
    end and its beginning. A spectrum is the cube root (Hermansky 1990, intensity-loudness power law) of the powers
    in bands of 250 Hz under a Hann window of 25 ms; a logarithm would hear an onset before it comes, through the
    window's edge. The unit is the norm of the recording's spectra, each weighted by itself: gain and added silence
    change nothing. Rises and falls count alike. At its ends the audio is taken to go on changing as it does.
    """
    # The first window inside the audio that is centred between two intervals.
    first = WINDOW // 2 // HOP + 1
    start = first * HOP - WINDOW // 2
    padded = F.pad(samples, (0, max(0, start + WINDOW + HOP - len(samples))))
    windows = padded[start:].unfold(0, WINDOW, HOP)
    loudness = torch.cat([_loudness(some) for some in windows.split(BLOCK)])
    norm = loudness.norm(dim=1)
    unit = norm.square().sum() / norm.sum().clamp(min=torch.finfo().tiny)
    flux = loudness.diff(dim=0).norm(dim=1) / unit.clamp(min=torch.finfo().tiny)
    return flux[(torch.arange(n) - first).clamp(0, len(flux) - 1)]


def _loudness(windows: Float[Tensor, "n W"]) -> Float[Tensor, "n bands"]:
    spectrum = torch.fft.rfft(windows * torch.hann_window(WINDOW), N_FFT)[:, 1:]
    return spectrum.abs().square().unflatten(1, (-1, BINS_PER_BAND)).mean(2).pow(LOUDNESS)


def _inside(samples: Float[Tensor, " T"], sample_rate: int, hop: int, n_frames: int) -> Acoustics:
    energy = rms_db(samples[: n_frames * hop].reshape(-1, hop)).clamp(min=FLOOR_DB)
    analysed = _resampled(samples, sample_rate)
    n = len(samples) * INTERVALS // sample_rate + 1
    # In units in which an interval lasts `sample_rate` and a sample INTERVALS, every edge is a whole number.
    edges = torch.arange(n_frames + 1) * hop * INTERVALS
    flux = _means(spectral_flux(analysed, n), edges, sample_rate)
    voicing, pitch = _medians(fundamental(analysed, n), edges, sample_rate)
    return Acoustics(energy, flux, voicing, pitch, _change(energy), 12 * _change(pitch.log2()))


def _nowhere(n_frames: int) -> Acoustics:
    return Acoustics(*(torch.full((n_frames,), torch.nan) for _ in fields(Acoustics)))


def _resampled(samples: Float[Tensor, " T"], sample_rate: int) -> Float[Tensor, " T2"]:
    if sample_rate == SAMPLE_RATE:
        return samples
    return torch.from_numpy(soxr.resample(samples.numpy(), sample_rate, SAMPLE_RATE, quality="HQ"))


def _means(values: Float[Tensor, " n"], edges: Int[Tensor, " N1"], interval: int) -> Float[Tensor, " N"]:
    """Means over frames of values that hold for an interval each, an interval cut by an edge in proportion."""
    values = values.double()
    whole, rest = edges // interval, edges % interval
    before = torch.cat([values.new_zeros(1), values.cumsum(0)])
    integral = before[whole] * interval + values[whole] * rest
    return (integral.diff() / edges.diff()).float()


def _medians(
    values: Float[Tensor, " n"], edges: Int[Tensor, " N1"], interval: int
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Share of values that are not NaN, and the median of these, among the intervals whose middle a frame holds.

    A frame too short to hold one takes the interval around its own middle.
    """
    # The first interval whose middle, (i + 1/2) * interval, is not before the edge.
    first = (2 * edges + interval - 1) // (2 * interval)
    start, end, around = first[:-1], first[1:], (edges[:-1] + edges[1:]) // (2 * interval)
    start, end = torch.where(end > start, start, around), torch.where(end > start, end, around + 1)
    place = start[:, None] + torch.arange(int((end - start).max()))
    taken = place < end[:, None]
    chosen = torch.where(taken, values[place.clamp(max=len(values) - 1)], torch.nan)
    share = (~chosen.isnan()).sum(1) / taken.sum(1)
    return share, torch.where(share >= VOICED, chosen.nanquantile(0.5, dim=1), torch.nan)


def _change(values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return torch.cat([torch.full((1,), torch.nan), values.diff()])
