"""Extraction: every item is accounted for, batches change nothing, and an interruption leaves no trace."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.data import progress, publish
from audio_engram.data.batches import encode_batch, plan_batches
from audio_engram.data.corpus import Corpus, CorpusItem, open_corpus
from audio_engram.data.extract import ExtractConfig, extract
from audio_engram.data.store import LatentStore
from audio_engram.errors import DataError, UsageError
from frame_codec import HOP, RATE, FrameCodec, Unused, bytes_of, noise, write


@pytest.fixture
def folder(tmp_path) -> Path:
    """Thirty utterances of three speakers, 0.1 to 1.2 s, in no order of length."""
    lengths = np.random.default_rng(1).uniform(0.1, 1.2, 30)
    for i, seconds in enumerate(lengths):
        write(tmp_path / "audio" / f"s{i % 3}" / f"{i:02d}.wav", noise(seconds, seed=i))
    return tmp_path / "audio"


@pytest.fixture
def corpus(folder) -> Corpus:
    return open_corpus(f"folder:{folder}")


SMALL = ExtractConfig(shard_frames=150, window=4, batch_seconds=2.0)


def test_latents_are_those_of_one_utterance_at_a_time(corpus, tmp_path):
    codec = FrameCodec()
    store = extract(corpus, codec, tmp_path / "store", SMALL.model_copy(update={"dtype": "float32"}))
    assert [one.id for one in store.utterances] == [item.id for item in corpus.items]
    for item, one in zip(corpus.items, store.utterances, strict=True):
        audio = item.audio(RATE)
        torch.testing.assert_close(store[item.id], codec.encode(audio[None, None])[0])
        assert one.seconds == pytest.approx(len(audio) / RATE)
        assert (one.speaker, one.source) == (item.speaker, item.content_hash(audio))
    assert store.manifest.corpus_hash == corpus.fingerprint()
    assert store.manifest.codec_fingerprint == codec.fingerprint()


@pytest.mark.parametrize("changes", [{"window": 64}, {"batch_seconds": 0.01}, {"readers": 1}])
def test_batching_does_not_change_the_latents(corpus, tmp_path, changes):
    one = extract(corpus, FrameCodec(), tmp_path / "one", SMALL)
    other = extract(corpus, FrameCodec(), tmp_path / "other", SMALL.model_copy(update=changes))
    assert one.utterances == other.utterances
    torch.testing.assert_close(one.frames(), other.frames(), atol=1e-2, rtol=1e-2)  # one float16 step


def make_every_bad_file(root: Path) -> None:
    write(root / "s/good.wav", noise(1))
    write(root / "s/stereo.flac", noise(1, channels=2))
    write(root / "s/8k.wav", noise(1, rate=8000), 8000)
    write(root / "s/48k.wav", noise(1, rate=48000), 48000)
    write(root / "s/silent.wav", np.zeros(RATE))
    write(root / "s/dither.wav", np.random.default_rng(0).integers(-1, 2, RATE) / 2**15)
    write(root / "s/one_sample.wav", np.ones(1))
    write(root / "s/long.wav", noise(3))
    write(root / "s/nan.wav", np.where(np.arange(RATE) == 77, np.nan, 0.1), subtype="FLOAT")
    write(root / "s/truncated.wav", noise(1))
    whole = (root / "s/truncated.wav").read_bytes()
    (root / "s/truncated.wav").write_bytes(whole[: len(whole) // 2])
    (root / "s/empty.wav").write_bytes(b"")
    (root / "s/text.wav").write_text("no audio at all")
    (root / "s/gone.wav").symlink_to(root / "nowhere.wav")


OUTCOME = {
    "skipped": {
        "s/silent.wav": "silent",
        "s/dither.wav": "silent",
        "s/one_sample.wav": "too short",
        "s/long.wav": "too long",
    },
    "failed": {
        "s/nan.wav": "finite",
        "s/truncated.wav": "truncated",
        "s/empty.wav": "empty",
        "s/text.wav": "not audio",
        "s/gone.wav": "cannot be read",
    },
}


def test_every_item_is_accounted_for(tmp_path):
    make_every_bad_file(tmp_path / "audio")
    config = ExtractConfig(max_failed=1.0, max_seconds=2.0)
    store = extract(open_corpus(f"folder:{tmp_path / 'audio'}"), FrameCodec(), tmp_path / "store", config)
    assert store.manifest.counts.model_dump() == {"found": 13, "ok": 4, "skipped": 4, "failed": 5}
    assert [one.id for one in store.utterances] == ["s/48k.wav", "s/8k.wav", "s/good.wav", "s/stereo.flac"]
    assert {one.frames for one in store.utterances} == {100}
    told = {(problem.status, problem.id): problem.reason for problem in store.manifest.problems}
    expected = {(status, name): word for status, rows in OUTCOME.items() for name, word in rows.items()}
    assert set(told) == set(expected)
    assert all(expected[key] in reason for key, reason in told.items())


def test_too_many_failures_are_an_error_after_the_manifest_is_safe(tmp_path):
    make_every_bad_file(tmp_path / "audio")
    corpus = open_corpus(f"folder:{tmp_path / 'audio'}")
    for _ in range(2):  # a second run must not pass over it
        with pytest.raises(DataError, match=r"5 of 13 items failed.*first s/empty\.wav.*manifest\.json"):
            extract(corpus, FrameCodec(), tmp_path / "store")
        assert json.loads((tmp_path / "store/manifest.json").read_text())["counts"]["failed"] == 5
    assert len(extract(corpus, FrameCodec(), tmp_path / "store", ExtractConfig(max_failed=0.5))) == 5


def test_nothing_usable_is_an_error(tmp_path):
    write(tmp_path / "audio/s/silent.wav", np.zeros(RATE))
    corpus = open_corpus(f"folder:{tmp_path / 'audio'}")
    for _ in range(2):
        with pytest.raises(DataError, match=r"none of 1 items.*silent"):
            extract(corpus, FrameCodec(), tmp_path / "store")


def test_latents_that_the_type_cannot_hold_are_failures(corpus, tmp_path):
    with pytest.raises(DataError, match=r"not finite in float16; .*: mend the codec, remove"):
        extract(corpus, FrameCodec(scale=1e6), tmp_path / "half")
    config = ExtractConfig(dtype="float32")
    assert len(extract(corpus, FrameCodec(scale=1e6), tmp_path / "full", config)) == 30


def test_who_has_to_mend_what(folder, tmp_path):
    (folder / "s0/bad.wav").write_bytes(b"")
    corpus = open_corpus(f"folder:{folder}")
    with pytest.raises(DataError, match=": mend the files, remove"):
        extract(corpus, FrameCodec(), tmp_path / "files")
    with pytest.raises(DataError, match=": mend the files and the codec, remove"):
        extract(corpus, FrameCodec(scale=float("nan")), tmp_path / "both")


def test_a_finished_store_is_reused(corpus, tmp_path):
    first = extract(corpus, FrameCodec(), tmp_path / "store")
    again = extract(corpus, Unused(), tmp_path / "store", ExtractConfig(batch_seconds=5.0))
    assert again.utterances == first.utterances


def test_disagreement_names_what_differs(corpus, folder, tmp_path):
    out = tmp_path / "store"
    extract(corpus, FrameCodec(), out)
    with pytest.raises(UsageError, match=r"other latents \(codec_fingerprint: [^;]*\)"):
        extract(corpus, FrameCodec(scale=2.0), out)
    with pytest.raises(UsageError, match=r"\(settings: .*'min_frames': 12.*\)"):
        extract(corpus, FrameCodec(), out, ExtractConfig(min_frames=12))
    write(folder / "s0/00.wav", noise(1, seed=99))
    with pytest.raises(UsageError, match=r"other latents \(corpus_hash: [^;]*\)"):
        extract(corpus, FrameCodec(), out)


def test_a_folder_with_other_files_is_left_alone(corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        extract(corpus, FrameCodec(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "thesis.txt"]


def slow_run(folder: str, out: str) -> None:
    """What the killed process runs."""
    FrameCodec.pause = 0.1
    extract(open_corpus(f"folder:{folder}"), FrameCodec(), out, SMALL)


def test_killed_and_resumed_equals_uninterrupted(corpus, folder, tmp_path):
    """Also with a failing and a skipped item, which a resumed run must count again."""
    (folder / "s1/bad.wav").write_bytes(b"")
    write(folder / "s0/silent.wav", np.zeros(RATE))
    corpus = open_corpus(f"folder:{folder}")
    config = SMALL.model_copy(update={"max_failed": 0.5})
    code = f"import test_extract; test_extract.slow_run({str(folder)!r}, {str(tmp_path / 'cut')!r})"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cut").glob("shard-*"))) < 2:
        assert process.poll() is None, "the extraction ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept = {name: data for name, data in bytes_of(tmp_path / "cut").items() if name.startswith("shard-")}
    with pytest.raises(DataError, match="unfinished"):
        LatentStore.open(tmp_path / "cut")
    whole = extract(corpus, FrameCodec(), tmp_path / "whole", config)
    assert 2 <= len(kept) < whole.manifest.shards
    extract(corpus, FrameCodec(), tmp_path / "cut", config)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    assert all((tmp_path / "cut" / name).read_bytes() == data for name, data in kept.items())
    assert whole.manifest.counts.model_dump() == {"found": 32, "ok": 30, "skipped": 1, "failed": 1}


def test_disk_full_is_one_clear_line_and_resumes(corpus, tmp_path, monkeypatch):
    room = iter(range(5))  # the manifest, and two shards with their checksums

    def fill(path: Path) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_reach_the_disk", fill)
        with pytest.raises(DataError, match=r"disk full while writing .*shard-00002"):
            extract(corpus, FrameCodec(), tmp_path / "full", SMALL)
    assert sorted(bytes_of(tmp_path / "full")) == [
        ".shard-00000.sha256",
        ".shard-00001.sha256",
        "manifest.json",
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    extract(corpus, FrameCodec(), tmp_path / "full", SMALL)
    extract(corpus, FrameCodec(), tmp_path / "whole", SMALL)
    assert bytes_of(tmp_path / "full") == bytes_of(tmp_path / "whole")


def test_progress_off_a_terminal_is_plain_lines_on_stderr(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    extract(corpus, FrameCodec(), tmp_path / "store", SMALL)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "encode audio: 30 of 30"
    assert "\r" not in err


def test_items_can_be_functions(tmp_path):
    items = tuple(CorpusItem(f"u{i}", "s", lambda rate, i=i: torch.ones(rate * (i + 1))) for i in range(3))
    store = extract(Corpus("made", items, synthetic=True), FrameCodec(), tmp_path / "store")
    assert [one.frames for one in store.utterances] == [100, 200, 300]
    assert store.manifest.synthetic


def test_the_next_window_is_read_while_the_codec_works(tmp_path):
    """The codec waits, at its first batch, for the last item of the window after it; read in turns, it never comes."""
    read = [threading.Event() for _ in range(8)]

    def item(i):
        def audio(rate):
            read[i].set()
            return torch.ones(rate)

        return CorpusItem(f"u{i}", "s", audio)

    class Waiting(FrameCodec):
        def analyse(self, audio):
            assert read[7].wait(30)
            return super().analyse(audio)

    corpus = Corpus("made", tuple(map(item, range(8))), synthetic=True)
    config = ExtractConfig(window=4, readers=1, batch_seconds=30)
    assert len(extract(corpus, Waiting(), tmp_path / "store", config)) == 8


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 300))
def test_batches_hold_every_utterance_once_within_the_limit(lengths, limit):
    batches = plan_batches(lengths, limit)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(lengths)
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= limit for batch in batches)
    for batch, after in pairwise(batches):
        assert (len(batch) + 1) * lengths[after[0]] > limit  # none could have been larger


def test_a_batch_may_be_full():
    assert plan_batches([5, 7, 5], 10) == [[0, 2], [1]]


def test_a_codec_that_looks_ahead_hears_the_same_in_any_batch():
    class LookAhead(FrameCodec):
        def analyse(self, audio):
            shifted = torch.cat([audio[..., HOP // 2 :], torch.zeros_like(audio[..., : HOP // 2])], -1)
            return super().analyse(shifted)

    codec = LookAhead()
    audio = [torch.from_numpy(noise(seconds)[:, 0]).float() for seconds in (0.2049, 0.5, 0.4)]
    for one, latents in zip(audio, encode_batch(codec, audio), strict=True):
        torch.testing.assert_close(latents, codec.encode(one[None, None])[0])


def test_a_codec_that_breaks_its_length_law_is_named():
    class Greedy(FrameCodec):
        def analyse(self, audio):
            return super().analyse(audio)[:, 1:]

    with pytest.raises(UsageError, match="codec frame gave latents"):
        encode_batch(Greedy(), [torch.zeros(RATE)])
