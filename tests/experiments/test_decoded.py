"""Rollouts as sound, through a codec of which it is known what it loses."""

import json
import sys

import pytest
import soundfile
import torch

from audio_engram import checkpoint
from audio_engram.audio import read_audio
from audio_engram.config import make_config
from audio_engram.experiments.decoded import FILE, Decoded, can_be_heard
from audio_engram.experiments.kept import keep, take
from audio_engram.experiments.outcome import show
from audio_engram.experiments.stability import stability
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.listening import listen
from audio_engram.measurements import Measurements
from audio_engram.rollout_sounds import rollout_clips
from audio_engram.runs import Run
from audio_engram.sound_figures import FIGURES, sound_figures

CODEC = """
from audio_engram.codecs.base import Codec

class Kept(Codec):
    name, sample_rate, frame_rate, latent_dim = "kept", 16000, 50.0, 8
    def analyse(self, audio): return audio.reshape(len(audio), -1, 320)[..., ::40] + 0.0
    def decode(self, latents): return latents.repeat_interleave(40, 2).reshape(len(latents), 1, -1)
class Louder(Kept):
    def decode(self, latents): return super().decode(latents) + 0.25
class Short(Kept):
    def decode(self, latents): return super().decode(latents[:, :-1])
class Fails(Kept):
    def decode(self, latents): raise ValueError("no sound today")
class Mute(Kept):
    playable = False
"""
RATE, SECONDS = 16_000, 8


@pytest.fixture(scope="module", autouse=True)
def speech(tmp_path_factory):
    """Ten speakers, each with noise of a level of its own that swells at 4 Hz."""
    folder = tmp_path_factory.mktemp("decoded")
    time = torch.arange(RATE * SECONDS) / RATE
    for speaker in range(10):
        (folder / f"speech/s{speaker}").mkdir(parents=True)
        noise = torch.randn(RATE * SECONDS, generator=torch.Generator().manual_seed(speaker))
        audio = 0.02 * (1 + speaker) * noise * (1 + 0.5 * torch.sin(8 * torch.pi * time))
        audio = audio[::40].repeat_interleave(40)  # which the codec keeps
        soundfile.write(folder / f"speech/s{speaker}/a.wav", audio.clamp(-1, 1).numpy(), RATE)
    (folder / "heard_rollouts.py").write_text(CODEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder
    sys.modules.pop("heard_rollouts", None)


def run_of(folder, codec="Kept", **experiments):
    wanted = {"names": ["stability"], "regimes": ["mdn"], "horizons": [3.0, 6.0], "resamples": 1000}
    settings = {
        "device": "cpu",
        "codec": {"name": f"heard_rollouts:{codec}"},
        "model": {"width": 8, "depth": 1, "components": 2, "context": 4},
        "train": {"epochs": 1, "batch_size": 256, "precision": "float32"},
        "data": {"corpus": "folder:speech", "test": 0.4},
        "experiments": wanted | {"stretch_seconds": 3.0, "trajectories": 4, "decoded": 3} | experiments,
    }
    return Run(folder, make_config(settings), log=lambda line: None)


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    return find_trajectories(run_of(tmp_path_factory.mktemp("run")))


def decoded(some, **rolled):
    return Decoded(some, {"shuffled frames": some.real.flip(1)}, rolled or {"mdn": torch.cat([some.real] * 2, dim=1)})


def test_the_recordings_are_those_of_the_stretches_and_the_codec_keeps_them(some):
    items = {item.id: item for item in some.run.corpus.items}
    records = Measurements(decoded(some).outcome().measurements)
    for metric in FIGURES:
        wanted = []
        for name in some.utterances[:3]:
            audio = items[name].audio(RATE)[4 * 320 : (4 + some.real.shape[1]) * 320]
            wanted.append(sound_figures(audio, RATE)[metric])
        found = records.one(model="original", metric=metric)
        assert found.value == pytest.approx(sum(wanted) / 3, rel=1e-6)
        assert (found.n_frames, found.n_speakers, found.step) == (3, 3, some.real.shape[1])
        after = records.one(model="codec round trip", metric=metric)
        assert after.value == pytest.approx(found.value, rel=1e-3, abs=1e-3)
        # The last stretch of what goes on for longer.
        assert records.one(model="mdn", metric=metric).value == pytest.approx(found.value, rel=0.02, abs=0.02)
    assert records.one(model="original", metric="modulation").value > 0.1
    assert records.one(model="mdn", metric="modulation").step == 2 * some.real.shape[1]


def test_frames_keep_their_utterance(some):
    items = {item.id: item for item in some.run.corpus.items}
    frames = some.run.frames()
    for z, name in zip(some.context, some.utterances, strict=True):
        raw = (z * frames.scale + frames.loc).flatten()
        torch.testing.assert_close(raw, items[name].audio(RATE)[: 4 * 320 : 40], atol=1e-3, rtol=0)


def test_what_the_codec_keeps_has_no_cycle_error_and_what_it_adds_is_one(some, tmp_path):
    for codec, want in (("Kept", 0.0), ("Louder", 0.25)):
        here = some if codec == "Kept" else find_trajectories(run_of(tmp_path / codec, codec))
        records = Measurements(decoded(here).outcome().measurements)
        error = float((want / here.run.frames().scale).norm())
        for name in ("codec round trip", "shuffled frames", "mdn"):
            assert records.one(model=name, metric="cycle_error").value == pytest.approx(error, rel=1e-3, abs=1e-3)
        if want:
            assert records.one(model="mdn", metric="cycle_error_ratio").value == pytest.approx(1.0, rel=1e-3)


def test_every_trajectory_is_decoded_once(some, monkeypatch):
    decode, times = type(some.run.codec).decode, []
    monkeypatch.setattr(type(some.run.codec), "decode", lambda self, z: times.append(len(z)) or decode(self, z))
    decoded(some).outcome()
    assert sum(times) == 3 * 3


def test_cycle_errors_are_those_of_the_last_stretch(some, monkeypatch):
    def number_of_frame(codec, audio, latents, loc, scale):
        return torch.arange(latents.shape[1]).double().expand(len(latents), -1)

    monkeypatch.setattr("audio_engram.experiments.decoded.return_error", number_of_frame)
    records, n = Measurements(decoded(some).outcome().measurements), some.real.shape[1]
    assert records.one(model="codec round trip", metric="cycle_error").value == pytest.approx(4 + n / 2, abs=1)
    assert records.one(model="mdn", metric="cycle_error").value == pytest.approx(4 + 1.5 * n, abs=1)


def test_what_is_not_finite_is_told_and_leaves_the_others(some):
    broken = torch.cat([some.real] * 2, dim=1)
    broken[1, 200] = torch.nan
    found = decoded(some, mdn=broken, vmf=broken * torch.nan).outcome()
    records = Measurements(found.measurements)
    assert records.one(model="mdn", metric="modulation").n_speakers == 2
    assert records.one(model="mdn", metric="cycle_error").n_frames == 3
    assert records.one(model="mdn", metric="cycle_error").value == pytest.approx(0, abs=1e-3)
    assert records.one(model="vmf", metric="modulation").value is None
    assert records.one(model="vmf", metric="cycle_error").value is None
    assert found.warnings == [
        "Stability: 1 of 3 of mdn have no sound: the rollout left the finite numbers at step 201.",
        "Stability: 3 of 3 of vmf have no sound: the rollout left the finite numbers at step 1.",
    ]


@pytest.mark.parametrize(("codec", "said"), [("Fails", "no sound today"), ("Short", "give whole seconds")])
def test_a_codec_that_cannot_is_a_warning(tmp_path, codec, said):
    found = decoded(find_trajectories(run_of(tmp_path / codec, codec))).outcome()
    assert any(said in line for line in found.warnings)
    assert Measurements(found.measurements).one(model="original", metric="modulation").value > 0.1


def test_nothing_is_decoded_without_a_decoder_or_a_wish(some, tmp_path):
    assert can_be_heard(some.run)
    assert not can_be_heard(run_of(tmp_path / "a", "Mute"))
    assert not can_be_heard(run_of(tmp_path / "b", decoded=0))


def test_what_is_played_is_the_end_of_each_time(some):
    run = some.run
    decoded(some).keep({"mdn": "MDN"})
    (run.folder / "audio").mkdir(exist_ok=True)
    items = {item.id: item for item in run.corpus.items}
    rows, silent = rollout_clips(run, items)
    assert silent == []
    assert [row["label"] for row in rows] == [
        *("Original, 0 to 2 s", "Codec round trip, 0 to 2 s", "True frames in random order, 0 to 2 s"),
        *("MDN, 0 to 2 s", "MDN, 3 to 5 s"),
    ]
    assert [row["row"] for row in rows] == ["original", "original", "original", "MDN", "MDN"]
    assert {row["group"] for row in rows} == {f"Sampled rollouts after {some.utterances[0]}"}
    assert {row["seconds"] for row in rows} == {2.0}
    original = items[some.utterances[0]].audio(RATE)
    heard = read_audio(run.folder / "audio" / rows[0]["file"], RATE)
    start = 4 * 320
    torch.testing.assert_close(heard, original[start : start + 2 * RATE], atol=1e-3, rtol=0)
    # Repeated after three seconds, so that 3 to 5 s of the rollout are 0 to 2 s of the recording.
    again = read_audio(run.folder / "audio" / rows[-1]["file"], RATE)
    torch.testing.assert_close(again, heard, atol=2e-3, rtol=0)


def test_the_experiment_measures_keeps_and_plays(tmp_path, monkeypatch):
    monkeypatch.setattr("audio_engram.listening.MAX_UTTERANCES", 1)
    run = run_of(tmp_path)
    outcome = stability(run)
    records = Measurements(outcome.measurements)
    names = {"original", "codec round trip", "teacher-forced", "shuffled frames", "Gaussian frames", "mdn"}
    assert {r.model for r in records.select(metric="modulation")} == names
    assert {r.model for r in records.select(metric="cycle_error_ratio")} == names - {"original", "codec round trip"}
    share = records.one(metric="speech_share", model="mdn")
    assert f"Of its decoded sound {show(share)} is speech, of recordings " in outcome.findings[0].caution
    parts, note = checkpoint.load(run.folder / FILE)
    assert parts["mdn"].shape == (300, 8)
    assert note["words"] == {"mdn": "MDN"}
    keep(run, "stability", outcome)
    assert take(run, "stability") is not None
    listen(run)
    index = json.loads((run.folder / "audio/index.json").read_text())
    assert "MDN, 3 to 5 s" in [row["label"] for row in index]
    (run.folder / FILE).unlink()
    assert take(run, "stability") is None
