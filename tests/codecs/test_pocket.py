"""The Pocket TTS tokenizer through transformers' own class with small random weights."""

from functools import cache

import torch
from torch import Tensor

from audio_engram.codecs.base import CodecConfig, load_codec
from audio_engram.codecs.check_result import OF_SOUND
from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.pocket import PocketCodec

FRAME = 1920


@cache
def pocket() -> PocketCodec:
    codec = load_codec(CodecConfig(name="pocket", options={"random_seed": 0}))
    assert isinstance(codec, PocketCodec)
    return codec


def noise(samples: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(0)) * 0.1


def near(first: Tensor, second: Tensor, tolerance: float = 1e-4) -> None:
    """Float32 sums in another order."""
    torch.testing.assert_close(first, second, atol=tolerance, rtol=1e-4)


def test_it_conforms() -> None:
    results = check_codec(pocket())
    assert {result.name for result in results if not result.ok} <= set(OF_SOUND)
    assert "codes" not in {result.name for result in results}
    assert pocket().decode_codes(noise(FRAME)) is None


@torch.no_grad()
def test_latents_and_audio_are_the_models_own() -> None:
    codec, audio = pocket(), noise(FRAME * 9, rows=2)
    assert (codec.frame_rate, codec.latent_dim, codec.hop) == (12.5, 32, FRAME)
    latents = codec.encode(audio)
    output = codec.model(audio)
    assert torch.equal(latents, output.latents)
    near(codec.decode(latents), output.audio_values)


def test_a_prefix_a_batch_and_a_partial_frame_give_the_same_latents() -> None:
    codec, audio = pocket(), noise(FRAME * 30, rows=2)
    latents = codec.encode(audio)
    for frames in (1, 2, 7, 29):
        near(codec.encode(audio[..., : frames * FRAME + 700]), latents[:, :frames])
    for row in range(2):
        near(codec.encode(audio[row : row + 1]), latents[row : row + 1])


@torch.no_grad()
def test_streaming_gives_the_latents_of_the_whole_past_the_attention_window() -> None:
    """40 latents are 640 frames of its transformer at 200 Hz, the window is 250."""
    codec, audio = pocket(), noise(FRAME * 40)
    pieces, caches = [], {}
    for piece in audio.split(FRAME * 4, -1):
        output = codec.model.encode(piece, use_streaming=True, **caches)
        caches = {"encoder_past_key_values": output.encoder_past_key_values, "padding_cache": output.padding_cache}
        pieces.append(output.latents)
    near(torch.cat(pieces, 1), codec.encode(audio), 1e-3)
