"""YIN against tones, complexes and glides of known pitch, the equations written out, and labelled speakers."""

import numpy as np
import pytest
import torch

from audio_engram.audio import read_audio
from audio_engram.pitch import HOP, LONGEST, SAMPLE_RATE, SPAN, WINDOW, difference, fundamental, normalised

FREQUENCIES = (60.0, 75.0, 110.0, 157.3, 220.0, 333.3, 440.0, 499.0, 500.0)


def complex_tone(frequency, harmonics, seconds=0.5, level=0.1):
    """Harmonics {number: amplitude} with phases that make no pulse."""
    time = torch.arange(round(seconds * SAMPLE_RATE)).double() / SAMPLE_RATE
    tones = (a * torch.cos(2 * torch.pi * frequency * h * time + h * h) for h, a in harmonics.items())
    return (level * sum(tones)).float()


def equal(highest, lowest=1):
    return dict.fromkeys(range(lowest, highest + 1), 1.0)


def pitch_of(samples):
    return fundamental(samples, len(samples) // HOP)


def cents(pitch, frequency):
    return 1200 * (pitch / frequency).log2().abs()


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frequency", FREQUENCIES)
@pytest.mark.parametrize(("highest", "tolerance"), [(1, 0.05), (5, 0.3), (15, 3.0)])
def test_steady_pitch_to_the_very_ends(frequency, highest, tolerance):
    harmonics = {h: 1.0 for h in range(1, highest + 1) if h * frequency < 7500}
    assert cents(pitch_of(complex_tone(frequency, harmonics)), frequency).max() < tolerance  # NaN fails too


@pytest.mark.parametrize(
    ("harmonics", "lowest", "highest"),
    [
        (equal(8, lowest=2), 80.0, 290.0),
        (equal(6, lowest=3), 80.0, 150.0),  # above it, too little is left under 1 kHz
        ({1: 1.0, 2: 2.0}, 120.0, 290.0),  # the octave 6 dB stronger; under it, the filter against hum takes as much
        ({1: 0.3, 2: 1.0, 3: 1.0, 4: 2.0}, 80.0, 290.0),
        ({h: 1 / h for h in range(1, 20)}, 80.0, 290.0),
    ],
    ids=["from the 2nd", "from the 3rd", "strong 2nd", "strong 4th", "sawtooth"],
)
def test_no_octave_errors(harmonics, lowest, highest):
    for frequency in (80.0, 120.0, 150.0, 200.0, 290.0):
        if lowest <= frequency <= highest:
            assert cents(pitch_of(complex_tone(frequency, harmonics)), frequency).max() < 10, frequency


def test_an_octave_that_nearly_drowns_the_fundamental_is_the_pitch():
    # The threshold at work: an odd share of 1 % in power is taken for noise.
    assert cents(pitch_of(complex_tone(120.0, {1: 0.1, 2: 1.0})), 240.0).max() < 10


@pytest.mark.parametrize(("frequency", "heard"), [(640.0, 320.0), (700.0, 350.0)])
def test_what_repeats_faster_than_500_hz_is_heard_an_octave_lower(frequency, heard):
    assert cents(pitch_of(complex_tone(frequency, {1: 1.0})), heard).max() < 0.1


def test_a_tone_under_the_rounding_noise_is_unvoiced():
    assert pitch_of(complex_tone(200.0, equal(1), level=1e-4)).isfinite().all()
    assert pitch_of(complex_tone(200.0, equal(1), level=5e-6)).isnan().all()


@pytest.mark.parametrize("octaves_per_second", [-2.0, -1.0, 1.0, 2.0])
def test_a_glide_has_its_pitch_in_the_middle_of_each_frame(octaves_per_second):
    time = torch.arange(SAMPLE_RATE // 2).double() / SAMPLE_RATE
    track = 170.0 * 2 ** (octaves_per_second * (time - 0.25))
    phase = 2 * torch.pi * track.cumsum(0) / SAMPLE_RATE
    pitch = pitch_of(0.1 * sum(torch.cos(h * phase + h) / h for h in range(1, 6)).float())
    inner = slice(4, -4)  # the others are measured further inside
    error = 1200 * (pitch / track[HOP // 2 :: HOP]).log2()[inner]
    # 2.5 ms off the middle, at most, between 120 and 240 Hz.
    assert error.abs().max() < 1200 * abs(octaves_per_second) * 0.0025


def test_noise_is_unvoiced():
    # White: none of 3000 frames when this was written. Band-limited noise repeats itself by chance now and then.
    assert pitch_of(noise(30 * SAMPLE_RATE)).isnan().all()


@pytest.mark.parametrize(
    ("ratio_db", "low", "high"), [(20, 0.99, 1.0), (0, 0.0, 0.3)], ids=["some breath", "as loud as the voice"]
)
def test_a_voice_in_noise(ratio_db, low, high):
    voice = complex_tone(120.0, equal(20), seconds=5)
    hiss = noise(len(voice)) * voice.std() * 10 ** (-ratio_db / 20)
    pitch = pitch_of(voice + hiss)
    voiced = ~pitch.isnan()
    assert low <= voiced.float().mean() <= high
    if ratio_db > 0:
        assert cents(pitch[voiced], 120.0).max() < 30


@pytest.mark.parametrize("samples", [1, 100, SPAN, 5000])
@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_what_does_not_move_is_unvoiced(samples, value):
    assert fundamental(torch.full((samples,), value), 1 + samples // HOP).isnan().all()


@pytest.mark.parametrize("gain", [1e-3, 0.1, 30.0])
def test_loudness_is_no_pitch(gain):
    speechlike = torch.cat([complex_tone(130.0, equal(9)), 0.05 * noise(8000), complex_tone(210.0, equal(9))])
    loud, quiet = pitch_of(speechlike), pitch_of(gain * speechlike)
    assert torch.equal(loud.isnan(), quiet.isnan())
    assert 0.6 < (~loud.isnan()).float().mean() < 0.75
    assert torch.allclose(loud, quiet, rtol=1e-4, equal_nan=True)


def test_an_offset_changes_nothing():
    tone = complex_tone(130.0, equal(9))
    assert torch.allclose(pitch_of(tone), pitch_of(tone + 0.3), rtol=1e-4)


def test_the_hum_of_a_pause_is_no_voice():
    # 60 Hz, 27 dB under the voice, which keeps its own pitch.
    hum = complex_tone(60.0, {1: 1.0}, seconds=1.0, level=0.01)
    voice = torch.cat([complex_tone(200.0, equal(5)), torch.zeros(8000)])
    pitch = pitch_of(voice + hum)
    assert cents(pitch[:47], 200.0).max() < 20
    assert pitch[53:].isnan().all()


def test_time_shifts_shift_the_frames():
    sound = torch.cat([complex_tone(130.0, equal(9)), 0.05 * noise(8000), complex_tone(210.0, equal(9))])
    later = torch.cat([torch.zeros(7 * HOP), sound])
    assert torch.allclose(pitch_of(sound)[5:], pitch_of(later)[12:], rtol=1e-4, equal_nan=True)


def test_blocks_make_no_difference(monkeypatch):
    sound = complex_tone(130.0, equal(9)) + 0.1 * noise(8000)
    whole = pitch_of(sound)
    monkeypatch.setattr("audio_engram.pitch.BLOCK", 7)
    assert torch.allclose(whole, pitch_of(sound), rtol=1e-5, equal_nan=True)


def test_the_difference_function_is_equation_6():
    frames = noise(3 * SPAN).view(3, SPAN).double()
    x = frames.numpy()
    expected = [((x[:, :WINDOW] - x[:, lag : lag + WINDOW]) ** 2).sum(1) for lag in range(LONGEST + 2)]
    assert difference(frames).numpy() == pytest.approx(np.stack(expected, 1), rel=1e-10, abs=1e-9)


def test_the_normalised_difference_is_equation_8():
    d = torch.rand(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    d[:, 0] = 0
    expected = torch.stack([d[:, lag] / d[:, 1 : lag + 1].mean(1) for lag in range(1, 50)], 1)
    assert torch.allclose(normalised(d)[:, 1:], expected)
    assert torch.equal(normalised(torch.zeros(2, 50)), torch.ones(2, 50))


@pytest.mark.shared
def test_the_labelled_sex_of_librispeech_speakers_shows(shared):
    """One utterance of every fourth speaker: 36 of 38 men under 160 Hz, 28 of 28 women above, when this was written."""
    root = shared / "data/LibriSpeech"
    rows = [line.split("|") for line in (root / "SPEAKERS.TXT").read_text().splitlines() if line[:1] != ";"]
    sex = {row[0].strip(): row[1].strip() for row in rows}
    median = {"M": [], "F": []}
    for folder in sorted(root.glob("*/*/"))[::4]:
        pitch = pitch_of(read_audio(min(folder.rglob("*.flac")), SAMPLE_RATE))
        median[sex[folder.name]].append(float(pitch.nanmedian()))
    men, women = (np.array(median[key]) for key in "MF")
    assert min(len(men), len(women)) > 20
    assert np.median(men) < 135 < 170 < np.median(women)
    # The area under the curve; 0.5 would be chance.
    assert (women[:, None] > men).mean() > 0.93
    assert ((men < 160).sum() + (women > 160).sum()) / (len(men) + len(women)) > 0.85
