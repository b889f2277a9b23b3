"""The sound of an archetype: tones that switch at known frames, found again in the clips that are played."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from audio_engram.archetype_map import Archetype, ArchetypeMap
from audio_engram.archetype_sounds import around, joined
from audio_engram.config import make_config
from audio_engram.experiments.archetypes import archetypes
from audio_engram.experiments.meaning import CHANGES, changes
from audio_engram.listening import listen
from audio_engram.runs import Run

RATE, HOP, TONES = 8000, 400, (400, 800, 1200, 1600)
KNOWN = 13  # some clusters are smaller
QUANTILE = 0.8  # a quarter of all increments are switches
CODEC = """
import torch
from audio_engram.codecs.base import Codec

class Tones(Codec):
    name, sample_rate, frame_rate, latent_dim, playable = "tones", 8000, 20.0, 4, False
    def analyse(self, audio):
        return torch.fft.rfft(audio.reshape(len(audio), -1, 400))[..., 20:81:20].abs() / 200
    def decode(self, latents): raise NotImplementedError
"""


def tones(seed: int) -> np.ndarray:
    """Four tones in a little noise: another one, at a level of its own, every 3 to 5 of 120 frames."""
    rng = np.random.default_rng(seed)
    which, level = [int(rng.integers(4))], [0.3]
    while len(which) < 120:
        n = int(rng.integers(3, 6))
        which += [(which[-1] + int(rng.integers(1, 4))) % 4] * n
        level += [rng.uniform(0.25, 0.35)] * n
    pitch, loud = (np.repeat(some[:120], HOP) for some in (np.array(TONES)[which], np.array(level)))
    return loud * np.sin(2 * np.pi * pitch * np.arange(len(pitch)) / RATE) + rng.normal(0, 0.003, len(pitch))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Twelve archetypes, one for each switch between two tones, and their sounds."""
    place = tmp_path_factory.mktemp("tones")
    (place / "tone_codecs.py").write_text(CODEC)
    for speaker in range(20):
        (place / f"speech/s{speaker:02}").mkdir(parents=True)
        soundfile.write(place / f"speech/s{speaker:02}/a.wav", tones(speaker), RATE)
    settings = {
        "device": "cpu",
        "data": {"corpus": f"folder:{place}/speech", "test": 0.4},
        "codec": {"name": "tone_codecs:Tones"},
        "model": {"context": 2},
        "experiments": {"archetype_counts": [12], "archetype_quantile": QUANTILE},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audio_engram.experiments.prototypes.KNOWN", KNOWN)
        patch.syspath_prepend(place)
        patch.delitem(sys.modules, "tone_codecs", raising=False)
        made = Run(place / "out", make_config(settings), log=lambda line: None)
        archetypes(made)
        assert listen(made) == []
    return made


@pytest.fixture(scope="module")
def shown(run: Run) -> ArchetypeMap:
    return ArchetypeMap.model_validate_json((run.folder / "archetypes.json").read_text())


def rows(run: Run) -> dict[int, dict[str, object]]:
    index = json.loads((run.folder / "audio/index.json").read_text())
    return {int(str(row["label"]).removeprefix("Archetype ")): row for row in index}


def clips(run: Run, row: dict[str, object]) -> list[np.ndarray]:
    """The clips of a sound: 0.8 s each, with 0.3 s of silence between them."""
    samples, rate = soundfile.read(run.folder / "audio" / str(row["file"]))
    assert rate == RATE
    assert (len(samples) + 2400) % 8800 == 0
    starts = range(0, len(samples), 8800)
    assert all(not samples[start + 6400 : start + 8800].any() for start in starts)
    return [samples[start : start + 6400] for start in starts]


def tone(samples: np.ndarray) -> int:
    return int(np.abs(np.fft.rfft(samples)).argmax()) * RATE // len(samples)


def test_the_largest_are_played_the_largest_first(run: Run, shown: ArchetypeMap) -> None:
    sizes = [one.size for one in shown.archetypes]
    played = list(rows(run))
    assert [sizes[k] for k in played] == sorted(sizes, reverse=True)[:6]
    assert {k for k, one in enumerate(shown.archetypes) if one.nearest} == set(played)


def test_every_clip_switches_in_its_middle_between_the_tones_of_its_archetype(run: Run) -> None:
    switches = []
    for row in rows(run).values():
        heard = {(tone(clip[3200 - HOP : 3200]), tone(clip[3200 : 3200 + HOP])) for clip in clips(run, row)}
        assert len(heard) == 1
        switches += heard
    assert len(set(switches)) == 6
    assert all(before != after for before, after in switches)


def test_the_text_says_where_every_clip_comes_from(run: Run) -> None:
    for row in rows(run).values():
        parts = row["parts"]
        assert len(parts) == len(clips(run, row)) >= 6
        for said, clip in zip(parts, clips(run, row), strict=True):
            name, _, rest = said.partition(" at ")
            middle = round(float(rest.partition(" s,")[0]) * RATE)
            speaker = rest.split("speaker ")[1].partition(",")[0]
            original, _ = soundfile.read(run.folder.parent / f"speech/{speaker}/a.wav")
            assert name.startswith(speaker)
            np.testing.assert_array_equal(clip[3200 - HOP : 3200 + HOP], original[middle - HOP : middle + HOP])


def test_they_are_the_nearest_of_held_out_speakers_one_of_each(run: Run, shown: ArchetypeMap) -> None:
    frames, centres = run.frames(), load_file(run.folder / "prototypes/k12.safetensors")["directions"]
    basis = torch.linalg.svd(centres)[2][: int((torch.linalg.svdvals(centres) > 1e-3).sum())]
    windows = run.windows("train", 1)
    least = windows.increments(windows.with_valid_target()).norm(dim=1).quantile(QUANTILE)
    wanted: dict[tuple[int, str], tuple[float, str, int]] = {}
    for place in (frames.in_split("test") & frames.moving).nonzero().flatten().tolist():
        utterance = int(frames.utterance[place])
        frame, delta = place - int(frames.offsets[utterance]), frames.z[place] - frames.z[place - 1]
        if frame < 2 or delta.norm() <= least:
            continue
        cosine, k = (torch.nn.functional.normalize(basis @ delta, dim=0) @ (centres @ basis.T).T).max(0)
        key = int(k), frames.speakers[int(frames.speaker[place])]
        wanted[key] = max(wanted.get(key, (-1.0, "", 0)), (float(cosine), frames.utterances[utterance], frame))
    for k in rows(run):
        best = sorted((found for (of, _), found in wanted.items() if of == k), reverse=True)[:10]
        told = [(one.cosine, one.utterance, one.frame) for one in shown.archetypes[k].nearest]
        assert len({one.speaker for one in shown.archetypes[k].nearest}) == len(told)
        assert sorted(one[1:] for one in told) == sorted(one[1:] for one in best)
        assert [one[0] for one in told] == pytest.approx([one[0] for one in best], abs=1e-5)
        assert all(one.second == pytest.approx(one.frame / 20) for one in shown.archetypes[k].nearest)


def test_changes_are_means_over_the_training_increments_that_have_one(run: Run, shown: ArchetypeMap) -> None:
    frames, centres = run.frames(), load_file(run.folder / "prototypes/k12.safetensors")["directions"]
    windows = run.windows("train", 1)
    index = windows.with_valid_target()
    delta, place = windows.increments(index), windows.target[index]
    kept = delta.norm(dim=1) > delta.norm(dim=1).quantile(QUANTILE)
    # Centroids are in the space of the components, which a direction's other part does not turn towards any of them.
    label, place = (delta[kept] @ centres.T).argmax(1), place[kept]
    heard = changes(run)
    assert float(heard["flux"][place].double().mean()) == pytest.approx(shown.average_flux, rel=1e-5)
    assert frames.in_split("train")[place].all()
    told = 0
    for k, one in enumerate(shown.archetypes):
        for name in CHANGES:
            values = heard[name][place[label == k]]
            values = values[values.isfinite()].double()
            wanted = None if len(values) < KNOWN else pytest.approx(float(values.mean()), rel=1e-5, abs=1e-6)
            assert getattr(one, name) == wanted
            told += wanted is not None
    assert 6 < told < 36


def test_what_is_heard_is_said(run: Run, shown: ArchetypeMap) -> None:
    for k, row in rows(run).items():
        assert str(row["note"]).startswith(f"{shown.archetypes[k].size} training increments; level ")


def test_a_clip_holds_the_recording_around_its_middle_and_fades_at_its_ends() -> None:
    audio = torch.arange(20_000) / 20_000 + 1
    clip = around(audio, 10_000, 8000)
    assert len(clip) == 6400
    torch.testing.assert_close(clip[80:-80], audio[6880:13_120])
    gain = torch.cat([clip[:80] / audio[6800:6880], clip[-80:].flip(0) / audio[13_120:13_200].flip(0)]).view(2, 80)
    assert bool((gain.diff() > 0).all())
    assert float(gain[:, 0].max()) < 1e-3 < 0.999 < float(gain[:, -1].min())


@pytest.mark.parametrize("middle", [800, 19_200])
def test_where_the_recording_ends_there_is_silence_and_the_middle_stays(middle: int) -> None:
    audio = torch.ones(20_000)
    audio[middle] = 2
    clip = around(audio, middle, 8000)
    assert len(clip) == 6400
    assert int(clip.argmax()) == 3200
    assert int((clip == 0).sum()) == 2400
    edge = 2400 if middle == 800 else 4000 - 1
    assert 0 < float(clip[edge]) < 1e-3  # faded there too


def test_clips_are_played_one_after_another() -> None:
    assert joined([torch.ones(3), torch.ones(2)], 10).tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert joined([torch.ones(3)], 10).tolist() == [1, 1, 1]


def test_what_was_not_measured_is_not_said() -> None:
    assert Archetype(x=0, y=0, size=1).heard == ""
    one = Archetype(x=0, y=0, size=1, energy_change=-3.0, flux=0.5, pitch_change=2.0)
    assert one.heard == "level −3.00 dB, spectral flux 0.500, pitch +2.00 semitones"
