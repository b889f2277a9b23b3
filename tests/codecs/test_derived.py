"""What a configuration derives from stored latents: the order, what is kept, what is refused."""

from pathlib import Path

import pytest
import torch

from audio_engram import cli
from audio_engram.codecs.base import Codec
from audio_engram.codecs.derived import check_derived, derive_codec
from audio_engram.codecs.mel import MelCodec
from audio_engram.codecs.projected import Stacked, Unstacked, apply, wrappers
from audio_engram.codecs.soundless import Soundless
from audio_engram.config import CodecConfig
from audio_engram.errors import DataError, UsageError
from sample_codec import SampleCodec


def utterances(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * torch.randn(80, 32, generator=generator) for _ in range(3)]


def test_everything_at_once_is_applied_in_the_documented_order(tmp_path: Path) -> None:
    config = CodecConfig(stack=2, smooth=3, pca=5.0, whiten=True)
    codec = derive_codec(SampleCodec(), config, utterances, tmp_path, 0)
    assert [type(one).__name__ for one in wrappers(codec)] == ["Stacked", "Smoothed", "Projected"]
    assert codec.title == "samples 250 Hz · smooth 3 · PCA 5 whitened"
    assert apply(wrappers(codec), utterances()[0]).shape == (40, 5)
    assert not codec.causal


def test_mel_comes_apart_into_its_frames_and_a_stack_into_what_it_was(tmp_path: Path) -> None:
    audio = torch.randn(1, 1, 16000, generator=torch.Generator().manual_seed(0))
    apart = Unstacked(MelCodec(12.5), 8)
    assert torch.equal(apart.encode(audio), MelCodec(100).encode(audio[..., : 12 * 1280]))
    assert (apart.frame_rate, apart.latent_dim, apart.causal) == (100, 64, True)
    z = utterances()[0][None]
    both = Unstacked(Stacked(SampleCodec(), 4), 4)
    assert torch.equal(both.project(Stacked(SampleCodec(), 4).project(z)), z)


@pytest.mark.parametrize("inner", [SampleCodec(), Soundless("latents", 12.5, 64), MelCodec(100), MelCodec(25)])
def test_what_is_no_stack_is_not_taken_apart(inner: Codec) -> None:
    """Parts of one latent are no frames in time: shuffling them would be credited to dynamics."""
    with pytest.raises(UsageError, match=r"codec\.unstack"):
        check_derived(inner, CodecConfig(unstack=8))


def test_a_learned_smoother_is_kept_and_found_again(tmp_path: Path) -> None:
    config = CodecConfig(smoother=2.0)
    first, again = (derive_codec(SampleCodec(), config, utterances, tmp_path, seed) for seed in (0, 1))
    z = utterances(5)[0][None]
    assert torch.equal(first.project(z), again.project(z))
    with pytest.raises(DataError, match="was trained on other latents"):
        derive_codec(SampleCodec(), config, lambda: utterances(1), tmp_path, 0)
    file = tmp_path / "smoother.safetensors"
    whole = file.read_bytes()
    flipped = whole[:-400] + bytes([whole[-400] ^ 0x40]) + whole[-399:]
    for damaged in (whole[:100], b"", flipped):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"smoother\.safetensors: damaged .*delete"):
            derive_codec(SampleCodec(), config, utterances, tmp_path, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pca": 33.0}, "codec.pca = 33"),
        ({"pca": 1.0}, "codec.pca = 1"),
        ({"hybrid": True}, "codec.hybrid"),
    ],
)
def test_what_cannot_be_derived_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_derived(SampleCodec(), CodecConfig(**settings))


def test_latents_of_one_dimension_have_no_directions_until_they_are_stacked() -> None:
    inner = Soundless("latents", 12.5, 1)
    with pytest.raises(UsageError, match=r"codec\.stack: latents 12\.5 Hz has 1 dimension, .* codec\.stack=2"):
        check_derived(inner, CodecConfig())
    check_derived(inner, CodecConfig(stack=2))


def test_the_conformance_suite_ignores_no_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["codec", "check", "mel", "--set", "codec.pca=32"]) == 2
    assert "codec.pca: the check is of the codec itself" in capsys.readouterr().err
