"""Mimi through transformers' own class with small random weights: taps, rates, length, window, decoding."""

from functools import cache

import pytest
import torch
from torch import Tensor

from audio_engram.codecs.base import CodecConfig, load_codec
from audio_engram.codecs.check_result import OF_SOUND
from audio_engram.codecs.conformance import check_codec
from audio_engram.codecs.mimi import FRAME, MimiCodec
from audio_engram.errors import EngramError, UsageError


@cache
def mimi(tap: str = "", frame_rate: float = 0, codebooks: int = 0) -> MimiCodec:
    options = {"random_seed": 0} | ({"codebooks": codebooks} if codebooks else {})
    codec = load_codec(CodecConfig(name="mimi", tap=tap, frame_rate=frame_rate, options=options))
    assert isinstance(codec, MimiCodec)
    return codec


def noise(samples: int, rows: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def near(first: Tensor, second: Tensor, tolerance: float = 1e-4) -> None:
    """Float32 sums in another order; random latents have a standard deviation of about 8."""
    torch.testing.assert_close(first, second, atol=tolerance, rtol=1e-4)


SETTINGS = [("proj", 0), ("post_q", 0), ("pre_q", 0), ("pre_downsample", 0), ("", 25), ("proj", 50), ("post_q", 50)]


@pytest.mark.parametrize(("tap", "frame_rate"), SETTINGS)
def test_every_tap_conforms(tap: str, frame_rate: float) -> None:
    results = check_codec(mimi(tap, frame_rate))
    assert {result.name for result in results if not result.ok} <= set(OF_SOUND)
    assert next(result.value for result in results if result.name == "look_ahead") == 0


def test_rates_and_dimensions() -> None:
    default = mimi()
    assert (default.tap, default.frame_rate, default.hop, default.playable) == ("proj", 12.5, 1920, True)
    assert default.taps[0] == default.tap
    coarse = mimi("", 25)
    assert (coarse.tap, coarse.frame_rate, coarse.hop, coarse.playable) == ("pre_downsample", 25.0, 960, False)
    fine = mimi("", 50)
    assert (fine.tap, fine.frame_rate, fine.hop, fine.playable) == ("proj", 50.0, 480, True)
    assert default.latent_dim == default.model.config.hidden_size == 32


@torch.no_grad()
def test_pre_q_is_the_encoders_output_and_pre_downsample_what_it_is_made_of() -> None:
    audio, encoder = noise(FRAME * 9), mimi().model.encoder
    latents = mimi("pre_q").encode(audio)
    assert torch.equal(latents, encoder(audio).latents.transpose(1, 2))
    earlier = mimi("pre_downsample").encode(audio)
    assert earlier.shape == (1, 18, 32)
    near(encoder.downsample(earlier.transpose(1, 2)).transpose(1, 2), latents)


@torch.no_grad()
def test_proj_is_the_sum_of_both_branches_projections() -> None:
    audio = noise(FRAME * 9)
    latents = mimi("pre_q").encode(audio).double()
    quantizer = mimi().model.quantizer
    expected = torch.zeros_like(latents)
    for branch in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
        into, out = (layer.weight[..., 0].double() for layer in (branch.input_proj, branch.output_proj))
        expected += latents @ (out @ into).T
    near(mimi("proj").encode(audio).double(), expected)


@torch.no_grad()
def test_post_q_decodes_to_the_models_own_audio_exactly() -> None:
    audio, model = noise(FRAME * 9), mimi().model
    for codebooks in (1, 3, 4):
        codec = mimi("post_q", 0, codebooks)
        codes = model.encode(audio, num_quantizers=codebooks).audio_codes
        latents = codec.encode(audio)
        assert torch.equal(latents, model.quantizer.decode(codes).transpose(1, 2))
        assert torch.equal(codec.decode(latents), model.decode(codes).audio_values)
    assert torch.equal(mimi("post_q").encode(audio), mimi("post_q", 0, 4).encode(audio))
    near(mimi().decode_codes(audio), model(audio).audio_values)


@torch.no_grad()
def test_proj_decodes_through_the_decoder() -> None:
    codec = mimi("proj")
    latents = codec.encode(noise(FRAME * 9, rows=2))
    near(codec.decode(latents), codec.model.decoder(latents.transpose(1, 2)).audio_values)
    assert codec.decode(latents).shape == (2, 1, FRAME * 9)
    assert codec.decode(latents[:, :0]).shape == (2, 1, 0)


def test_proj_without_quantisation_error_is_post_q() -> None:
    """With the projected latents themselves as codebook entries, quantising loses nothing."""
    codec = MimiCodec(random_seed=1)
    audio = noise(FRAME * 9)
    latents = MimiCodec(random_seed=1, tap="pre_q").encode(audio).transpose(1, 2)
    quantizer = codec.model.quantizer
    with torch.no_grad():
        for branch in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
            for index, layer in enumerate(branch.layers):
                entries = branch.input_proj(latents)[0].T if index == 0 else 0.0
                layer.codebook.embed_sum.zero_()[:9] = entries
                layer.codebook.embed_sum[9:] = 1e4 if index == 0 else 0.0
        near(codec.decode_codes(audio), codec.decode(codec.encode(audio)))


def test_taps_rates_and_codebooks_have_their_own_fingerprints() -> None:
    codecs = [mimi(tap, rate) for tap, rate in SETTINGS if tap] + [mimi("post_q", 0, 2), mimi("pre_q", 50)]
    assert len({codec.fingerprint() for codec in codecs}) == len(codecs)
    assert mimi("post_q", 0, 2).description()["options"] == {"random_seed": 0, "codebooks": 2}
    assert mimi("post_q").options["codebooks"] == 4


@pytest.mark.parametrize("tap", ["pre_q", "pre_downsample"])
def test_a_tap_that_is_not_the_decoders_input_names_those_that_are(tap: str) -> None:
    codec = mimi(tap)
    with pytest.raises(UsageError, match=rf"tap '{tap}' cannot be decoded; .*proj, post_q"):
        codec.decode(torch.zeros(1, 3, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame_rate": 13}, "no 13 Hz; it has 12.5 or 50 Hz at proj"),
        ({"frame_rate": 25, "tap": "proj"}, "proj has no 25 Hz; .* 25 Hz at pre_downsample"),
        ({"frame_rate": 12.5, "tap": "pre_downsample"}, "pre_downsample has no 12.5 Hz"),
        ({"tap": "latent"}, "no tap 'latent'"),
        ({"options": {"codebooks": 3}}, "only the tap post_q goes through codebooks, not proj"),
        ({"tap": "post_q", "options": {"codebooks": 5}}, "mimi has 1 to 4, not 5"),
        ({"tap": "post_q", "options": {"codebooks": "all"}}, "mimi has 1 to 4, not 'all'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    options = {"random_seed": 0} | settings.pop("options", {})
    with pytest.raises(EngramError, match=message) as caught:
        load_codec(CodecConfig(name="mimi", options=options, **settings))
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize("frames", range(1, 10))
def test_50_hz_latents_end_where_their_480_samples_end(frames: int) -> None:
    codec, audio = mimi("proj", 50), noise(480 * 9)
    latents = codec.encode(audio)[:, :frames]
    assert latents.shape == (1, frames, 32)
    near(codec.encode(audio[..., : 480 * frames + 300]), latents)
    altered = torch.cat([audio[..., : 480 * frames], noise(480 * 9, seed=1)[..., 480 * frames :]], -1)
    assert torch.equal(codec.encode(altered)[:, :frames], latents)
    # The samples just before the end are heard.
    altered = audio.clone()
    altered[..., 480 * frames - 40 : 480 * frames] += 0.1
    assert (codec.encode(altered)[:, frames - 1] - latents[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("tap", ["proj", "pre_q", "post_q"])
def test_each_fourth_latent_at_50_hz_is_one_at_12_5_hz(tap: str) -> None:
    audio = noise(FRAME * 6)
    near(mimi(tap, 50).encode(audio)[:, 3::4], mimi(tap).encode(audio))
    delayed = torch.nn.functional.pad(audio, (480, 0))[..., : FRAME * 6]
    near(mimi(tap, 50).encode(audio)[:, 2::4], mimi(tap).encode(delayed))


def test_decoding_50_hz_decodes_one_phase() -> None:
    fine, coarse, audio = mimi("proj", 50), mimi("proj"), noise(FRAME * 6)
    latents = fine.encode(audio)
    near(fine.decode(latents), coarse.decode(coarse.encode(audio)))
    for frames in (1, 3, 5, 22):
        decoded = fine.decode(latents[:, :frames])
        assert decoded.shape == (1, 1, 480 * frames)
        whole = frames // 4 * FRAME
        near(decoded[..., :whole], coarse.decode(latents[:, 3:frames:4])[..., :whole])
    some = latents[:, :7].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(fine.decode(some).square().sum(), some)
    assert gradient.abs().amax(-1)[0].nonzero().flatten().tolist() == [3, 6]  # of an incomplete four, the newest


@torch.no_grad()
def test_a_partial_last_frame_is_dropped_and_spoils_nothing() -> None:
    codec, audio = mimi("pre_q"), noise(FRAME * 9)
    whole = codec.encode(audio)
    cut = audio[..., : FRAME * 6 + 700]
    near(codec.encode(cut), whole[:, :6])
    unpadded = codec.model.encoder(cut).latents.transpose(1, 2)
    assert unpadded.shape[1] == 7
    assert (unpadded[:, 6] - whole[:, 6]).abs().max() > 0.1 * whole.std()  # what a latent of part of a frame is worth


@pytest.mark.parametrize("tap", ["proj", "pre_downsample"])
def test_a_prefix_gives_the_same_latents_and_a_batch_too(tap: str) -> None:
    codec = mimi(tap)
    audio = noise(FRAME * 30, rows=3)
    latents = codec.encode(audio)
    for frames in (1, 2, 7, 29):
        near(codec.encode(audio[..., : frames * FRAME]), latents[:, : frames * FRAME // codec.hop])
    for row in range(3):
        near(codec.encode(audio[row : row + 1]), latents[row : row + 1])


@torch.no_grad()
def test_streaming_gives_the_latents_of_the_whole_past_the_attention_window() -> None:
    """transformers' own caches, fed piece by piece; 300 latents are 600 frames of its attention, its window is 250."""
    codec = mimi("pre_q")
    audio = noise(FRAME * 300)
    pieces, caches = [], {}
    for piece in audio.split(FRAME * 20, -1):
        output = codec.model.encoder(piece, use_streaming=True, **caches)
        caches = {"past_key_values": output.past_key_values, "padding_cache": output.padding_cache}
        pieces.append(output.latents)
    near(torch.cat(pieces, -1).transpose(1, 2), codec.encode(audio), 1e-3)


def test_attention_forgets_what_lies_before_its_window() -> None:
    """Two layers of 250 frames at 25 Hz reach 498 frames back, 249 latents, and the convolutions a few more."""
    codec = mimi("pre_q")
    audio = noise(FRAME * 265)
    altered = audio.clone()
    altered[..., :FRAME] = noise(FRAME, seed=1)
    difference = (codec.encode(altered) - codec.encode(audio)).abs().amax(-1)[0]
    assert difference[:125].min() > 1e-4  # within one layer's window
    assert difference[130:240].max() > 1e-6  # within two layers'
    assert difference[255:].max() == 0
