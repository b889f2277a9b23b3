"""Finding a codec by its configuration, and what every codec inherits."""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from audio_engram import cli
from audio_engram.codecs import base
from audio_engram.codecs.base import Codec, CodecConfig, list_codecs, load_codec
from audio_engram.codecs.foreign import CodecError
from audio_engram.codecs.mel import MelCodec
from audio_engram.codecs.projected import Stacked
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


HALF_WRITTEN = """
import torch
from audio_engram.codecs.base import Codec

class Good(Codec):
    name, sample_rate, frame_rate, latent_dim = "mine", 16000, 100.0, 4
    def analyse(self, audio): return audio.reshape(len(audio), -1, 160)[..., :4] + 0.0
    def decode(self, latents): return latents.repeat_interleave(40, 2).reshape(len(latents), 1, -1)

class Raises(Good):
    def analyse(self, audio): raise ValueError("my own\\nproblem")
class ReturnsNone(Good):
    def analyse(self, audio): return None
class ReturnsAnArray(Good):
    def analyse(self, audio): return super().analyse(audio).numpy()
class Whole(Good):
    def analyse(self, audio): return super().analyse(audio).int()
class Bool(Good):
    def analyse(self, audio): return super().analyse(audio) > 0
class Complex(Good):
    def analyse(self, audio): return super().analyse(audio) * 1j
class TooNarrow(Good):
    def analyse(self, audio): return super().analyse(audio)[..., :3]
class Flat(Good):
    def analyse(self, audio): return super().analyse(audio)[0]
class Leaves(Good):
    def analyse(self, audio): raise SystemExit(7)
class DecodeRaises(Good):
    def decode(self, latents): raise NotImplementedError
class DecodesNothing(Good):
    def decode(self, latents): return None
class DecodesMono(Good):
    def decode(self, latents): return super().decode(latents)[:, 0]

class NoFile(Good):
    def __init__(self): raise OSError("weights.pt not found")
class ForgotSuper(Good):
    def __init__(self): self.x = 1
class NoDecode(Codec):
    name, sample_rate, frame_rate, latent_dim = "mine", 16000, 100.0, 4
    def analyse(self, audio): return audio
class NoName(Codec):
    sample_rate, frame_rate, latent_dim = 16000, 100.0, 4
    analyse, decode = Good.analyse, Good.decode
class NoDim(Codec):
    name, sample_rate, frame_rate = "mine", 16000, 100.0
    analyse, decode = Good.analyse, Good.decode
class TwoLines(Good): name = "a\\nb"
class FloatRate(Good): sample_rate = 16000.0
class NoRate(Good): frame_rate = 0
class TextRate(Good): frame_rate = "50"
class Backwards(Good): frame_rate = -50.0
class Endless(Good): frame_rate = float("nan")
class Uneven(Good): frame_rate = 47.0
class Empty(Good): latent_dim = 0
class Truth(Good): latent_dim = True
class NoTaps(Good): taps = ()
class Tensors(Good):
    def __init__(self):
        super().__init__()
        self.options = {"x": torch.ones(1)}
class OddHop(Good):
    @property
    def hop(self): return 1 // 0
"""


@pytest.fixture
def half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "half_written.py").write_text(HALF_WRITTEN)
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "bang.py").write_text("x = 1\nraise RuntimeError('bang')\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "lacks.py").write_text("import not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("half_written", "syntax", "bang", "leaves", "lacks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "half_written.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("syntax:A", r"codec syntax:A: importing syntax raised SyntaxError: invalid syntax \(syntax.py, line 1\)"),
        ("bang:A", r"codec bang:A: importing bang raised RuntimeError: bang \(.*bang.py:2\): mend the codec"),
        ("leaves:A", r"importing leaves raised SystemExit: 3 \(.*leaves.py:2\)"),
        ("..half_written:Good", r"there is no codec '..half_written:Good'"),
        ("half_written:NoFile", r"codec half_written:NoFile: __init__ raised OSError: weights.pt not found \(.*:\d+\)"),
        ("half_written:ForgotSuper", r"ForgotSuper: its __init__ does not call super\(\).__init__\(\)"),
        ("half_written:NoDecode", r"NoDecode: does not define decode"),
        ("half_written:NoName", r"NoName: has no name: set it"),
        ("half_written:NoDim", r"NoDim: has no latent_dim: set it"),
        ("half_written:TwoLines", r"TwoLines: name = 'a\\nb': a printable word"),
        ("half_written:FloatRate", r"FloatRate: sample_rate = 16000.0: a whole number of Hz"),
        ("half_written:NoRate", r"NoRate: frame_rate = 0: a number of Hz above 0"),
        ("half_written:TextRate", r"TextRate: frame_rate = '50': a number of Hz above 0"),
        ("half_written:Backwards", r"Backwards: frame_rate = -50.0: "),
        ("half_written:Endless", r"Endless: frame_rate = nan: "),
        ("half_written:Uneven", r"codec mine: 16000 Hz audio has no whole number of samples"),
        ("half_written:Empty", r"Empty: latent_dim = 0: a whole number above 0"),
        ("half_written:Truth", r"Truth: latent_dim = True: a whole number above 0"),
        ("half_written:NoTaps", r"NoTaps: tap = 'latent': one of taps = \(\)"),
        ("half_written:Tensors", r"Tensors: options = .*: what JSON can hold"),
        ("half_written:OddHop", r"OddHop: hop raised ZeroDivisionError: .* \(.*half_written.py:\d+\)"),
    ],
)
def test_a_half_written_class_is_refused_in_one_line(half_written: Path, name: str, message: str) -> None:
    error = refusal(name=name)
    assert type(error).exit_code == 2
    assert re.search(message, str(error)), error


def test_a_module_that_lacks_another_is_missing(half_written: Path) -> None:
    assert "cannot import lacks for codec 'lacks:A' (No module named 'not_there')" in str(refusal(name="lacks:A"))


WORKS_WRONGLY = [
    ("Raises", r"codec half_written:Raises: analyse raised ValueError: my own problem \(.*half_written.py:11\): mend"),
    ("Leaves", r"Leaves: analyse raised SystemExit: 7"),
    (
        "ReturnsNone",
        r"ReturnsNone: analyse gave NoneType, wanted a floating-point tensor \(1, any, 4\): mend the codec",
    ),
    ("ReturnsAnArray", r"analyse gave ndarray, wanted"),
    ("Whole", r"analyse gave torch.int32, wanted"),
    ("Bool", r"analyse gave torch.bool, wanted"),
    ("Complex", r"analyse gave torch.complex64, wanted"),
    ("TooNarrow", r"analyse gave a tensor of shape \(1, \d+, 3\), wanted"),
    ("Flat", r"analyse gave a tensor of shape \(\d+, 4\), wanted"),
    ("DecodeRaises", r"decode raised NotImplementedError \(.*\): mend the codec, or set playable = False"),
    ("DecodesNothing", r"decode gave NoneType, wanted a floating-point tensor \(1, 1, any\)"),
    ("DecodesMono", r"decode gave a tensor of shape \(1, \d+\), wanted"),
]


@pytest.mark.parametrize(("name", "message"), WORKS_WRONGLY)
def test_a_codec_that_fails_or_returns_something_else_is_one_line(
    half_written: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["codec", "check", f"half_written:{name}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line


def test_stacked_or_not_the_users_own_line_is_named(half_written: Path) -> None:
    inner = load_codec(CodecConfig(name="half_written:Raises"))
    for codec in (inner, Stacked(inner, 2)):
        with pytest.raises(CodecError, match=r"half_written.py:11\)") as caught:
            codec.encode(torch.zeros(1, 1, 640))
        assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_in_a_codec_of_ours_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MelCodec, "analyse", lambda *_: {}["bug"])
    with pytest.raises(KeyError):
        MelCodec().encode(torch.zeros(1, 1, 16000))
