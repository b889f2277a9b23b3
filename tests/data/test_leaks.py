"""Copies across splits are found however they were changed; corpora without copies raise no alarm.

Scores of unrelated pairs are allowed 0.01 false alarms a corpus; the seeds here are fixed, so that no test is a draw.
"""

import io
import math
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from audio_engram.codecs.mel import MelCodec
from audio_engram.data.corpus import open_corpus
from audio_engram.data.frames import SPLITS, Frames
from audio_engram.data.leaks import MIN_OVERLAP, Leaks, _align, find_leaks
from audio_engram.data.splits import split_speakers

TRAIN, VALIDATION, TEST = range(3)
Row = tuple[str, str, torch.Tensor]


def frames_of(rows: list[Row], split_of: dict[str, str]) -> Frames:
    speakers = sorted({speaker for _, speaker, _ in rows})
    lengths = torch.tensor([len(z) for _, _, z in rows])
    z = torch.cat([z for _, _, z in rows])
    speaker = torch.tensor([speakers.index(name) for _, name, _ in rows])
    split = torch.tensor([SPLITS.index(split_of[name]) for _, name, _ in rows])
    loc, scale = z.mean(0), z.std(0)
    return Frames(
        z=(z - loc) / scale,
        loc=loc,
        scale=scale,
        offsets=torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]),
        speaker=speaker.repeat_interleave(lengths),
        split=split.repeat_interleave(lengths),
        moving=torch.ones(len(z), dtype=torch.bool),
        speakers=tuple(speakers),
        utterances=tuple(name for name, _, _ in rows),
    )


def corpus(seed: int = 0, speakers: int = 24, dim: int = 12, each: int = 2) -> tuple[list[Row], dict[str, str]]:
    """Autocorrelated noise of many lengths around an offset for each speaker."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for speaker in range(speakers):
        offset = torch.randn(dim, generator=g)
        for number in range(each):
            n = int(torch.randint(30, 120, (), generator=g))
            noise = torch.randn(n + 4, dim, generator=g).cumsum(0)
            rows.append((f"u{speaker}-{number}", f"s{speaker}", noise[4:] - noise[:-4] + offset))
    return rows, dict(split_speakers({f"s{i}": 1 for i in range(speakers)}))


def planted(change, seed: int = 0, **size: int) -> tuple[Leaks, set[tuple[str, str]]]:
    """A corpus where four utterances stand again, changed, under another name in another split."""
    rows, split_of = corpus(seed, **size)
    wanted = set()
    for name, speaker, z in rows[:: len(rows) // 4][:4]:
        other = "test" if split_of[speaker] == "train" else "train"
        split_of[f"thief of {name}"] = other
        rows.append((f"copy of {name}", f"thief of {name}", change(z)))
        wanted.add((name, f"copy of {name}"))
    return find_leaks(frames_of(rows, split_of)), wanted


G = torch.Generator().manual_seed(9)
CHANGES = {
    "none": lambda z: z,
    "half precision": lambda z: z.half().float(),
    "level": lambda z: z + 0.5,
    "much level": lambda z: z + 20,
    "scale": lambda z: 1.1 * z,
    "noise": lambda z: z + 0.2 * torch.randn(z.shape, generator=G),
    "start cut off": lambda z: z[len(z) // 4 :],
    "end cut off": lambda z: z[: -len(z) // 4],
    "both cut off": lambda z: z[len(z) // 8 : -len(z) // 8],
    "silence before": lambda z: torch.cat([torch.zeros(10, z.shape[1]), z]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_copy_is_found_and_nothing_else(kind):
    leaks, wanted = planted(CHANGES[kind])
    assert {pair.utterances for pair in leaks.pairs} == wanted
    assert all(set(pair.splits) in ({"train", "test"}, {"train", "validation"}) for pair in leaks.pairs)
    assert all(pair.speakers[1] == f"thief of {pair.utterances[0]}" for pair in leaks.pairs)
    assert not any(pair.identical for pair in leaks.pairs)
    assert [pair.score for pair in leaks.pairs] == sorted((pair.score for pair in leaks.pairs), reverse=True)


@pytest.mark.parametrize("kind", ["reversed", "shuffled", "other"])
def test_what_only_has_the_same_statistics_is_no_copy(kind):
    change = {
        "reversed": lambda z: z.flip(0),
        "shuffled": lambda z: z[torch.randperm(len(z), generator=G)],
        "other": lambda z: torch.randn(z.shape, generator=G),
    }[kind]
    leaks, _ = planted(change)
    assert not leaks
    assert leaks.pairs == ()


def test_no_alarm_where_there_is_nothing():
    """Six corpora without copies; at 0.01 each, an alarm would have a chance of 6 %. With these seeds none comes."""
    found = [find_leaks(frames_of(*corpus(seed, each=1))) for seed in range(6)]
    assert not any(found)
    assert all(0 < one.highest < one.threshold for one in found)


def test_a_small_corpus_finds_plain_copies_only():
    leaks, wanted = planted(CHANGES["none"], speakers=6)
    assert {pair.utterances for pair in leaks.pairs} == wanted
    assert not find_leaks(frames_of(*corpus(3, speakers=6)))


def test_a_whole_test_set_of_copies_is_found():
    """The threshold comes from random pairs, so that many copies do not hide each other."""
    rows, split_of = corpus()
    copies = [(f"copy of {name}", f"thief {i}", z) for i, (name, s, z) in enumerate(rows) if split_of[s] == "train"]
    split_of |= {speaker: "test" for _, speaker, _ in copies}
    rows = [row for row in rows if split_of[row[1]] != "test"] + copies
    leaks = find_leaks(frames_of(rows, split_of))
    assert {pair.utterances for pair in leaks.pairs} == {(name.removeprefix("copy of "), name) for name, _, _ in copies}


def test_copies_within_a_split_are_no_leak():
    rows, split_of = corpus()
    name, speaker, z = rows[0]
    split_of["twin"] = split_of[speaker]
    leaks = find_leaks(frames_of([*rows, ("copy", "twin", z)], split_of), {name: "hash", "copy": "hash"})
    assert not leaks


def test_sources_that_are_the_same_bytes():
    """By their hash, even where the latents are too short to be laid over each other."""
    rows, split_of = corpus()
    short = torch.randn(MIN_OVERLAP - 1, rows[0][2].shape[1], generator=G)
    a, b = (next(name for name in split_of if split_of[name] == split) for split in ("train", "test"))
    rows += [("x", a, short), ("y", b, short)]
    sources = {name: f"hash of {name}" for name, _, _ in rows} | {
        "x": "one",
        "y": "one",
        rows[0][0]: "",
        rows[9][0]: "",
    }
    assert not find_leaks(frames_of(rows, split_of))
    leaks = find_leaks(frames_of(rows, split_of), sources)
    assert [(pair.utterances, pair.speakers, pair.splits) for pair in leaks.pairs] == [
        (("x", "y"), (a, b), ("train", "test"))
    ]
    assert leaks.pairs[0].identical
    assert "1 pairs of utterances in different splits are copies of each other (1 byte for byte)" in leaks.sentence()


def test_names_that_differ_in_spelling_only():
    rows, split_of = corpus()
    a, b, c = (next(name for name in split_of if split_of[name] == split) for split in SPLITS)
    names = {a: "Ann Lee", b: "ann-lee", c: "ANN_LEE "}
    rows = [(name, names.get(speaker, speaker), z) for name, speaker, z in rows]
    split_of |= {names[name]: split_of[name] for name in (a, b, c)}
    leaks = find_leaks(frames_of(rows, split_of))
    assert sorted(map(sorted, leaks.speakers)) == [
        ["ANN_LEE ", "Ann Lee"],
        ["ANN_LEE ", "ann-lee"],
        ["Ann Lee", "ann-lee"],
    ]
    assert leaks.pairs == ()
    assert "3 pairs of speakers in different splits differ in spelling only" in leaks.sentence()


def test_the_sentence():
    clean = find_leaks(frames_of(*corpus()))
    assert clean.sentence().startswith(
        f"No copies across splits: {clean.compared} pairs laid over each other, the highest"
    )
    leaks, _ = planted(CHANGES["none"])
    sentence = leaks.sentence()
    assert sentence.startswith("4 pairs of utterances in different splits are copies of each other (0 byte for byte)")
    assert sentence.endswith(": held-out figures are better than they should be.")


def test_alignment_against_the_sum_written_out():
    """Every lag by loops, in float64."""
    g = torch.Generator().manual_seed(3)
    for n, m in [(20, 31), (31, 20), (25, 25), (9, 40)]:
        a, b = torch.randn(n, 5, generator=g), torch.randn(m, 5, generator=g)
        best = (-math.inf, 0.0)
        for lag in range(1 - n, m):
            start, end = max(0, -lag), min(n, m - lag)
            if end - start < max(MIN_OVERLAP, min(n, m) / 2):
                continue
            x, y = a[start:end].double(), b[start + lag : end + lag].double()
            r = float((x * y).sum() / (x.norm() * y.norm()))
            best = max(best, (math.atanh(r) * math.sqrt(end - start), r))
        assert _align(a, b) == pytest.approx(best, rel=1e-4)
    assert _align(a[:8], a[:8]) == (0.0, 0.0)


def opus(audio: torch.Tensor) -> torch.Tensor:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.numpy(), 16000, format="OGG", subtype="OPUS")
    buffer.seek(0)
    return torch.from_numpy(soundfile.read(buffer, dtype="float32")[0][: len(audio)].copy())


SOUND_CHANGES = {
    "3 ms": lambda audio: audio[48:],
    "1 dB": lambda audio: 10**-0.05 * audio,
    "Opus": opus,
    "16 bit": lambda audio: (audio * 2**15).round() / 2**15,
}


@pytest.mark.shared
def test_real_speech_with_mel(shared):
    """No alarm among some 100 utterances; every copy of five, changed as sound, is found under another name."""
    codec, rows = MelCodec(), []
    chosen = open_corpus(f"librispeech:{shared / 'data'}").items
    once = [item for item in chosen if item.speaker not in ("1688", "1998")][::6]
    sounds = {item.id: item.audio(16000) for item in once}
    rows = [(item.id, item.speaker, codec.encode(sounds[item.id][None, None])[0]) for item in once]
    split_of = dict(split_speakers(dict(Counter(item.speaker for item in once))))
    assert not find_leaks(frames_of(rows, split_of))
    for kind, change in SOUND_CHANGES.items():
        more, splits = list(rows), dict(split_of)
        for item in once[::20]:
            splits[f"thief {item.id}"] = "test" if split_of[item.speaker] == "train" else "train"
            latents = codec.encode(change(sounds[item.id])[None, None])[0].half().float()
            more.append((f"copy of {item.id}", f"thief {item.id}", latents))
        leaks = find_leaks(frames_of(more, splits))
        assert {pair.utterances for pair in leaks.pairs} == {(i.id, f"copy of {i.id}") for i in once[::20]}, kind


def test_numpy_is_not_asked_for_randomness():
    """The same corpus, the same answer, whatever the state of the global generators."""
    first = find_leaks(frames_of(*corpus()))
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert find_leaks(frames_of(*corpus())) == first
