"""What is played after a run, and what becomes of a rollout or a decoder that gives no sound."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_engram import cli, listening
from audio_engram.config import read_config
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.listening import listen
from audio_engram.runs import Run

CODEC = """
import torch
from audio_engram.codecs.base import Codec

class Good(Codec):
    name, sample_rate, frame_rate, latent_dim = "mine", 16000, 100.0, 4
    def analyse(self, audio): return audio.reshape(len(audio), -1, 160)[..., :4] + 0.0
    def decode(self, latents): return latents.repeat_interleave(40, 2).reshape(len(latents), 1, -1)
class Silent(Good):
    def decode(self, latents): return super().decode(latents) * torch.nan
class Long(Good):
    def decode(self, latents):
        if latents.shape[1] > 32:
            raise ValueError("too long")
        return super().decode(latents)
class Never(Good):
    def decode(self, latents): raise NotImplementedError
"""
SMALL = [
    word
    for setting in (
        *("model.context=2", "model.width=8", "model.depth=1", "model.components=2"),
        *("train.epochs=1", 'train.precision="float32"', "data.test=0.4", "experiments.audio_seconds=0.35"),
        *("experiments.lags=[1]", "experiments.surrogate_lags=[1]", "experiments.resamples=1000"),
        *("experiments.steps=6", "experiments.max_segments=50"),
    )
    for word in ("--set", setting)
]


@pytest.fixture(autouse=True)
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six speakers with a second each, and a module of codecs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "heard_codecs", raising=False)
    Path("heard_codecs.py").write_text(CODEC)
    for speaker in range(6):
        Path(f"speech/s{speaker}").mkdir(parents=True)
        samples = np.random.default_rng(speaker).uniform(-0.5, 0.5, 16000)
        soundfile.write(f"speech/s{speaker}/a.wav", samples, 16000)


def run(codec: str) -> int:
    words = ["run", "--device", "cpu", "--corpus", "folder:speech", "--codec", f"heard_codecs:{codec}", "--out", "out"]
    return cli.main([*words, "--experiments", "predictability,injection", *SMALL])


def heard(codec: str) -> tuple[list[str], str]:
    """The labels that can be heard and the warnings, without experiments and report."""
    settings = ('data.corpus="folder:speech"', f'codec.name="heard_codecs:{codec}"', 'device="cpu"', *SMALL[1::2])
    run = Run("out", read_config(None, settings), log=lambda line: None)
    for head in ("mdn", "vmf"):
        run.model(head)
    warnings = listen(run)
    return [row["label"] for row in json.loads(Path("out/audio/index.json").read_text())], " ".join(warnings)


def results() -> tuple[list[str], str]:
    """The labels that can be heard, and what the report warns of."""
    index = json.loads(Path("out/audio/index.json").read_text())
    assert all((Path("out/audio") / row["file"]).exists() for row in index)
    assert Path("out/report.html").exists()
    return [row["label"] for row in index], " ".join(json.loads(Path("out/decision.json").read_text())["warnings"])


@pytest.fixture
def exploding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trained model multiplies its state at each step."""
    whole = Run.model

    def model(self: Run, kind: str, *more: object, **options: object) -> DynamicsModel:
        found = whole(self, kind, *more, **options)
        with torch.no_grad():
            found.head.last.fill_(1e12)
        return found

    monkeypatch.setattr(Run, "model", model)


def test_everything_can_be_heard_where_nothing_leaves_the_finite_numbers() -> None:
    labels, warnings = heard("Good")
    assert (len(labels), warnings) == (2 * 13, "")


def test_without_a_head_there_is_no_rollout_and_nothing_to_hold_it_against() -> None:
    settings = ('data.corpus="folder:speech"', 'codec.name="heard_codecs:Good"', 'device="cpu"', *SMALL[1::2])
    run = Run("out", read_config(None, settings), log=lambda line: None)
    listen(run)
    assert run.histories == {}
    assert {row["kind"] for row in json.loads(Path("out/audio/index.json").read_text())} == {"original", "round_trip"}


@pytest.mark.usefixtures("exploding")
def test_rollouts_that_explode_are_a_warning_of_a_whole_report() -> None:
    assert run("Good") == 0
    labels, warnings = results()
    for label in (
        *("Codec round trip", "MDN teacher-forced", "True direction, 50% magnitude"),
        *("Standing still", "True magnitude, wrong direction"),
    ):
        assert labels.count(label) == 2
    for label in ("MDN free-running", "MDN free-running, sampled"):
        assert label not in labels
        assert f"a.wav, {label}: the rollout left the finite numbers at step " in warnings
    assert "left the finite numbers" in Path("out/report.html").read_text()


def test_a_decoder_that_gives_no_numbers_is_a_warning() -> None:
    labels, warnings = heard("Silent")
    assert labels == ["Original"] * 2
    assert "Codec round trip: the decoder's audio is not finite" in warnings


def test_a_decoder_that_fails_late_is_a_warning() -> None:
    labels, warnings = heard("Long")
    assert labels == ["Original"] * 2
    assert "Codec round trip: codec heard_codecs:Long: decode raised ValueError: too long (" in warnings


def test_a_decoder_that_fails_at_all_is_refused_before_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Never") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("engram: codec heard_codecs:Never: decode raised NotImplementedError (")
    assert line.endswith("mend the codec, or set playable = False")
    assert not Path("out/latents/manifest.json").exists()


def test_what_is_ill_treated_starts_from_the_last_true_frame_and_keeps_direction_or_magnitude() -> None:
    settings = ('data.corpus="folder:speech"', 'codec.name="heard_codecs:Good"', 'device="cpu"', *SMALL[1::2])
    run = Run("out", read_config(None, settings), log=lambda line: None)
    run.model("mdn")
    z = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    sounds = listening._sounds(run, z)
    slow = [sound for sound in sounds if sound.kind == "magnitude"]
    assert [sound.label for sound in slow] == [f"True direction, {share}% magnitude" for share in (75, 50, 25)]
    for sound, share in zip(slow, (0.75, 0.5, 0.25), strict=True):
        assert torch.equal(sound.latents[:2], z[:2])  # the context
        assert torch.allclose(sound.latents.diff(dim=0)[1:], share * z.diff(dim=0)[1:], atol=1e-6)
    still, wrong = (sound.latents for sound in sounds if sound.kind in ("still", "direction"))
    assert torch.equal(still, torch.cat([z[:2], z[1:2].expand(7, 4)]))
    assert torch.equal(wrong[:2], z[:2])
    true, turned = (some.diff(dim=0)[1:] for some in (z, wrong))
    assert torch.allclose(turned.norm(dim=1), true.norm(dim=1), atol=1e-5)
    assert not torch.allclose(turned, true, atol=0.1)
