"""Which voice is held against which, and that decoded trajectories have both figures."""

import math
from dataclasses import replace

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.corpus import CorpusItem
from audio_engram.errors import MissingError
from audio_engram.experiments import check_settings, listeners
from audio_engram.experiments.decoded import OTHER, Decoded
from audio_engram.experiments.listeners import OPINION, SIMILARITY, Listeners
from audio_engram.experiments.stability import stability
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.measurements import Measurements
from audio_engram.runs import Run


def recording(name, speaker, sounds_like=None):
    """Its sound says whose it is."""
    return CorpusItem(name, f"s{speaker}", lambda rate: torch.full((2 * rate,), float(sounds_like or speaker)))


class Ear:
    """Knows a voice by the first sample."""

    def voice(self, sound, rate):
        found = torch.zeros(256)
        if len(sound) == 0:
            return found + math.nan
        found[int(sound[0])] = 1.0
        return found

    def opinion(self, sound, rate):
        return float(len(sound) / rate)


@pytest.fixture
def ear(monkeypatch):
    monkeypatch.setattr(listeners, "Listener", Ear)


def said_by(speaker, seconds=1):
    return torch.full((16_000 * seconds,), float(speaker))


def test_a_voice_is_held_against_another_recording_of_its_speaker(ear):
    items = [recording("a1", 1), recording("b1", 2), recording("a2", 1), recording("b2", 2)]
    heard = Listeners(items, ["a1", "b1"])
    assert heard.figures(0, said_by(1), 16_000) == {OPINION: 1.0, SIMILARITY: 1.0}
    assert heard.figures(0, said_by(2, 3), 16_000) == {OPINION: 3.0, SIMILARITY: 0.0}
    assert heard.figures(1, said_by(2), 16_000)[SIMILARITY] == 1.0
    assert heard.of_others([said_by(1), said_by(2)], 16_000) == [0.0, 0.0]
    assert heard.of_others([said_by(2), said_by(1)], 16_000) == [1.0, 1.0]


def test_the_recording_itself_is_not_the_other_one(ear):
    heard = Listeners([recording("a1", 1), recording("a2", 1, sounds_like=8)], ["a1"])
    assert heard.figures(0, said_by(8), 16_000)[SIMILARITY] == 1.0
    assert heard.figures(0, said_by(1), 16_000)[SIMILARITY] == 0.0


def test_a_speaker_without_another_recording_has_no_likeness_but_an_opinion(ear):
    heard = Listeners([recording("a1", 1), recording("b1", 2), recording("b2", 2)], ["a1", "b1"])
    found = heard.figures(0, said_by(1), 16_000)
    assert math.isnan(found[SIMILARITY])
    assert found[OPINION] == 1.0
    # The stranger of the second has no voice to be held against.
    assert [math.isnan(one) for one in heard.of_others([said_by(2), said_by(2)], 16_000)] == [False, True]


def test_a_recording_without_a_voice_gives_way_to_the_next(ear):
    empty = CorpusItem("a0", "s1", lambda rate: torch.zeros(0))
    heard = Listeners([empty, recording("a1", 1), recording("a2", 1)], ["a1"])
    assert heard.figures(0, said_by(1), 16_000)[SIMILARITY] == 1.0


def test_recordings_that_could_not_be_encoded_are_not_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("audio_engram.experiments.decoded.Listeners", lambda items, utterances: asked.append(items))
    run = Run(tmp_path, settings(True), log=lambda line: None)
    some = find_trajectories(run)
    lost = next(item.id for item in run.corpus.items if item.id not in some.utterances)
    frames = run.frames()
    kept = tuple("lost" if name == lost else name for name in frames.utterances)
    monkeypatch.setattr(Run, "frames", lambda self: replace(frames, utterances=kept))
    assert Decoded(some, {}, {})._listeners is None  # what `append` gives back
    assert {item.id for item in asked[0]} == {item.id for item in run.corpus.items} - {lost}


def test_one_speaker_alone_has_no_strangers(ear):
    items = [recording("a1", 1), recording("a2", 1)]
    assert math.isnan(Listeners(items, ["a1", "a2"]).of_others([said_by(1)], 16_000)[0])


def settings(on, corpus="demo"):
    wanted = {"names": ["stability"], "regimes": ["mdn"], "horizons": [4.0], "resamples": 1000, "listeners": on}
    return make_config(
        {
            "device": "cpu",
            "data": {"corpus": corpus},
            "experiments": wanted | {"stretch_seconds": 2.0, "trajectories": 4, "decoded": 3},
        }
    )


def test_decoded_trajectories_are_judged_by_the_real_models(tmp_path):
    some = find_trajectories(Run(tmp_path, settings(True), log=lambda line: None))
    faint = some.real + 3 * torch.randn(some.real.shape, generator=torch.Generator().manual_seed(0))
    records = Measurements(Decoded(some, {}, {"mdn": faint}).outcome().measurements)
    opinions = {name: records.one(model=name, metric=OPINION) for name in ("original", "codec round trip", "mdn")}
    assert all(1 <= one.value <= 5 and one.n_frames == 3 for one in opinions.values())
    assert opinions["original"].value > opinions["mdn"].value
    likeness = {name: records.one(model=name, metric=SIMILARITY).value for name in ("original", "mdn", OTHER)}
    assert likeness["original"] > max(likeness["mdn"], likeness[OTHER])


def test_nothing_is_asked_of_them_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(listeners, "Listener", None)
    some = find_trajectories(Run(tmp_path, settings(False), log=lambda line: None))
    records = Measurements(Decoded(some, {}, {"mdn": some.real}).outcome().measurements)
    assert not records.select(metric=OPINION)
    assert not records.select(metric=SIMILARITY)


def test_a_missing_extra_is_told_before_anything_is_done(monkeypatch):
    monkeypatch.setattr("audio_engram.experiments.settings.lacking", lambda extra: f"{extra} is not there")
    check_settings(settings(False))
    with pytest.raises(
        MissingError, match=r"experiments.listeners: metrics is not there: .*\[metrics\].*set it to false"
    ):
        check_settings(settings(True))


def test_listeners_without_a_sound_are_told_of(tmp_path):
    config = settings(True, "world:ar:8").model_copy(update={"model": make_config({"model": {"width": 8}}).model})
    config = config.model_copy(update={"train": make_config({"train": {"epochs": 1}}).train})
    outcome = stability(Run(tmp_path, config, log=lambda line: None))
    assert listeners_hear_nothing(outcome)
    quiet = config.model_copy(update={"experiments": settings(False).experiments})
    assert not listeners_hear_nothing(stability(Run(tmp_path / "quiet", quiet, log=lambda line: None)))


def listeners_hear_nothing(outcome):
    return any("listeners are asked and hear nothing" in line for line in outcome.warnings)
