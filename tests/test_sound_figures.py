"""Figures of sounds whose values are known."""

import math

import pytest
import torch

from audio_engram.sound_figures import FIGURES, sound_figures

RATE, SECONDS = 16_000, 5
TIME = torch.arange(RATE * SECONDS) / RATE


def noise(seed=0):
    return 0.1 * torch.randn(RATE * SECONDS, generator=torch.Generator().manual_seed(seed))


def tone(frequency):
    return 0.1 * torch.sin(2 * math.pi * frequency * TIME)


def pulses(frequency):
    """A voice: all harmonics up to 4 kHz."""
    harmonics = torch.arange(1, int(4000 / frequency))
    return 0.1 * torch.sin(2 * math.pi * frequency * TIME[:, None] * harmonics).mean(1)


def test_white_noise():
    """Powers of a bin are exponential: exp(-γ) = 0.561, a little more of a finite number of bins; no voice."""
    found = sound_figures(noise(), RATE)
    assert found["spectral_flatness"] == pytest.approx(math.exp(-0.5772), abs=0.01)
    assert abs(found["level_slope"]) < 0.1
    assert found["modulation"] < 0.002
    assert found["speech_share"] < 0.05


def test_a_tone_is_not_flat():
    assert sound_figures(tone(1000), RATE)["spectral_flatness"] < 0.001


@pytest.mark.parametrize("slope", [-6.0, 3.0])
def test_a_fade_is_a_slope(slope):
    found = sound_figures(noise() * 10 ** (slope * TIME / 20), RATE)
    assert found["level_slope"] == pytest.approx(slope, abs=0.1)


@pytest.mark.parametrize(("frequency", "depth", "want"), [(4, 0.8, 0.32), (4, 0.4, 0.08), (1, 0.8, 0.0), (20, 0.8, 0)])
def test_modulation_is_that_of_syllables(frequency, depth, want):
    sound = tone(1000) * (1 + depth * torch.sin(2 * math.pi * frequency * TIME))
    found = sound_figures(sound, RATE)["modulation"]
    assert found == pytest.approx(want, rel=0.05, abs=0.005)
    # Louder is no more modulated.
    assert sound_figures(3 * sound, RATE)["modulation"] == pytest.approx(found, rel=1e-4)


def test_speech_is_what_is_voiced_or_near_it():
    voice = pulses(120)
    assert sound_figures(voice, RATE)["speech_share"] > 0.97
    half = torch.where(TIME < SECONDS / 2, voice, 0.0)
    assert sound_figures(half, RATE)["speech_share"] == pytest.approx(0.5, abs=0.02)
    # Noise right after a voice counts for 0.2 s, as a fricative does.
    then = torch.where(TIME < SECONDS / 2, voice, 0.3 * noise())
    assert sound_figures(then, RATE)["speech_share"] == pytest.approx(0.5 + 0.2 / SECONDS, abs=0.03)


def test_every_sample_rate_gives_the_same():
    high = torch.arange(48_000 * 2) / 48_000
    low = torch.arange(RATE * 2) / RATE
    one, other = (
        sound_figures(0.1 * torch.sin(2 * math.pi * 500 * t) * (1 + 0.5 * torch.sin(2 * math.pi * 4 * t)), rate)
        for t, rate in ((high, 48_000), (low, RATE))
    )
    assert one["modulation"] == pytest.approx(other["modulation"], rel=0.01)
    assert one["level_slope"] == pytest.approx(other["level_slope"], abs=0.05)


def test_what_cannot_be_told_is_nan():
    short, broken = noise()[: RATE - 1], noise()
    broken[7] = torch.inf
    for sound in (short, broken):
        assert all(math.isnan(sound_figures(sound, RATE)[name]) for name in FIGURES)
    silence = sound_figures(torch.zeros(RATE * 2), RATE)
    assert silence["level_slope"] == 0.0
    assert all(math.isnan(silence[name]) for name in FIGURES[1:])
