"""The codec without weights: stacked log-mel frames, decoded by Griffin-Lim. It is not neural."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

from audio_engram.codecs.base import Codec, Option
from audio_engram.errors import UsageError

SAMPLE_RATE = 16000
HOP = 160
FRAMES = SAMPLE_RATE / HOP  # mel frames per second [Hz]
WINDOW = 400
N_FFT = 512
N_MELS = 64
# Band power of -90 dB against a full-scale sine: under the noise of 16-bit audio, it only tames silence.
FLOOR = 1e-9
# Latents above this would mean 43 dB over full scale; a diverged rollout must not overflow the exponential.
CEILING = 10.0
MOMENTUM = 0.99


class MelCodec(Codec):
    """Natural log of 64 mel band powers every 10 ms, `frames_per_latent` of them side by side in one latent.

    The 25 ms window of mel frame n ends at sample (n + 1) * 160, so no frame sees its future. The four frame
    rates hold the same numbers, cut into latents of 512, 256, 128 or 64 dimensions.
    """

    name = "mel"
    sample_rate = SAMPLE_RATE
    offers: Mapping[float, int] = {rate: N_MELS * round(FRAMES / rate) for rate in (12.5, 25.0, 50.0, 100.0)}
    window: Tensor
    filters: Tensor

    def __init__(self, frame_rate: int | float = 12.5, iterations: Option = 32) -> None:
        super().__init__()
        if frame_rate not in self.offers:
            raise UsageError(f"codec.frame_rate: mel has 12.5, 25, 50 or 100 Hz, not {frame_rate:g}")
        if not isinstance(iterations, int) or iterations < 1:
            raise UsageError(f"codec.options.iterations: Griffin-Lim needs at least 1, not {iterations!r}")
        self.frame_rate = float(frame_rate)
        self.frames_per_latent = round(FRAMES / frame_rate)
        self.latent_dim = self.offers[self.frame_rate]
        self.iterations = iterations
        self.options = {"iterations": iterations}
        self.register_buffer("window", torch.hann_window(WINDOW, dtype=torch.float64).float())
        self.register_buffer("filters", mel_filters())

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return log mel powers, oldest frame first within a latent."""
        power = self._spectrum(audio[:, 0]).abs().square()
        log_mel = (power @ self.filters.T + FLOOR).log()
        return log_mel.reshape(audio.shape[0], -1, self.latent_dim)

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return audio whose mel powers come near the latents'.

        Phases are found by fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013, algorithm 2) outside the
        graph; gradients reach the latents through the magnitudes.
        """
        log_mel = latents.reshape(latents.shape[0], -1, N_MELS)
        if log_mel.shape[1] == 0:
            return latents.new_zeros(latents.shape[0], 1, 0)
        power = (log_mel.clamp(max=CEILING).exp() - FLOOR).clamp(min=0)
        magnitude = (nonnegative_spectrum(power, self.filters) + 1e-12).sqrt()
        weight = self._weight(log_mel.shape[1])
        with torch.no_grad():
            phase = self._phase(magnitude, weight)
        return self._signal(magnitude * phase, weight)[:, None]

    def _spectrum(self, audio: Float[Tensor, "B T"]) -> Complex[Tensor, "B N F"]:
        """Causal short-time spectrum, scaled so that a full-scale sine has magnitude 1."""
        frames = F.pad(audio, (WINDOW - HOP, 0)).unfold(-1, WINDOW, HOP)
        return torch.fft.rfft(frames * (self.window * (2 / self.window.sum())), n=N_FFT)

    def _signal(self, spectrum: Complex[Tensor, "B N F"], weight: Float[Tensor, "1 L"]) -> Float[Tensor, "B T"]:
        """Least-squares inverse of `_spectrum` (Griffin and Lim 1984, equation 6); `weight` is its denominator."""
        frames = torch.fft.irfft(spectrum, n=N_FFT)[..., :WINDOW] * (self.window * (self.window.sum() / 2))
        return (_overlap_add(frames) / weight)[:, WINDOW - HOP :]

    def _weight(self, n_frames: int) -> Float[Tensor, "1 L"]:
        # The last samples lie under one window's falling edge alone; without the floor they would blow up.
        return _overlap_add(self.window.square().expand(1, n_frames, WINDOW)).clamp(min=0.1)

    def _phase(self, magnitude: Float[Tensor, "B N F"], weight: Float[Tensor, "1 L"]) -> Complex[Tensor, "B N F"]:
        generator = torch.Generator().manual_seed(0)
        # The same start for every row, so that an utterance decodes alike alone and in a batch.
        angle = torch.rand(magnitude.shape[1:], generator=generator).to(magnitude) * (2 * math.pi)
        phase = torch.polar(torch.ones_like(angle), angle).expand(magnitude.shape)
        previous = torch.zeros_like(phase)
        for _ in range(self.iterations):
            consistent = self._spectrum(self._signal(magnitude * phase, weight))
            phase = consistent.add(consistent - previous, alpha=MOMENTUM).sgn()
            previous = consistent
        return phase


def _overlap_add(frames: Float[Tensor, "B N W"]) -> Float[Tensor, "B L"]:
    length = (frames.shape[1] - 1) * HOP + WINDOW
    return F.fold(frames.transpose(1, 2), (1, length), (1, WINDOW), stride=(1, HOP))[:, 0, 0]


def hz_to_mel(hz: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Slaney's Auditory Toolbox (1998) scale: linear below 1 kHz, 27 steps for a factor of 6.4 above."""
    return torch.where(hz < 1000, hz * 3 / 200, 15 + 27 * (hz.clamp(min=1000) / 1000).log() / math.log(6.4))


def mel_to_hz(mel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Inverse of `hz_to_mel`."""
    return torch.where(mel < 15, mel * 200 / 3, 1000 * (math.log(6.4) / 27 * (mel - 15).clamp(min=0)).exp())


def mel_filters() -> Float[Tensor, "M F"]:
    """Triangles of height 1 on the mel scale, 0 to 8 kHz, over the bins of a power spectrum."""
    top = hz_to_mel(torch.tensor(SAMPLE_RATE / 2, dtype=torch.float64))
    edges = mel_to_hz(torch.linspace(0, 1, N_MELS + 2, dtype=torch.float64) * top)
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * (SAMPLE_RATE / N_FFT)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0).float()


def nonnegative_spectrum(
    bands: Float[Tensor, "*batch M"], filters: Float[Tensor, "M F"], steps: int = 30
) -> Float[Tensor, "*batch F"]:
    """Return a power spectrum >= 0 with `spectrum @ filters.T` near `bands`.

    Multiplicative updates of non-negative least squares (Lee and Seung 2001, theorem 1).
    """
    spectrum = bands @ (filters / filters.sum(1, keepdim=True))
    target = bands @ filters
    for _ in range(steps):
        spectrum = spectrum * target / ((spectrum @ filters.T) @ filters + 1e-12)
    return spectrum
