"""Fundamental frequency by YIN, all frames of a recording at once.

After de Cheveigné and Kawahara (2002), J. Acoust. Soc. Am. 111(4), 1917-1930: their steps 1 to 5. Step 6, a search
among neighbouring frames, is left out: medians over frames bring most of it.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

SAMPLE_RATE = 16000
HOP = 160
LOWEST, HIGHEST = 60.0, 500.0  # [Hz]
THRESHOLD = 0.15  # of d', which is about the aperiodic share of the power
RANGE_DB, FLOOR_DB = 30.0, -100.0
# A mean over 1 ms less one over 8 ms: without the first, breath noise hides every fifth voiced frame of LibriSpeech;
# without the second, some of its recordings hum at 60 Hz loudly enough to be taken for a voice.
FINE, COARSE = 17, 129

WINDOW = 400
SHORTEST, LONGEST = math.floor(SAMPLE_RATE / HIGHEST), math.ceil(SAMPLE_RATE / LOWEST)  # periods [samples]
SPAN = WINDOW + LONGEST + 1  # a dip needs a neighbour on either side
N_FFT = 720
# A period of p samples is read off WINDOW + p samples: these are centred for p in the middle of the range.
CENTRE = (WINDOW + round(math.sqrt(SHORTEST * LONGEST)) + COARSE) // 2
BLOCK = 4096


def fundamental(samples: Float[Tensor, " T"], n: int) -> Float[Tensor, " n"]:
    """Return F0 [Hz] of `n` > 0 frames of 10 ms of 16 kHz audio, NaN where it is unvoiced.

    A frame is voiced where a period between 1/500 and 1/60 s repeats well and the level is within 30 dB of the
    loudest frame's. An estimate rests on 27 to 42 ms around the middle of its frame (6 ms off it at most); near
    the ends of the audio, on the nearest that lie inside. What repeats faster than 500 Hz is heard octaves lower.
    """
    frames = _filtered(F.pad(samples, (0, max(0, SPAN + COARSE - 1 - len(samples))))).unfold(0, SPAN, 1)
    starts = (torch.arange(n) * HOP + HOP // 2 - CENTRE).clamp(0, len(frames) - 1)
    period, power = map(torch.cat, zip(*(_period_and_power(frames[some]) for some in starts.split(BLOCK)), strict=True))
    level = 10 * power.log10()
    audible = level > max(FLOOR_DB, float(level.max()) - RANGE_DB)
    return torch.where(audible, SAMPLE_RATE / period, torch.nan)


def difference(frames: Float[Tensor, "n S"]) -> Float[Tensor, "n L"]:
    """Return d(lag), the sum of (x_j - x_(j + lag))² over a window (equation 6), by correlation (equation 7)."""
    spectrum = torch.fft.rfft(frames, N_FFT) * torch.fft.rfft(frames[:, :WINDOW], N_FFT).conj()
    n_lags = frames.shape[1] - WINDOW + 1
    correlation = torch.fft.irfft(spectrum, N_FFT)[:, :n_lags]
    sums = F.pad(frames.square().cumsum(1), (1, 0))
    energy = sums[:, WINDOW:] - sums[:, :n_lags]
    return (energy[:, :1] + energy - 2 * correlation).clamp(min=0)


def normalised(d: Float[Tensor, "n L"]) -> Float[Tensor, "n L"]:
    """Return d'(lag), d over its mean up to this lag (equation 8); 1 at lag 0, and for silence."""
    lags = torch.arange(1, d.shape[1], dtype=d.dtype)
    sums = d[:, 1:].cumsum(1)
    return F.pad(torch.where(sums > 0, d[:, 1:] * lags / sums, 1.0), (1, 0), value=1.0)


def _filtered(samples: Float[Tensor, " T"]) -> Float[Tensor, " T2"]:
    sums = F.pad(samples.double().cumsum(0), (1, 0))
    fine, coarse = ((sums[width:] - sums[:-width]) / width for width in (FINE, COARSE))
    edge = (COARSE - FINE) // 2
    return (fine[edge:-edge] - coarse).to(samples)


def _period_and_power(frames: Float[Tensor, "n S"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Periods [samples], NaN where there is none, and mean squares."""
    d = difference(frames)
    dips = _dips(normalised(d))[:, SHORTEST:]
    lag = dips.byte().argmax(1) + SHORTEST  # the shortest period of those that repeat well (step 4)
    period = torch.where(dips.any(1), lag + _vertex(d, lag), torch.nan)
    # Of the window alone: before an onset out of digital silence it holds zeros, and d only rounding errors.
    return period, frames[:, :WINDOW].square().mean(1)


def _dips(d: Float[Tensor, "n L"]) -> Bool[Tensor, "n L1"]:
    """Which lags, the last excepted, are minima under the threshold; smooth as d is, no dip falls between samples."""
    left, middle, right = d[:, :-2], d[:, 1:-1], d[:, 2:]
    return F.pad((middle < left) & (middle <= right) & (middle < THRESHOLD), (1, 0))


def _vertex(d: Float[Tensor, "n L"], lag: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How far from `lag` a parabola has its minimum (step 5): through d, because minima of d' stand a little off."""
    left, middle, right = (d.gather(1, (lag + step)[:, None])[:, 0] for step in (-1, 0, 1))
    curvature = left - 2 * middle + right
    return torch.where(curvature > 0, (left - right) / (2 * curvature), 0.0).clamp(-1, 1)
