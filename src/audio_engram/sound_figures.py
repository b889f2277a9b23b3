"""What decoded rollouts sound like, in four figures that need no recording to compare with.

`level_slope`        least squares slope of the levels of half seconds [dB/s]: fading, swelling
`spectral_flatness`  geometric over arithmetic mean of the power spectrum (Johnston 1988), of frames within 40 dB of the
                     loudest: 0.56 is white noise, 0 a tone
`modulation`         variance of the amplitude's 2 to 10 Hz, over its squared mean: the rhythm of syllables; d²/2 for a
                     modulation of depth d
`speech_share`       share of frames within 30 dB of the loud ones that are voiced or within 0.2 s of a voiced frame
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.acoustics import FLOOR_DB, N_FFT, WINDOW, _resampled
from audio_engram.audio import rms_db
from audio_engram.pitch import HOP, SAMPLE_RATE, fundamental

FIGURES = ("level_slope", "spectral_flatness", "modulation", "speech_share")
BLOCK = SAMPLE_RATE // 2
SLOW, FAST = 2.0, 10.0  # [Hz]
NEAR = 20  # frames of 10 ms
LOUD, QUIET_DB, AUDIBLE_DB, SILENT_DB = 0.95, 30.0, 40.0, -60.0


def sound_figures(samples: Float[Tensor, " T"], sample_rate: int) -> dict[str, float]:
    """The four figures; NaN for what is shorter than a second or not finite, and of silence but for its slope."""
    nothing = dict.fromkeys(FIGURES, float("nan"))
    if len(samples) < sample_rate or not bool(samples.isfinite().all()):
        return nothing
    heard = _resampled(samples.float(), sample_rate)
    windows = heard.unfold(0, WINDOW, HOP)
    level = rms_db(windows).clamp(min=FLOOR_DB)
    if float(level.max()) <= SILENT_DB:
        return nothing | {"level_slope": _slope(heard)}
    found = _slope(heard), _flatness(windows, level), _modulation(windows), _speech(heard, level)
    return dict(zip(FIGURES, found, strict=True))


def _slope(heard: Float[Tensor, " T"]) -> float:
    level = rms_db(heard.unfold(0, BLOCK, BLOCK)).clamp(min=FLOOR_DB).double()
    second = torch.arange(len(level), dtype=torch.float64) * BLOCK / SAMPLE_RATE
    second = second - second.mean()
    return float((second * level).sum() / second.square().sum())


def _flatness(windows: Float[Tensor, "n W"], level: Float[Tensor, " n"]) -> float:
    audible = windows[(level > level.max() - AUDIBLE_DB) & (level > SILENT_DB)]
    power = torch.fft.rfft(audible * torch.hann_window(WINDOW), N_FFT)[:, 1:].abs().square().double()
    power = power.clamp(min=torch.finfo(torch.float64).tiny)
    return float((power.log().mean(1).exp() / power.mean(1)).mean())


def _modulation(windows: Float[Tensor, "n W"]) -> float:
    amplitude = windows.double().square().mean(1).sqrt()
    spectrum = torch.fft.rfft(amplitude / amplitude.mean())
    n, rate = len(amplitude), SAMPLE_RATE / HOP
    frequency = torch.arange(len(spectrum)) * rate / n
    inside = (frequency >= SLOW) & (frequency <= FAST)
    return float(2 * spectrum[inside].abs().square().sum() / n**2)


def _speech(heard: Float[Tensor, " T"], level: Float[Tensor, " n"]) -> float:
    voiced = ~fundamental(heard, len(level)).isnan()
    near = torch.nn.functional.max_pool1d(voiced.float()[None], 2 * NEAR + 1, 1, NEAR)[0] > 0
    loud = max(SILENT_DB, float(level.quantile(LOUD)) - QUIET_DB)
    return float(((level > loud) & near).float().mean())
