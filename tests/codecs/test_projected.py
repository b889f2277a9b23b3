"""Wrapped codecs: another cut or scale of the same latents, decodable to the same audio."""

import pytest
import torch

from audio_engram.codecs.base import CodecConfig, load_codec
from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.derived import with_rate
from audio_engram.codecs.mel import MelCodec
from audio_engram.codecs.probe import speech_like
from audio_engram.codecs.projected import Stacked, Standardised
from audio_engram.errors import UsageError

AUDIO = speech_like(2 * 16000, 16000, torch.Generator().manual_seed(0))[None, None]


def fine() -> MelCodec:
    return MelCodec(frame_rate=100, iterations=4)


def standardised() -> Standardised:
    generator = torch.Generator().manual_seed(1)
    return Standardised(fine(), torch.randn(64, generator=generator), torch.rand(64, generator=generator) + 0.5)


@pytest.mark.parametrize("wrapped", [Stacked(fine(), 8), standardised(), Stacked(standardised(), 3)])
def test_wrapped_codecs_conform(wrapped: Stacked | Standardised) -> None:
    results = check_codec(wrapped)
    assert [result.name for result in results if not result.ok] == []


def test_stacking_mel_gives_mel_of_a_lower_rate() -> None:
    stacked, coarse = Stacked(fine(), 8), MelCodec(12.5, iterations=4)
    assert (stacked.frame_rate, stacked.latent_dim, stacked.hop) == (12.5, 512, 1280)
    latents = stacked.encode(AUDIO)
    assert torch.equal(latents, coarse.encode(AUDIO))
    assert torch.equal(stacked.decode(latents), coarse.decode(latents))


def test_a_stack_need_not_divide_the_sample_rate() -> None:
    stacked = Stacked(fine(), 7)
    assert stacked.hop == 1120
    assert stacked.encode(AUDIO).shape == (1, 28, 448)


def test_standardised_latents_are_the_formula_and_decode_to_the_same_audio() -> None:
    codec, inner = standardised(), fine()
    latents = inner.encode(AUDIO)
    torch.testing.assert_close(codec.encode(AUDIO), (latents - codec.loc) / codec.scale)
    torch.testing.assert_close(codec.decode(codec.encode(AUDIO)), inner.decode(latents), atol=1e-3, rtol=0)


def test_fingerprints_contain_the_inner_codec_and_the_statistics() -> None:
    ones, zeros = torch.ones(64), torch.zeros(64)
    codecs = [
        fine(),
        Stacked(fine(), 1),
        Stacked(fine(), 2),
        Stacked(MelCodec(100, iterations=5), 2),
        Standardised(fine(), zeros, ones),
        Standardised(fine(), ones, ones),
        Stacked(Standardised(fine(), ones, ones), 2),
    ]
    assert len({codec.fingerprint() for codec in codecs}) == len(codecs)


def test_the_configuration_stacks() -> None:
    config = CodecConfig(frame_rate=50, stack=4)
    codec = with_rate(load_codec(config), config)
    assert isinstance(codec, Stacked)
    assert (codec.frame_rate, codec.latent_dim) == (12.5, 512)


def test_statistics_that_cannot_be_divided_by_are_refused() -> None:
    ones = torch.ones(64)
    for loc, scale in ((ones[:3], ones[:3]), (ones, torch.zeros(64)), (ones, -ones), (ones / 0, ones)):
        with pytest.raises(UsageError, match="standardised codec"):
            Standardised(fine(), loc, scale)
    with pytest.raises(UsageError, match="at least 1"):
        Stacked(fine(), 0)
