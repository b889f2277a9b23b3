"""What the conformance suite listens with: speech-like signals, a spectral distance and a delay."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec

LEVEL_DB = -26.0
RANGE_DB = 50.0


@dataclass(frozen=True)
class Subject:
    """A codec with two unlike signals of whole frames, and the latents of the first."""

    codec: Codec
    audio: Float[Tensor, "1 1 T"]
    other: Float[Tensor, "1 1 T"]
    latents: Float[Tensor, "1 N D"]
    seed: int

    def encode(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Encode with the same noise every time, if the codec draws any."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.codec.encode(audio)

    def difference(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2"]:
        """Return each frame's largest deviation from the first signal's latents, in standard deviations."""
        n_frames = min(latents.shape[1], self.latents.shape[1])
        deviation = (latents[:, :n_frames] - self.latents[:, :n_frames]).abs().amax(-1)
        return (deviation / self.latents.std()).nan_to_num(nan=torch.inf)

    @property
    def frame_ms(self) -> float:
        """Duration of a frame [ms]."""
        return 1000 / self.codec.frame_rate


def make_subject(codec: Codec, seed: int) -> Subject:
    """Return the codec with two signals of at least 3 s and 32 frames, the other one 10 dB louder."""
    generator = torch.Generator().manual_seed(seed)
    n_frames = max(32, round(3 * codec.frame_rate))
    audio, other = (speech_like(n_frames * codec.hop, codec.sample_rate, generator)[None, None] for _ in range(2))
    # At one level, a codec that normalises the whole utterance would hardly show.
    other = other * 10**0.5
    subject = Subject(codec, audio, other, torch.empty(1, n_frames, codec.latent_dim), seed)
    # A codec that gives too many frames fails the length check alone.
    return replace(subject, latents=subject.encode(audio)[:, :n_frames])


def speech_like(samples: int, sample_rate: int, generator: torch.Generator) -> Float[Tensor, " T"]:
    """Return syllables of gliding harmonics under two moving formants, hiss and pauses between, at -26 dB."""
    time = torch.arange(samples, dtype=torch.float64) / sample_rate
    start = torch.rand(4, generator=generator, dtype=torch.float64) * 2 * torch.pi
    pitch = 130 * (1 + 0.2 * torch.sin(2 * torch.pi * 0.6 * time + start[0]))
    formants = (550 + 250 * torch.sin(9 * time + start[1]), 1600 + 500 * torch.sin(7 * time + start[2]))
    phase = 2 * torch.pi * torch.cumsum(pitch, 0) / sample_rate
    voice = torch.zeros(samples, dtype=torch.float64)
    for harmonic in range(1, 25):
        resonance = sum(1 / (1 + ((harmonic * pitch - formant) / 120) ** 2) for formant in formants)
        voice += resonance * torch.cos(harmonic * phase)
    syllable = torch.sin(2 * torch.pi * 3.3 * time + start[3])
    hiss = torch.randn(samples, generator=generator, dtype=torch.float64) * 0.05
    signal = voice * syllable.clamp(min=0) + hiss * (-syllable - 0.7).clamp(min=0) + 1e-3 * hiss
    return (signal * 10 ** (LEVEL_DB / 20) / signal.square().mean().sqrt()).float()


def band_levels(audio: Float[Tensor, " T"], sample_rate: int) -> Float[Tensor, "bands frames"]:
    """Return levels [dB] every 16 ms in bands of about 250 Hz, nothing lower than 50 dB under the loudest."""
    size = round(0.032 * sample_rate)
    window = torch.hann_window(size, dtype=torch.float64, device=audio.device)
    spectrum = torch.stft(audio.double(), size, size // 2, window=window, center=False, return_complex=True)
    power = F.avg_pool1d(spectrum.abs().square().T, 8).T
    return 10 * power.clamp(min=float(power.detach().max()) * 10 ** (-RANGE_DB / 10) + 1e-20).log10()


def spectral_distance(first: Float[Tensor, " T"], second: Float[Tensor, " T"], sample_rate: int) -> Float[Tensor, ""]:
    """Return the log-spectral distance [dB]: root mean square over bands, mean over frames."""
    difference = band_levels(first, sample_rate) - band_levels(second, sample_rate)
    return difference.square().mean(0).sqrt().mean()


def delay_ms(first: Float[Tensor, " T"], second: Float[Tensor, " T"], sample_rate: int) -> float:
    """Return by how much `second` lags behind `first` [ms]: the best match of envelopes within 100 ms."""
    step = sample_rate // 200
    envelopes = [F.avg_pool1d(x.double().abs()[None], 2 * step, step)[0].log1p() for x in (first, second)]
    reach = 20
    centre = envelopes[0][reach:-reach]
    lagged = envelopes[1].unfold(0, len(centre), 1)
    match = F.cosine_similarity(lagged - lagged.mean(1, keepdim=True), (centre - centre.mean())[None], dim=1)
    return float(int(match.argmax()) - reach) * 1000 * step / sample_rate
