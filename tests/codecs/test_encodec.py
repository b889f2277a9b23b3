"""EnCodec through transformers' own class with small random weights: both models, causality, seconds, level."""

from functools import cache

import pytest
import torch
from torch import Tensor

from audio_engram.codecs.base import Codec, CodecConfig, load_codec
from audio_engram.codecs.check_result import OF_SOUND
from audio_engram.codecs.conformance import check_codec, check_look_ahead
from audio_engram.codecs.encodec import CEILING, Encodec48Codec, EncodecCodec
from audio_engram.codecs.hub import HubCodec
from audio_engram.codecs.probe import make_subject
from audio_engram.errors import UsageError

SECOND = 48000


@cache
def encodec(lead_in: int = 8) -> EncodecCodec:
    codec = load_codec(CodecConfig(name="encodec", options={"random_seed": 0, "lead_in": lead_in}))
    assert isinstance(codec, EncodecCodec)
    return codec


@cache
def encodec48() -> Encodec48Codec:
    codec = load_codec(CodecConfig(name="encodec_48khz", options={"random_seed": 0}))
    assert isinstance(codec, Encodec48Codec)
    return codec


def noise(samples: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def near(first: Tensor, second: Tensor, tolerance: float = 1e-5) -> None:
    """Float32 sums in another order."""
    torch.testing.assert_close(first, second, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("codec", [encodec(), encodec(0), encodec48()], ids=["24", "24-exact", "48"])
def test_both_models_conform(codec: HubCodec) -> None:
    assert {result.name for result in check_codec(codec) if not result.ok} <= set(OF_SOUND)


def test_rates_and_dimensions() -> None:
    assert (encodec().frame_rate, encodec().hop, encodec().latent_dim) == (75.0, 320, 16)
    assert (encodec48().frame_rate, encodec48().hop, encodec48().latent_dim) == (150.0, 320, 17)
    assert encodec().causal
    assert not encodec48().causal


@torch.no_grad()
def test_without_lead_in_the_latents_are_the_encoders_output() -> None:
    audio = noise(320 * 40)
    assert torch.equal(encodec(0).encode(audio), encodec().model.encoder(audio).transpose(1, 2))
    latents = encodec().encode(audio)
    near(encodec().decode(latents), encodec().model.decoder(latents.transpose(1, 2)))


def test_the_lead_in_takes_away_what_reflection_leaks_into_the_first_latents() -> None:
    """The last convolution is 7 latents wide: reflected at the start, latent 0 sees latent 6, 1 sees 5, 2 sees 4."""
    audio, other = noise(320 * 40), noise(320 * 40, seed=1)

    def latest_seen(codec: Codec, latent: int) -> int:
        """Return the last frame of audio that changes the latent."""
        exact = codec.encode(audio)[0, latent]
        spliced = [torch.cat([audio[..., : 320 * k], other[..., 320 * k :]], -1) for k in range(1, 12)]
        changed = [not torch.equal(codec.encode(x)[0, latent], exact) for x in spliced]
        return max([k for k, different in enumerate(changed, 1) if different], default=0)

    assert [latest_seen(encodec(0), latent) for latent in range(5)] == [6, 5, 4, 3, 4]
    for lead_in in (3, 8):
        assert [latest_seen(encodec(lead_in), latent) for latent in range(5)] == [0, 1, 2, 3, 4]
    assert not encodec(0).causal
    assert encodec(3).causal


def test_the_lead_in_is_an_option_with_a_fingerprint() -> None:
    assert encodec(0).fingerprint() != encodec().fingerprint()
    assert encodec().options == {"random_seed": 0, "lead_in": 8}
    for wrong in (1, -3, 751, "long"):
        with pytest.raises(UsageError, match="0 or 3 to 750 frames of silence"):
            load_codec(CodecConfig(name="encodec", options={"random_seed": 0, "lead_in": wrong}))


def test_a_prefix_a_batch_and_a_partial_frame_give_the_same_latents() -> None:
    codec, audio = encodec(), noise(320 * 60, rows=3)
    latents = codec.encode(audio)
    for frames in (1, 2, 7, 59):
        near(codec.encode(audio[..., : frames * 320 + 100]), latents[:, :frames])
    for row in range(3):
        near(codec.encode(audio[row : row + 1]), latents[row : row + 1])


@torch.no_grad()
@pytest.mark.parametrize("codec", [encodec(0), encodec48()], ids=["24", "48"])
def test_audio_of_the_codes_is_what_the_model_itself_makes(codec: HubCodec) -> None:
    """Of half a second and less, which the 48 kHz model too takes in one piece."""
    audio = noise(320 * 36)
    channels = codec.model.config.audio_channels
    made = codec.model(audio.expand(-1, channels, -1), bandwidth=24.0).audio_values.mean(1, keepdim=True)
    near(codec.decode_codes(audio), made)


@torch.no_grad()
def test_a_second_at_48_khz_is_encoded_as_the_model_does() -> None:
    codec, audio = encodec48(), noise(SECOND)
    level = audio.square().mean().sqrt() + 1e-8
    latents = codec.encode(audio)
    assert latents.shape == (1, 150, 17)
    near(latents[..., :-1], codec.model.encoder((audio / level).expand(1, 2, -1)).transpose(1, 2))
    near(latents[..., -1], level.log().expand(1, 150))
    decoded = codec.model.decoder(latents[..., :-1].transpose(1, 2)).mean(1, keepdim=True) * level
    near(codec.decode(latents), decoded)


def test_seconds_are_encoded_by_themselves() -> None:
    codec = encodec48()
    audio = noise(SECOND * 2 + 320 * 7, rows=2)
    latents = codec.encode(audio)
    assert latents.shape == (2, 307, 17)
    pieces = [codec.encode(audio[..., start : start + SECOND]) for start in (0, SECOND, 2 * SECOND)]
    near(torch.cat(pieces, 1), latents)
    for row in range(2):
        near(codec.encode(audio[row : row + 1]), latents[row : row + 1])
    decoded = codec.decode(latents)
    near(torch.cat([codec.decode(piece) for piece in pieces], -1), decoded)
    assert decoded.shape == (2, 1, 307 * 320)


def test_the_whole_second_ahead_is_seen_and_declared() -> None:
    result = check_look_ahead(make_subject(encodec48(), 0))
    assert result.value == pytest.approx(149 / 150 * 1000)
    assert "warning: 149 frames see up to 993.3 ms of their future" in result.note
    audio = noise(SECOND * 2)
    altered = audio.clone()
    altered[..., SECOND - 1] += 1
    changed = (encodec48().encode(altered) - encodec48().encode(audio)).abs().amax(-1)[0] > 0
    assert changed[:150].all()
    assert not changed[150:].any()


def test_loudness_is_in_the_last_dimension_alone() -> None:
    codec, audio = encodec48(), noise(SECOND)
    latents, louder = codec.encode(audio), codec.encode(audio * 4)
    near(louder[..., :-1], latents[..., :-1])
    near(louder[..., -1] - latents[..., -1], torch.full((1, 150), 4.0).log())
    near(codec.decode(louder), codec.decode(latents) * 4)
    assert torch.isfinite(codec.encode(audio * 0)).all()
    ceiling = torch.cat([latents[..., :-1], torch.full((1, 150, 1), CEILING)], -1)
    runaway = torch.cat([latents[..., :-1], torch.full((1, 150, 1), 1e4)], -1)
    assert torch.equal(codec.decode(runaway), codec.decode(ceiling))


@pytest.mark.parametrize("frames", [1, 2, 5, 149, 151])
def test_any_number_of_frames_at_48_khz(frames: int) -> None:
    codec = encodec48()
    latents = codec.encode(noise(320 * frames + 319))
    assert latents.shape == (1, frames, 17)
    assert torch.isfinite(latents).all()
    assert codec.decode(latents).shape == (1, 1, 320 * frames)
