"""Facts that the embedded corpus must keep when it is spoken again."""

import json
from collections import Counter
from importlib.resources import files

import pytest
import torch

from audio_engram.audio import read_audio
from audio_engram.data.corpus import Corpus, open_corpus
from audio_engram.data.splits import split_speakers

FOLDER = files("audio_engram.data") / "demo"


@pytest.fixture(scope="module")
def demo() -> Corpus:
    return open_corpus("demo")


@pytest.fixture(scope="module")
def index() -> dict:
    return json.loads((FOLDER / "demo.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sounds(demo) -> dict[str, torch.Tensor]:
    return {item.id: read_audio(item.source) for item in demo.items}


def test_it_says_that_it_is_synthetic(demo, index):
    assert demo.synthetic
    assert index["synthetic"] is True
    assert "All of it is synthetic" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_voices_and_size(demo, index):
    assert len(demo.speakers) >= 16
    assert {row["speaker"] for row in index["voices"]} == set(demo.speakers)
    assert len({row["synthesiser"] for row in index["voices"]}) >= 3
    assert min(Counter(item.speaker for item in demo.items).values()) >= 3
    assert sum(len(path.read_bytes()) for path in FOLDER.iterdir()) < 3e6


def test_index_and_files_agree(demo, index):
    listed = {row["file"] for row in index["utterances"]} | {"demo.json", "README.md"}
    assert {path.name for path in FOLDER.iterdir()} == listed
    assert len({row["text"] for row in index["utterances"]}) == len(demo)


def test_every_utterance_is_sound_speech(sounds, index):
    seconds = {row["id"]: row["seconds"] for row in index["utterances"]}
    for name, audio in sounds.items():
        assert len(audio) / 16000 == pytest.approx(seconds[name], abs=2e-3)
        assert 3.5 < seconds[name] < 8.5
        assert audio.abs().max() < 0.95
        assert 0.05 < audio.square().mean().sqrt() < 0.09
        quietest = audio.unfold(0, 1280, 1280).square().mean(1).sqrt().min()
        assert quietest > 1e-4  # no frame at 12.5 Hz is digital silence
    assert 6 < sum(seconds.values()) / 60 < 10


def test_no_voice_dominates_and_every_split_has_several(sounds, demo):
    samples = Counter()
    for item in demo.items:
        samples[item.speaker] += len(sounds[item.id])
    assert max(samples.values()) < 1.5 * sum(samples.values()) / len(samples)
    assert min(Counter(split_speakers(dict(samples)).values()).values()) >= 4
