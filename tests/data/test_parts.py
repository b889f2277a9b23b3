"""A corpus encoded in parts and merged is, byte for byte, a corpus encoded by one process; or it is refused."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.data import extract as extraction
from audio_engram.data import merge, store
from audio_engram.data.corpus import Corpus, open_corpus
from audio_engram.data.extract import ExtractConfig, extract, extract_part, store_info
from audio_engram.data.manifest import Part, Problem, Utterance, read_manifest
from audio_engram.data.merge import merge_parts
from audio_engram.data.parts import check_number, count_parts, plan_part, read_part, remove_parts
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import DataError, UsageError
from frame_codec import DIM, RATE, FrameCodec, Unused, bytes_of, noise, write

SMALL = ExtractConfig(shard_frames=150, window=4, batch_seconds=2.0, max_failed=0.5)
N = 3


@pytest.fixture
def audio(tmp_path) -> Path:
    """Thirty utterances, two of them silent and two of them no audio: eight windows of four."""
    folder = tmp_path / "audio"
    for i, seconds in enumerate(np.random.default_rng(1).uniform(0.1, 1.2, 30)):
        samples = noise(seconds, seed=i) if i not in (4, 17) else np.zeros(RATE)
        write(folder / f"s{i % 3}" / f"{i:02d}.wav", samples)
    for name in ("s0/00.wav", "s2/29.wav"):
        (folder / name).write_bytes(b"no audio")
    return folder


@pytest.fixture
def corpus(audio) -> Corpus:
    return open_corpus(f"folder:{audio}")


@pytest.fixture
def parts(corpus, tmp_path) -> Path:
    encode_all(corpus, tmp_path / "parts", N)
    return tmp_path / "parts"


def plan(corpus: Corpus, of: int, config: ExtractConfig = SMALL) -> list[Part]:
    return [plan_part(len(corpus), index, of, config) for index in range(1, of + 1)]


def encode_all(corpus: Corpus, parts: Path, of: int, config: ExtractConfig = SMALL) -> None:
    for part in reversed(plan(corpus, of, config)):
        extract_part(corpus, FrameCodec(), parts, part, config)


def merged(corpus: Corpus, parts: Path, config: ExtractConfig = SMALL) -> LatentStore:
    return merge_parts(corpus, FrameCodec(), parts, parts.parent / "merged", config)


def whole(corpus: Corpus, tmp_path: Path, config: ExtractConfig = SMALL) -> dict[str, bytes]:
    extract(corpus, FrameCodec(), tmp_path / "whole", config)
    return bytes_of(tmp_path / "whole")


@given(st.integers(0, 2000), st.integers(1, 70), st.integers(1, 99))
def test_parts_are_whole_windows_of_about_the_same_number(n_items, window, of):
    config = ExtractConfig(window=window)
    found = [plan_part(n_items, index, of, config) for index in range(1, of + 1)]
    assert [part.first for part in found] == [0, *np.cumsum([part.items for part in found])[:-1]]
    assert sum(part.items for part in found) == n_items
    assert all(part.first % window == 0 or part.items == 0 for part in found)
    windows = [-(-part.items // window) for part in found]
    assert max(windows) - min(windows) <= 1
    assert len({part.folder for part in found}) == of


@pytest.mark.parametrize(("index", "of"), [(0, 3), (4, 3), (1, 0), (-1, 3), (1, 100_000)])
def test_parts_that_do_not_exist(index, of):
    with pytest.raises(UsageError, match=r"parts are counted from 1"):
        plan_part(10, index, of, SMALL)


def test_a_part_is_written_i_of_n():
    assert read_part("3/8") == (3, 8)
    for text in (
        "0/8",
        "9/8",
        "8",
        "3/",
        "/8",
        "3/8/9",
        "-1/8",
        "a/8",
        "1/0",
        "1/100000",
        "1 / 8",
        "",
        "١/٢",
        "1/9" * 9,
    ):
        with pytest.raises(UsageError, match="write it as I/N"):
            read_part(text)


@pytest.mark.parametrize("of", [1, 3, 8, 11])
def test_merged_parts_are_the_bytes_of_one_process(corpus, tmp_path, of):
    """Eleven parts of eight windows: three are empty."""
    encode_all(corpus, tmp_path / "parts", of)
    result = merged(corpus, tmp_path / "parts")
    assert bytes_of(tmp_path / "merged") == whole(corpus, tmp_path)
    assert result.manifest.counts.model_dump() == {"found": 30, "ok": 26, "skipped": 2, "failed": 2}
    assert result.manifest.shards > of // 4
    assert result.manifest.part is None


def test_a_part_holds_its_items_and_says_so(corpus, parts):
    second = LatentStore.open(parts / "00002-of-00003")
    assert second.manifest.part == Part(index=2, of=3, first=8, items=12, window=4, batch_seconds=2.0)
    left_out = {problem.id for problem in second.manifest.problems}
    assert [one.id for one in second.utterances] == [x.id for x in corpus.items[8:20] if x.id not in left_out]
    assert second.manifest.counts.found == 12
    assert second.manifest.devices == ("cpu",)


def test_a_finished_part_is_not_encoded_again(corpus, parts):
    before = bytes_of(parts / "00001-of-00003")
    times = [path.stat().st_mtime_ns for path in sorted((parts / "00001-of-00003").iterdir())]
    extract_part(corpus, Unused(), parts, plan(corpus, N)[0], SMALL)
    assert bytes_of(parts / "00001-of-00003") == before
    assert times == [path.stat().st_mtime_ns for path in sorted((parts / "00001-of-00003").iterdir())]


def test_a_part_reads_no_other_part_of_the_corpus(corpus, audio, tmp_path):
    for item in corpus.items[:8] + corpus.items[20:]:
        item.file.unlink()
    extract_part(corpus, FrameCodec(), tmp_path / "parts", plan(corpus, N)[1], SMALL)
    for item in corpus.items[8:20]:
        item.file.unlink()
    with pytest.raises(UsageError, match=r"other latents \(corpus_hash"):
        extract_part(corpus, FrameCodec(), tmp_path / "parts", plan(corpus, N)[1], SMALL)


@pytest.mark.parametrize("calls", [1, 3, 5])
def test_an_interrupted_part_goes_on(corpus, parts, monkeypatch, calls):
    wanted = bytes_of(parts / "00002-of-00003")
    shutil.rmtree(parts / "00002-of-00003")
    left = iter(range(calls))

    def interrupted(*arguments: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    real = extraction.encode_batch
    monkeypatch.setattr(extraction, "encode_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract_part(corpus, FrameCodec(), parts, plan(corpus, N)[1], SMALL)
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"part 2/3: .* is unfinished; .*, then merge again"):
        merged(corpus, parts)
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N)[1], SMALL)
    assert bytes_of(parts / "00002-of-00003") == wanted


def test_an_interrupted_merge_goes_on(corpus, parts, tmp_path, monkeypatch):
    left = iter(range(2))

    def interrupted(*arguments: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    real = store.write_shard
    monkeypatch.setattr(store, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merged(corpus, parts)
    monkeypatch.undo()
    assert len(list((tmp_path / "merged").glob("shard-*"))) == 2
    merged(corpus, parts)
    assert bytes_of(tmp_path / "merged") == whole(corpus, tmp_path)


def test_a_finished_merge_needs_no_parts(corpus, parts, tmp_path):
    merged(corpus, parts)
    before = bytes_of(tmp_path / "merged")
    shutil.rmtree(parts)
    merged(corpus, parts)
    assert bytes_of(tmp_path / "merged") == before


def test_two_processes_at_the_same_part_write_the_same_bytes(corpus, parts):
    """Both in the middle at the same time: no batch is encoded before the other is there too."""
    wanted = bytes_of(parts / "00002-of-00003")
    shutil.rmtree(parts / "00002-of-00003")
    together = threading.Barrier(2, timeout=60)

    class InStep(FrameCodec):
        def description(self) -> dict[str, object]:
            return FrameCodec().description()

        def analyse(self, audio: torch.Tensor) -> torch.Tensor:
            together.wait()
            return super().analyse(audio)

    failures = []

    def work() -> None:
        try:
            extract_part(corpus, InStep(), parts, plan(corpus, N)[1], SMALL)
        except (OSError, ValueError, threading.BrokenBarrierError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert bytes_of(parts / "00002-of-00003") == wanted


def test_a_shared_store_survives_one_who_comes_later_and_ends_earlier(corpus, tmp_path):
    info = store_info(corpus, FrameCodec(), SMALL, plan(corpus, N)[0])
    rows = [(Utterance(f"u{i}", "s", 1.0), torch.full((100, DIM), float(i))) for i in range(5)]
    early = StoreWriter(tmp_path / "p", info, shared=True)
    early.add(*rows[0])
    (tmp_path / "p" / ".shard-00000.safetensors.abc.tmp").write_bytes(b"being written")
    late = StoreWriter(tmp_path / "p", info, shared=True)
    for row in rows:
        late.add(*row)
    late.finish(5)
    assert (tmp_path / "p" / ".shard-00000.safetensors.abc.tmp").exists()
    (tmp_path / "p" / ".shard-00000.safetensors.abc.tmp").unlink()
    wanted = bytes_of(tmp_path / "p")
    for row in rows[1:]:
        early.add(*row)
    early.finish(5)
    assert bytes_of(tmp_path / "p") == wanted
    later = StoreWriter(tmp_path / "p", info, shared=True)  # between its look and its start the others finished
    assert all(utterance.id in later for utterance, _ in rows)
    later.finish(5)
    assert bytes_of(tmp_path / "p") == wanted


def test_too_many_failures_are_asked_of_the_whole_corpus(corpus, tmp_path):
    strict = SMALL.model_copy(update={"max_failed": 0.05})
    encode_all(corpus, tmp_path / "parts", 8, strict)  # the first and the last part fail for a quarter
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of 30 items failed.*first s0/00\.wav"):
            merged(corpus, tmp_path / "parts", strict)
    merged(corpus, tmp_path / "parts")
    assert bytes_of(tmp_path / "merged") == whole(corpus, tmp_path)


def test_devices_are_remembered(corpus, parts, tmp_path, monkeypatch):
    shutil.rmtree(parts / "00002-of-00003")
    monkeypatch.setattr(extraction, "device_kind", lambda codec: "some GPU")
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N)[1], SMALL)
    assert read_manifest(parts / "00002-of-00003").devices == ("some GPU",)
    assert merged(corpus, parts).manifest.devices == ("cpu", "some GPU")
    StoreWriter(tmp_path / "resumed", store_info(corpus, FrameCodec(), SMALL), ["some GPU"])
    monkeypatch.undo()
    assert extract(corpus, FrameCodec(), tmp_path / "resumed", SMALL).manifest.devices == ("cpu", "some GPU")


def flip(path: Path, place: int) -> None:
    """Flip the lowest bit of a byte: latents stay finite, text stays text."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


SECOND = "00002-of-00003"
DAMAGE = {
    "missing": (lambda p: shutil.rmtree(p / SECOND), r"parts 2/3 are missing: encode them with --shard"),
    "no manifest": (lambda p: (p / SECOND / "manifest.json").unlink(), r"no latent store in .*00002-of-00003"),
    "manifest": (lambda p: flip(p / SECOND / "manifest.json", -80), r"manifest\.json is damaged .*checksum"),
    "lines": (lambda p: flip(p / SECOND / "utterances.jsonl", 12), r"part 2/3: .*utterances\.jsonl is damaged"),
    "no lines": (lambda p: (p / SECOND / "utterances.jsonl").unlink(), r"part 2/3: .*utterances\.jsonl is missing"),
    "no shard": (lambda p: (p / SECOND / "shard-00001.safetensors").unlink(), r"part 2/3: .*shard-00001.* is missing"),
    "cut shard": (
        lambda p: (p / SECOND / "shard-00001.safetensors").write_bytes(b""),
        r"part 2/3: .*shard-00001.* is missing or damaged",
    ),
}


@pytest.mark.parametrize(("damage", "line"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found_before_anything_is_written(corpus, parts, tmp_path, damage, line):
    damage(parts)
    with pytest.raises(DataError, match=line):
        merged(corpus, parts)
    assert not (tmp_path / "merged").exists()


def test_a_flipped_bit_in_a_latent_is_found_and_the_merge_goes_on_after_it_is_mended(corpus, parts, tmp_path):
    flip(parts / SECOND / "shard-00001.safetensors", -2)
    assert torch.isfinite(LatentStore.open(parts / SECOND)._shard(1)).all()
    with pytest.raises(DataError, match=r"part 2/3: .*shard-00001.*checksum.*remove the folder and extract again"):
        merged(corpus, parts)
    with pytest.raises(DataError, match="unfinished"):
        LatentStore.open(tmp_path / "merged")
    shutil.rmtree(parts / SECOND)
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N)[1], SMALL)
    merged(corpus, parts)
    assert bytes_of(tmp_path / "merged") == whole(corpus, tmp_path)


def other_codec(corpus, parts):
    extract_part(corpus, FrameCodec(scale=2.0), parts, plan(corpus, N)[1], SMALL)


def other_window(corpus, parts):
    config = SMALL.model_copy(update={"window": 2})
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N, config)[1], config)


def other_batches(corpus, parts):
    config = SMALL.model_copy(update={"batch_seconds": 1.0})
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N, config)[1], config)


def other_type(corpus, parts):
    config = SMALL.model_copy(update={"dtype": "float32"})
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N, config)[1], config)


def overlapping(corpus, parts):
    shutil.copytree(parts / "00001-of-00003", parts / SECOND)


def other_recordings(corpus, parts):
    item = corpus.items[10]
    kept = item.file.read_bytes()
    write(item.file, noise(1, seed=77))
    extract_part(corpus, FrameCodec(), parts, plan(corpus, N)[1], SMALL)
    item.file.write_bytes(kept)


STRANGERS = {
    other_codec: r"codec_fingerprint: wanted \w+, found \w+\)",
    other_window: r"part: wanted index=2 of=3 .*window=4.*found index=2 of=3 .*window=2",
    other_batches: r"part: wanted .*batch_seconds=2\.0, found .*batch_seconds=1\.0",
    other_type: r"dtype: wanted float16, found float32\)",
    overlapping: r"part: wanted index=2 of=3 first=8 .*found index=1 of=3 first=0",
    other_recordings: r"corpus_hash: wanted \w+, found \w+\)",
}


@pytest.mark.parametrize(("make", "line"), STRANGERS.items(), ids=[make.__name__ for make in STRANGERS])
def test_a_part_of_other_latents_is_refused_before_anything_is_written(corpus, parts, tmp_path, make, line):
    shutil.rmtree(parts / SECOND)
    make(corpus, parts)
    with pytest.raises(UsageError, match=rf"{SECOND} holds other latents \(.*{line}"):
        merged(corpus, parts)
    assert not (tmp_path / "merged").exists()


def test_parts_of_different_numbers_are_refused(corpus, parts, tmp_path):
    extract_part(corpus, FrameCodec(), parts, plan(corpus, 4)[0], SMALL)
    with pytest.raises(UsageError, match=r"holds parts of 3 and 4, which overlap: remove all but"):
        merged(corpus, parts)
    shutil.rmtree(parts / "00001-of-00004")
    check_number(parts, 3)
    with pytest.raises(UsageError, match=r"holds parts of 3, not of 4"):
        check_number(parts, 4)
    check_number(tmp_path / "nowhere", 4)


def test_no_parts_and_something_else(corpus, parts, tmp_path):
    with pytest.raises(DataError, match=r"there are no parts to merge: encode them with --shard I/N"):
        merge_parts(corpus, FrameCodec(), tmp_path / "nowhere", tmp_path / "merged", SMALL)
    (parts / "logs").mkdir()
    assert count_parts(parts) == 3
    (parts / "00002-of-00003 (copy)").mkdir()
    with pytest.raises(UsageError, match=r"\(copy\): is no part of a corpus: move it away"):
        merged(corpus, parts)


def test_a_corpus_that_has_grown_is_refused(corpus, parts, audio, tmp_path):
    write(audio / "s2/30.wav", noise(1, seed=30))
    with pytest.raises(UsageError, match=r"00003-of-00003 holds other latents \(corpus_hash: .*; part: wanted .*=11"):
        merged(open_corpus(f"folder:{audio}"), parts)


def rewrite(parts: Path, change: str) -> None:
    """Write the second part anew with every checksum right, but other utterances."""
    old = LatentStore.open(parts / SECOND)
    rows = [(one, old[one.id]) for one in old.utterances]
    info, problems = old.manifest, list(old.manifest.problems)
    shutil.rmtree(parts / SECOND)
    if change == "dropped":
        rows.pop(3)
    elif change == "foreign":
        rows[3] = (replace(rows[3][0], id="s0/03.wav"), rows[3][1])
    elif change == "added":
        rows.append((replace(rows[3][0], id="s0/03.wav"), rows[3][1]))
    elif change == "twice":
        problems.append(Problem(id=rows[3][0].id, status="skipped", reason="no reason"))
    elif change == "swapped":
        rows[2], rows[3] = rows[3], rows[2]
    fields = info.model_dump(include=set(type(info).__mro__[1].model_fields))
    writer = StoreWriter(parts / SECOND, type(info).__mro__[1].model_validate(fields))
    for row in rows:
        writer.add(*row)
    writer.finish(len(rows) + len(problems), problems)


CHANGES = {
    "dropped": r"has not utterance s1/\d\d\.wav",
    "foreign": r"has not utterance s1/\d\d\.wav",
    "added": r"has utterance s0/03\.wav, which is not one of its own",
    "twice": r"has an utterance more than once",
    "swapped": r"has its utterances in another order",
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_item_must_be_there_exactly_once_and_in_order(corpus, parts, tmp_path, change):
    rewrite(parts, change)
    with pytest.raises(DataError, match=rf"part 2/3: .*{CHANGES[change]}; remove it and encode the part again"):
        merged(corpus, parts)
    assert not (tmp_path / "merged").exists()


def test_rewriting_alone_is_no_damage(corpus, parts, tmp_path):
    rewrite(parts, "nothing")
    merged(corpus, parts)
    assert json.loads((tmp_path / "merged/manifest.json").read_text())["counts"]["ok"] == 26


def test_the_merge_holds_one_shard_at_a_time(corpus, parts, monkeypatch):
    most, real = [], merge.read_shard

    def counted(path: Path, checksum: str) -> torch.Tensor:
        most.append(len(real(path, checksum)))
        return real(path, checksum)

    monkeypatch.setattr(merge, "read_shard", counted)
    result = merged(corpus, parts)
    assert sum(most) == result.manifest.frames  # each is read once
    assert max(most) < SMALL.shard_frames + 120


def test_removing_parts_leaves_what_is_not_theirs(parts):
    (parts / SECOND / "notes.txt").write_text("mine")
    (parts / SECOND / ".shard-00000.safetensors.abc.tmp").write_bytes(b"left over")
    (parts / "logs").mkdir()
    remove_parts(parts)
    assert sorted(str(path.relative_to(parts)) for path in parts.rglob("*")) == [SECOND, f"{SECOND}/notes.txt", "logs"]
    (parts / SECOND / "notes.txt").unlink()
    (parts / "logs").rmdir()
    remove_parts(parts)
    assert not parts.exists()
