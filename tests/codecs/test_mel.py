"""The mel codec against the formulas it cites, and its exact causality."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pystoi import stoi

from audio_engram.audio import read_audio
from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.mel import FLOOR, MelCodec, hz_to_mel, mel_filters, mel_to_hz, nonnegative_spectrum
from audio_engram.codecs.probe import speech_like

RATE = 16000


def speech(seconds: float = 2.0, seed: int = 0) -> torch.Tensor:
    return speech_like(round(seconds * RATE), RATE, torch.Generator().manual_seed(seed))[None, None]


@pytest.mark.parametrize("frame_rate", [12.5, 25.0, 50.0, 100.0])
def test_mel_conforms(frame_rate: float) -> None:
    results = check_codec(MelCodec(frame_rate))
    assert [result.name for result in results if not result.ok] == []


def test_the_mel_scale_is_slaneys() -> None:
    hz = torch.tensor([0.0, 200.0, 1000.0, 6400.0], dtype=torch.float64)
    torch.testing.assert_close(hz_to_mel(hz), torch.tensor([0.0, 3.0, 15.0, 42.0], dtype=torch.float64))
    ladder = torch.linspace(0, 8000, 99, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(ladder)), ladder)


def test_neighbouring_triangles_sum_to_one_between_the_outer_centres() -> None:
    filters = mel_filters()
    centres = mel_to_hz(torch.linspace(0, 1, 66, dtype=torch.float64) * hz_to_mel(torch.tensor(8000.0).double()))
    bins = torch.arange(257) * 31.25
    inside = (bins >= centres[1]) & (bins <= centres[-2])
    torch.testing.assert_close(filters.sum(0)[inside], torch.ones(int(inside.sum())))
    assert (filters.sum(1) > 0.5).all()


def test_a_full_scale_sine_has_magnitude_one() -> None:
    tone = torch.sin(2 * torch.pi * 2000 * torch.arange(RATE) / RATE)[None]
    magnitude = MelCodec()._spectrum(tone).abs()[0, 5:]
    torch.testing.assert_close(magnitude[:, 64], torch.ones(len(magnitude)), atol=2e-4, rtol=0)


def test_a_frame_hears_only_the_25_ms_that_end_with_it() -> None:
    codec = MelCodec(frame_rate=100)
    audio = speech(0.2).requires_grad_(True)
    frame = 9
    (gradient,) = torch.autograd.grad(codec.analyse(audio)[0, frame].sum(), audio)
    heard = gradient[0, 0].nonzero()
    end = (frame + 1) * 160
    # The periodic Hann window starts with a zero.
    assert (int(heard.min()), int(heard.max())) == (end - 399, end - 1)


def test_the_future_changes_not_a_bit_and_a_prefix_no_more_than_rounding() -> None:
    codec, audio = MelCodec(), speech()
    latents = codec.encode(audio)
    for frames in (1, 9, 20):
        cut = frames * 1280
        altered = torch.cat([audio[..., :cut], -3 * audio[..., cut:]], -1)
        assert torch.equal(codec.encode(altered)[:, :frames], latents[:, :frames])
        prefix = codec.encode(audio[..., : cut + 77])
        torch.testing.assert_close(prefix, latents[:, :frames], atol=1e-5, rtol=1e-5)


def test_the_four_frame_rates_hold_the_same_numbers() -> None:
    audio = speech()[..., : 20 * 1280]
    finest = MelCodec(100).encode(audio)
    for frame_rate in (12.5, 25.0, 50.0):
        assert torch.equal(MelCodec(frame_rate).encode(audio).reshape(finest.shape), finest)


def test_silence_lies_on_the_floor_and_gain_adds_a_constant() -> None:
    codec = MelCodec()
    assert codec.encode(torch.zeros(1, 1, 2560)).unique().tolist() == [pytest.approx(math.log(FLOOR), rel=1e-6)]
    audio = speech()
    difference = codec.encode(2 * audio) - codec.encode(audio)
    loud = codec.encode(audio) > math.log(FLOOR) + 12
    torch.testing.assert_close(difference[loud], torch.full((int(loud.sum()),), math.log(4)), atol=1e-4, rtol=0)


def test_the_signal_of_a_spectrum_is_the_signal() -> None:
    codec, audio = MelCodec(), speech()[0]
    spectrum = codec._spectrum(audio)
    back = codec._signal(spectrum, codec._weight(spectrum.shape[1]))
    # The last 10 ms lie under one falling window and fade.
    torch.testing.assert_close(back[:, :-160], audio[:, :-160], atol=1e-6, rtol=0)
    assert back.abs().max() <= audio.abs().max() + 1e-6


def test_a_spectrum_of_no_signal_does_not_blow_up_at_the_end() -> None:
    noise = torch.randn(1, 30, 257, 2, generator=torch.Generator().manual_seed(0))
    codec = MelCodec()
    audio = codec._signal(torch.view_as_complex(noise), codec._weight(30))[0]
    assert audio[-160:].abs().max() < 2 * audio[:-160].abs().max()


def test_a_spectrum_with_given_bands_is_found() -> None:
    filters = mel_filters()
    truth = torch.rand(40, 257, generator=torch.Generator().manual_seed(0)) ** 4
    found = nonnegative_spectrum(truth @ filters.T, filters)
    assert (found >= 0).all()
    # 64 numbers do not determine 257: the bands must come back, the bins need not.
    error = ((found @ filters.T - truth @ filters.T).norm() / (truth @ filters.T).norm()).item()
    assert error < 0.01


def test_decoded_audio_has_the_latents_it_was_made_of() -> None:
    codec, audio = MelCodec(), speech()
    latents = codec.encode(audio)
    cycle = codec.encode(codec.decode(latents))
    heard = latents > math.log(FLOOR) + 5
    # 0.5 in natural log of power is 2.2 dB; without the phase search it is 0.55 and more.
    assert (cycle - latents)[heard].abs().median() < 0.2


def test_a_row_decodes_alike_alone_and_in_a_batch_and_twice() -> None:
    codec = MelCodec(iterations=4)
    latents = torch.cat([codec.encode(speech(1, seed)) for seed in (0, 1)])
    both = codec.decode(latents)
    assert torch.equal(both, codec.decode(latents))
    torch.testing.assert_close(both[1:], codec.decode(latents[1:]), atol=1e-5, rtol=0)
    assert codec.decode(latents[:, :0]).shape == (2, 1, 0)


def test_a_diverged_latent_still_gives_finite_audio_and_gradient() -> None:
    codec = MelCodec(iterations=4)
    latents = torch.linspace(-1e4, 1e4, 3 * 512).reshape(1, 3, 512).requires_grad_(True)
    audio = codec.decode(latents)
    (gradient,) = torch.autograd.grad(audio.sum(), latents)
    assert torch.isfinite(audio).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.shared
def test_real_speech_stays_intelligible(shared: Path) -> None:
    files = sorted((shared / "data/LibriSpeech/test-other").rglob("*.flac"))[::25]
    codec = MelCodec()
    scores = []
    for file in files:
        audio = read_audio(file, RATE)[: 6 * RATE]
        decoded = codec.decode(codec.encode(audio[None, None]))[0, 0]
        scores.append(stoi(audio[: len(decoded)].numpy(), decoded.numpy(), RATE))
    # Deterministic; measured 0.96 and above.
    assert np.mean(scores) > 0.93
