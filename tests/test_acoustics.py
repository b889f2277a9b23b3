"""Acoustic facts per latent frame: known levels, onsets in the right frame at any hop, and what must not matter."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_engram.acoustics import FLOOR_DB, Acoustics, _means, _medians, measure_acoustics, spectral_flux
from audio_engram.errors import UsageError

# (sample rate, hop) of mel and lyra at 12.5, 50 and 100 Hz, Mimi, EnCodec at 75 and 150 Hz, and odd ones.
GRIDS = [(16000, 1280), (16000, 320), (16000, 160), (24000, 1920), (24000, 480), (24000, 320), (48000, 320)]
ODD = [(22050, 441), (44100, 1023), (8000, 397), (16000, 777)]


def noise(samples, seed=0, level=0.1):
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def tone(frequency, samples, rate):
    time = torch.arange(samples).double() / rate
    return 0.1 * sum(torch.cos(2 * torch.pi * frequency * h * time + h * h) / h for h in range(1, 6)).float()


def measured(samples, rate, hop):
    return measure_acoustics(samples, rate, hop, len(samples) // hop)


def same(a, b, tolerance=1e-4):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize(("rate", "hop"), GRIDS + ODD)
def test_an_onset_and_an_end_land_in_their_frame(rate, hop):
    # The analysis sees 25 ms: within 5 ms of a frame's edge, the flux may be larger on the other side.
    margin = round(0.005 * rate)
    inside = [margin, hop // 2, hop - 1 - margin] if hop > 2 * margin else [hop // 2]
    n = max(12, round(0.4 * rate / hop))
    for place in inside:
        event = (n // 2) * hop + place
        begins, ends = tone(203.0, n * hop, rate), tone(203.0, n * hop, rate)
        begins[:event] = 0
        ends[event:] = 0
        for sound in (begins, ends):
            found = measured(sound, rate, hop)
            if 100 * hop >= rate:  # a shorter frame sees no more than the 10 ms around it
                assert int(found.flux.argmax()) == event // hop
        energy = measured(begins, rate, hop).energy
        assert int((energy > FLOOR_DB).int().argmax()) == event // hop
        assert (energy[: event // hop] == FLOOR_DB).all()


@pytest.mark.parametrize(("rate", "hop"), GRIDS + ODD)
def test_the_first_and_last_sample_of_a_frame_are_its_own(rate, hop):
    for sample, frame in ((5 * hop - 1, 4), (5 * hop, 5), (6 * hop - 1, 5)):
        click = torch.zeros(9 * hop)
        click[sample] = 1.0
        energy = measured(click, rate, hop).energy
        assert int(energy.argmax()) == frame
        assert (energy > FLOOR_DB).sum() == 1


@pytest.mark.parametrize(("rate", "hop"), GRIDS + ODD)
def test_pitch_stays_with_its_frames_for_a_minute(rate, hop):
    """A tone that steps up by a fifth, late in a long recording: a frame rate off by 1 in 1000 would miss it."""
    n = 20 * rate // hop
    step = (n - 12) * hop
    sound = torch.cat([tone(150.0, step, rate), tone(225.0, 12 * hop, rate)])
    found = measured(sound, rate, hop)
    spare = 1 + int(0.03 * rate / hop)
    before, after = found.pitch[spare : n - 12 - spare], found.pitch[n - 12 + spare : n - spare]
    assert ((before / 150.0).log2().abs() * 1200).max() < 3
    assert ((after / 225.0).log2().abs() * 1200).max() < 3


def test_a_frame_holds_the_pitch_of_its_own_time():
    """A glide of an octave a second: the median over 80 ms stands for the frame's middle."""
    time = torch.arange(32000).double() / 16000
    track = 100 * 2**time
    sound = 0.1 * torch.cos(2 * torch.pi * track.cumsum(0) / 16000).float()
    found = measured(sound, 16000, 1280)
    middle = 100 * 2 ** ((torch.arange(25) + 0.5) * 0.08)
    assert (12 * (found.pitch / middle).log2())[1:-1].abs().max() < 0.05
    assert found.pitch_change[2:-1].tolist() == pytest.approx([0.96] * 22, abs=0.05)
    assert found.pitch_change[0].isnan()


def test_the_level_of_a_ramp_is_exact():
    gain = 10 ** (torch.arange(20000).double() * -0.003 / 20)  # falls by 0.003 dB per sample
    found = measured(gain.float(), 16000, 320)
    assert found.energy_change[1:].tolist() == pytest.approx([-0.96] * 61, abs=2e-4)
    assert found.energy_change[0].isnan()
    step = torch.cat([torch.full((640,), 0.1), torch.full((640,), 0.2)])
    assert measured(step, 16000, 320).energy.tolist() == pytest.approx([-20.0, -20.0, -13.9794, -13.9794], abs=1e-4)


def test_steady_sounds_do_not_move_and_changing_ones_do():
    still, hiss = (measured(x, 16000, 640).flux for x in (tone(200.0, 16000, 16000), noise(16000)))
    vowels = torch.cat([tone(200.0, 7840, 16000), tone(1000.0, 8160, 16000)])
    moved = measured(vowels, 16000, 640).flux
    assert still.max() < 1e-5
    assert 0.1 < hiss.min() < hiss.max() < 0.4
    assert int(moved.argmax()) == 7840 // 640
    assert moved.max() > 0.2
    assert moved[[0, 10, -10, -1]].max() < 1e-5


def test_the_flux_of_a_sudden_onset_by_hand():
    """Silence, then a tone at full: the spectra's norms go from 0 to u, and the flux sums to the way there."""
    sound = torch.cat([torch.zeros(8000), tone(250.0, 8000, 16000)])
    flux = spectral_flux(sound, 100)
    assert flux[:45].abs().max() == 0
    assert float(flux.sum()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("gain", [0.01, 3.0])
def test_gain_moves_the_level_alone(gain):
    sound = torch.cat([tone(130.0, 8000, 16000), noise(8000), tone(190.0, 8000, 16000)])
    one, other = measured(sound, 16000, 640), measured(gain * sound, 16000, 640)
    shift = 20 * torch.log10(torch.tensor(gain))
    assert same(other.energy, one.energy + shift, 1e-3)
    for name in ("flux", "voicing", "pitch", "energy_change", "pitch_change"):
        assert same(getattr(one, name), getattr(other, name), 1e-3), name


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 20), grid=st.sampled_from([(16000, 1280), (16000, 320), (24000, 480)]))
def test_silence_before_moves_every_fact_along(frames, grid):
    rate, hop = grid
    sound = torch.cat([torch.zeros(rate // 5), tone(130.0, rate // 2, rate), noise(rate // 5), torch.zeros(rate // 5)])
    one = measured(sound, rate, hop)
    later = measured(torch.cat([torch.zeros(frames * hop), sound]), rate, hop)
    for f in fields(Acoustics):
        assert same(getattr(one, f.name)[1:], getattr(later, f.name)[frames + 1 :], 5e-3), f.name


def test_the_sample_rate_does_not_matter():
    """The same sound at 16 and at 24 kHz, in frames of 80 ms."""
    one, other = (
        measured(torch.cat([tone(130.0, rate, rate), tone(200.0, rate, rate)]), rate, hop)
        for rate, hop in ((16000, 1280), (24000, 1920))
    )
    assert same(one.energy, other.energy, 0.02)
    assert same(one.pitch, other.pitch, 0.02)
    assert same(one.flux, other.flux, 0.01)


@pytest.mark.parametrize(("rate", "hop"), GRIDS + ODD)
def test_silence_is_finite_and_unvoiced(rate, hop):
    found = measured(torch.zeros(10 * hop), rate, hop)
    assert (found.energy == FLOOR_DB).all()
    assert (found.flux == 0).all()
    assert (found.voicing == 0).all()
    assert found.pitch.isnan().all()
    assert (found.energy_change[1:] == 0).all()


@pytest.mark.parametrize(("rate", "hop"), GRIDS + ODD)
@pytest.mark.parametrize("extra", [0, 1, 0.999])
def test_frames_beyond_the_audio_are_nan(rate, hop, extra):
    sound = noise(4 * hop + round(extra * hop - 0.5) * (extra > 0))
    inside = len(sound) // hop
    found = measure_acoustics(sound, rate, hop, 7)
    for f in fields(Acoustics):
        values = getattr(found, f.name)
        assert values.shape == (7,)
        assert values.dtype == torch.float32
        assert values[inside:].isnan().all()
    assert found.energy[:inside].isfinite().all()
    assert found.flux[:inside].isfinite().all()
    assert measure_acoustics(sound, rate, hop, 2).energy.tolist() == found.energy[:2].tolist()


@pytest.mark.parametrize(("samples", "n_frames"), [(0, 0), (0, 3), (100, 2), (160, 0), (160, 1)])
def test_next_to_no_audio(samples, n_frames):
    assert measure_acoustics(noise(samples), 16000, 160, n_frames).energy.shape == (n_frames,)


@pytest.mark.parametrize("wrong", [(0, 160, 1), (16000, 0, 1), (16000, 160, -1)])
def test_impossible_frames_are_refused(wrong):
    with pytest.raises(UsageError, match=r"^acoustics: -?\d+ frames of \d+ samples at \d+ Hz do not exist") as caught:
        measure_acoustics(noise(100), *wrong)
    assert caught.value.exit_code == 2


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 9), st.integers(0, 1000))
def test_means_keep_the_whole(interval, length, n_frames, seed):
    """Whatever the edges, frames of equal length share out exactly what lies under them."""
    edges = torch.arange(n_frames + 1) * length
    values = torch.rand(int(edges[-1]) // interval + 1, generator=torch.Generator().manual_seed(seed))
    fine = values.double().repeat_interleave(interval)[: int(edges[-1])]
    expected = fine.view(n_frames, length).mean(1)
    assert torch.allclose(_means(values, edges, interval).double(), expected, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 9), st.integers(0, 1000))
def test_medians_are_of_the_intervals_whose_middle_lies_inside(interval, length, n_frames, seed):
    edges = torch.arange(n_frames + 1) * length
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(int(edges[-1]) // interval + 1, generator=generator)
    values[torch.rand(len(values), generator=generator) < 0.4] = torch.nan
    share, median = _medians(values, edges, interval)
    for t in range(n_frames):
        start, end = edges[t : t + 2].tolist()
        inside = [v for i, v in enumerate(values.tolist()) if start <= (i + 0.5) * interval < end]
        inside = torch.tensor(inside or [float(values[(start + end) // (2 * interval)])])
        kept = inside[~inside.isnan()]
        assert float(share[t]) == pytest.approx(len(kept) / len(inside))
        if 2 * len(kept) < len(inside):
            assert median[t].isnan()
        else:
            assert float(median[t]) == pytest.approx(float(kept.double().quantile(0.5)), rel=1e-5)
