"""Finding a codec by its configuration, and what every codec inherits."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from audio_engram.codecs import base
from audio_engram.codecs.base import Codec, CodecConfig, list_codecs, load_codec
from audio_engram.codecs.mel import MelCodec
from audio_engram.errors import EngramError, MissingError, UsageError

USER_MODULE = """
from audio_engram.codecs.base import Codec

class Frames(Codec):
    name = "frames"
    sample_rate = 16000
    latent_dim = 160
    frame_rate = 100.0
    taps = ("raw", "scaled")

    def __init__(self, tap="raw", gain: float = 2.0):
        super().__init__()
        self.tap = tap
        self.gain = gain

    def analyse(self, audio):
        return audio.reshape(audio.shape[0], -1, 160) * self.gain

    def decode(self, latents):
        return (latents / self.gain).reshape(latents.shape[0], 1, -1)

class Demanding(Frames):
    def __init__(self, layer):
        super().__init__()

class Anything(Frames):
    def __init__(self, **arguments):
        super().__init__()

class NoCodec:
    pass
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_codecs.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_codecs", raising=False)
    return "my_codecs"


def refusal(**settings: object) -> EngramError:
    with pytest.raises(EngramError) as caught:
        load_codec(CodecConfig(**settings))
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_default_codec_is_frozen_mel() -> None:
    codec = load_codec(CodecConfig())
    assert (codec.name, codec.frame_rate, codec.latent_dim, codec.hop) == ("mel", 12.5, 512, 1280)
    assert not codec.training
    assert list_codecs()["mel"].endswith(":MelCodec")


def test_a_wrong_name_gets_the_near_miss() -> None:
    error = refusal(name="mell")
    assert isinstance(error, UsageError)
    assert "did you mean mel?" in str(error)
    assert "known: encodec, encodec_48khz, lyra, mel, mimi, pocket" in str(refusal(name="zzzzzz"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "a.npz"}, "codec.weights: codec 'mel' does not use it"),
        ({"tap": "latant"}, "did you mean latent?"),
        ({"options": {"iteration": 3}}, "did you mean iterations?"),
        ({"options": {"frame_rate": 25}}, "write it as codec.frame_rate"),
        ({"options": {"iterations": 0}}, "at least 1"),
        ({"options": {"iterations": "many"}}, "not 'many'"),
        ({"frame_rate": 13}, "12.5, 25, 50 or 100"),
        ({"name": "lyra"}, "codec.weights: codec 'lyra' needs it"),
        (
            {"name": "lyra", "weights": "x", "frame_rate": 25},
            "codec.frame_rate: codec 'lyra' does not use it",
        ),
    ],
)
def test_what_a_codec_does_not_use_is_refused(settings: dict[str, object], message: str) -> None:
    error = refusal(**settings)
    assert isinstance(error, UsageError)
    assert message in str(error)


def test_the_configuration_itself_is_strict() -> None:
    for wrong in ({"stack": 0}, {"frame_rate": -1}, {"rate": 3}):
        with pytest.raises(ValidationError):
            CodecConfig(**wrong)


def test_a_users_class_is_found_with_its_options(user_module: str) -> None:
    codec = load_codec(CodecConfig(name=f"{user_module}:Frames", tap="scaled", options={"gain": 0.5}))
    assert codec.tap == "scaled"
    assert codec.encode(torch.ones(1, 1, 160)).unique().tolist() == [0.5]
    other = load_codec(CodecConfig(name=f"{user_module}:Frames", tap="scaled", options={"gain": 0.25}))
    assert codec.fingerprint() != other.fingerprint()


def test_a_users_mistakes_are_named(user_module: str) -> None:
    assert "did you mean Frames" in str(refusal(name=f"{user_module}:Frame"))
    assert "no subclass" in str(refusal(name=f"{user_module}:NoCodec"))
    assert "codec.options.layer" in str(refusal(name=f"{user_module}:Demanding"))
    assert isinstance(refusal(name="no_such_package.codecs:Codec"), MissingError)
    assert load_codec(CodecConfig(name=f"{user_module}:Anything", options={"whatever": 1})).name == "frames"


def test_installed_codecs_are_listed_but_cannot_take_our_names(
    user_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{user_module}:Frames"
    points = [EntryPoint(name, target, base.ENTRY_POINT_GROUP) for name in ("theirs", "mel")]
    monkeypatch.setattr(base, "entry_points", lambda group: points if group == base.ENTRY_POINT_GROUP else [])
    assert list_codecs()["theirs"] == target
    assert load_codec(CodecConfig(name="theirs")).name == "frames"
    assert isinstance(load_codec(CodecConfig(name="mel")), MelCodec)


def test_latents_can_enter_a_loss_and_carry_no_history() -> None:
    audio = torch.zeros(1, 1, 3000).requires_grad_(True)
    latents = MelCodec().encode(audio)
    assert not latents.requires_grad
    weight = torch.ones(512, requires_grad=True)
    (latents * weight).sum().backward()
    assert weight.grad is not None


def test_partial_frames_are_dropped() -> None:
    codec = MelCodec(frame_rate=100)
    noise = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0))
    assert codec.encode(noise).shape == (2, 6, 64)
    assert torch.equal(codec.encode(noise), codec.encode(noise[..., :960]))
    assert codec.encode(noise[..., :159]).shape == (2, 0, 64)
    assert [codec.n_frames(samples) for samples in (0, 159, 160, 320)] == [0, 0, 1, 2]


def test_a_frame_rate_that_cuts_through_samples_is_refused() -> None:
    codec = MelCodec()
    codec.frame_rate = 30.0
    with pytest.raises(UsageError, match="whole number"):
        _ = codec.hop


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    program = (
        "from audio_engram.codecs.base import CodecConfig, load_codec;"
        "print(load_codec(CodecConfig(frame_rate=25)).fingerprint())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == load_codec(CodecConfig(frame_rate=25)).fingerprint()


def test_the_fingerprint_tells_options_rates_revisions_and_weights_apart() -> None:
    def revised() -> Codec:
        codec = MelCodec()
        codec.revision = 2
        return codec

    def reweighted() -> Codec:
        codec = MelCodec()
        codec.filters[3, 7] += 1e-6
        return codec

    codecs = [MelCodec(), MelCodec(25.0), MelCodec(iterations=5), revised(), reweighted()]
    assert len({codec.fingerprint() for codec in codecs}) == len(codecs)
    assert MelCodec().fingerprint() == MelCodec().fingerprint()
