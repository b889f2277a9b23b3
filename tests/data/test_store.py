"""The store gives back what was put in, notices damage, and survives an interruption."""

import errno
import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_engram.data import publish
from audio_engram.data.manifest import Problem, StoreInfo, Utterance, _checksum, read_manifest
from audio_engram.data.shards import all_finite, noted_checksum, read_shard, shard_path, utterances_in_shard
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import DataError, UsageError

DIM = 3
FRAMES = {"a-1": 4, "a-2": 7, "b-1": 1, "c<&>-1": 9}


def info(**changes) -> StoreInfo:
    fields = {
        "codec": "fake",
        "codec_fingerprint": "f0",
        "tap": "latent",
        "sample_rate": 16000,
        "frame_rate": 12.5,
    }
    fields |= {
        "latent_dim": DIM,
        "corpus": "toy",
        "corpus_hash": "c0",
        "shard_frames": 10,
        "dtype": "float32",
    }
    return StoreInfo(**(fields | changes))


def latents_of(utterance_id: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(utterance_id.encode()))
    return torch.randn(FRAMES[utterance_id], DIM, generator=generator)


def add_all(writer: StoreWriter, names: list[str]) -> None:
    for name in names:
        if name not in writer:
            seconds = FRAMES[name] / 12.5
            writer.add(Utterance(name, speaker=name.split("-")[0], seconds=seconds), latents_of(name))


def write(path: Path, **changes) -> LatentStore:
    writer = StoreWriter(path, info(**changes))
    add_all(writer, list(FRAMES))
    problems = [
        Problem(id="d-1", status="skipped", reason="silent"),
        Problem(id="d-2", status="failed", reason="gone"),
    ]
    return writer.finish(found=6, problems=problems)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_round_trip(tmp_path):
    store = write(tmp_path / "store")
    assert [one.id for one in store.utterances] == list(FRAMES)
    assert all(torch.equal(store[name], latents_of(name)) for name in FRAMES)
    assert torch.equal(store.frames(), torch.cat([latents_of(name) for name in FRAMES]))
    assert store.offsets.tolist() == [0, 4, 11, 12, 21]
    assert store.frames_by_speaker == {"a": 11, "b": 1, "c<&>": 9}
    assert store.speakers == ["a", "b", "c<&>"]
    assert len(store) == 4
    assert "a-2" in store
    assert "d-1" not in store
    with pytest.raises(KeyError):
        store["d-1"]


@pytest.mark.parametrize("shard_frames", [5, 10, 11])
def test_shards_end_with_the_utterance_that_fills_them(tmp_path, shard_frames):
    store = write(tmp_path / "store", shard_frames=shard_frames)
    assert [(one.shard, one.offset) for one in store.utterances] == [(0, 0), (0, 4), (1, 0), (1, 1)]
    assert store.manifest.shards == 2


def test_manifest_accounts_for_every_item(tmp_path):
    manifest = write(tmp_path / "store").manifest
    assert manifest.counts.model_dump() == {"found": 6, "ok": 4, "skipped": 1, "failed": 1}
    assert [problem.reason for problem in manifest.problems] == ["silent", "gone"]
    assert manifest.frames == 21
    assert manifest.seconds == pytest.approx(21 / 12.5)
    with pytest.raises(ValueError, match="do not add up"):
        StoreWriter(tmp_path / "other", info()).finish(found=1)


@settings(deadline=None)  # every shard waits for the disk
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=12),
    st.integers(1, 30),
    st.sampled_from(["float16", "float32"]),
)
def test_any_run_lengths_and_shard_size_round_trip(tmp_path_factory, lengths, shard_frames, dtype):
    writer = StoreWriter(tmp_path_factory.mktemp("store"), info(shard_frames=shard_frames, dtype=dtype))
    flat = torch.arange(sum(lengths) * DIM).reshape(-1, DIM).float()
    for row, part in enumerate(flat.split(lengths)):
        writer.add(Utterance(str(row), speaker="s", seconds=1.0), part)
    store = writer.finish(found=len(lengths))
    assert torch.equal(store.frames(), flat)
    assert store.frames(None).dtype == {"float16": torch.float16, "float32": torch.float32}[dtype]
    assert store.offsets[-1] == len(flat)
    starts = store.offsets.tolist()
    rows = zip(starts[:-1], starts[1:], store.utterances, strict=True)
    assert all(torch.equal(store[one.id], flat[start:end]) for start, end, one in rows)


@pytest.mark.parametrize("stop", range(5))
def test_resume_equals_an_uninterrupted_run(tmp_path, stop):
    write(tmp_path / "whole")
    interrupted = StoreWriter(tmp_path / "cut", info())
    add_all(interrupted, list(FRAMES)[:stop])
    (tmp_path / "cut" / ".shard-00001.safetensors.99.tmp").write_bytes(b"half")
    with pytest.raises(DataError, match="unfinished"):
        LatentStore.open(tmp_path / "cut")
    assert ("a-1" in StoreWriter(tmp_path / "cut", info())) == (stop >= 2)
    write(tmp_path / "cut")
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


LOST = {
    "flipped bit": lambda p: p.write_bytes(p.read_bytes()[:-8] + b"\x01" + p.read_bytes()[-7:]),
    "cut": lambda p: _truncate(p),
    "empty": lambda p: p.write_bytes(b""),
    "no checksum": lambda p: noted_checksum(p).unlink(),
    "another checksum": lambda p: noted_checksum(p).write_bytes(b"\xff"),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("damage", LOST.values(), ids=LOST.keys())
def test_a_shard_that_was_damaged_before_the_resume_is_written_again(tmp_path, capsys, damage, index, shared):
    write(tmp_path / "whole")
    add_all(StoreWriter(tmp_path / "cut", info()), list(FRAMES))
    damage(shard_path(tmp_path / "cut", index))
    writer = StoreWriter(tmp_path / "cut", info(), shared=shared)
    assert [name in writer for name in FRAMES] == [index > 0, index > 0, False, False]
    assert f"shard-0000{index}.safetensors is damaged" in capsys.readouterr().err
    write(tmp_path / "cut")
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def test_a_store_that_another_process_has_finished_is_known_by_its_manifest(tmp_path, capsys):
    write(tmp_path)
    assert all(name in StoreWriter(tmp_path, info(), shared=True) for name in FRAMES)
    assert capsys.readouterr().err == ""
    _edit_manifest(tmp_path, shard_checksums=["0" * 64] * 2)
    assert not any(name in StoreWriter(tmp_path, info(), shared=True) for name in FRAMES)


def test_a_store_of_other_latents_is_not_continued(tmp_path):
    StoreWriter(tmp_path, info())
    with pytest.raises(UsageError, match="codec_fingerprint: wanted f1, found f0"):
        StoreWriter(tmp_path, info(codec_fingerprint="f1"))


def test_a_finished_store_is_not_written_again(tmp_path):
    write(tmp_path)
    with pytest.raises(UsageError, match="finished"):
        StoreWriter(tmp_path, info())


def test_writer_refuses_bad_latents(tmp_path):
    writer = StoreWriter(tmp_path, info(dtype="float16"))
    good = torch.zeros(2, DIM)
    writer.add(Utterance("x", "s", 1.0), good)
    for bad in [torch.zeros(0, DIM), torch.zeros(2, DIM + 1), good / 0, torch.full((2, DIM), 1e5)]:
        with pytest.raises(DataError, match="utterance y"):
            writer.add(Utterance("y", "s", 1.0), bad)
    with pytest.raises(DataError, match="its own id"):
        writer.add(Utterance("x", "s", 1.0), good)
    assert len(writer.finish(found=1)) == 1


def test_a_store_without_utterances_can_be_opened(tmp_path):
    problem = Problem(id="x", status="failed", reason="gone")
    store = StoreWriter(tmp_path, info()).finish(found=1, problems=[problem])
    assert store.frames().shape == (0, DIM)
    assert store.offsets.tolist() == [0]


def _edit_manifest(folder: Path, **changes) -> None:
    """With the right checksum, so that nothing but the change can be noticed."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text()) | changes
    del fields["checksum"]
    path.write_text(json.dumps(fields | {"checksum": _checksum(fields)}))


def _edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {
    "folder for a manifest": lambda p: _folder_instead(p / "manifest.json"),
    "nested manifest": lambda p: (p / "manifest.json").write_text("[" * 100_000),
    "long number": lambda p: (p / "manifest.json").write_text("9" * 5000),
    "folder for lines": lambda p: _folder_instead(p / "utterances.jsonl"),
    "no manifest": lambda p: (p / "manifest.json").unlink(),
    "cut manifest": lambda p: _truncate(p / "manifest.json"),
    "list for a manifest": lambda p: (p / "manifest.json").write_text("[]"),
    "newer format": lambda p: _edit_manifest(p, format=3),
    "older format": lambda p: _edit_manifest(p, format=1),
    "edited manifest": lambda p: _edit_text(p / "manifest.json", '"reason": "silent"', '"reason": "silant"'),
    "manifest without checksum": lambda p: _edit_text(p / "manifest.json", '"checksum"', '"chucksum"'),
    "a checksum too few": lambda p: _edit_manifest(p, shard_checksums=["0" * 64]),
    "other lines": lambda p: _edit_text(p / "utterances.jsonl", '"seconds": 0.56', '"seconds": 0.57'),
    "unknown field": lambda p: _edit_manifest(p, colour="red"),
    "wrong D": lambda p: _edit_manifest(p, latent_dim=4),
    "wrong type": lambda p: _edit_manifest(p, dtype="float16"),
    "wrong counts": lambda p: _edit_manifest(p, counts={"found": 5, "ok": 5}),
    "wrong number of frames": lambda p: _edit_manifest(p, frames=20),
    "missing lines": lambda p: (p / "utterances.jsonl").unlink(),
    "cut lines": lambda p: _truncate(p / "utterances.jsonl"),
    "line dropped": lambda p: _drop_line(p / "utterances.jsonl"),
    "lines swapped": lambda p: _swap_lines(p / "utterances.jsonl"),
    "missing shard": lambda p: shard_path(p, 1).unlink(),
    "cut shard": lambda p: _truncate(shard_path(p, 1)),
    "shards swapped": lambda p: shard_path(p, 0).write_bytes(shard_path(p, 1).read_bytes()),
}


def _folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _drop_line(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


def _swap_lines(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_named_with_a_remedy(tmp_path, damage):
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=r"extract(ion| the latents)? (again|first)"):
        LatentStore.open(tmp_path)


def test_values_that_are_not_finite_are_noticed_when_read(tmp_path):
    write(tmp_path)
    path = shard_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")  # a float32 NaN, little-endian
    store = LatentStore.open(tmp_path)
    assert torch.equal(store["a-1"], latents_of("a-1"))
    with pytest.raises(DataError, match="not finite"):
        store["c<&>-1"]
    with pytest.raises(DataError, match=r"shard-00001.*checksum"):
        store.frames()


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("shard_frames", [10, 100])
def test_a_flipped_bit_that_leaves_latents_finite_is_noticed(tmp_path, shard_frames, dtype):
    """Of two shards the last, or the only one; after it is mended all is well."""
    store = write(tmp_path, shard_frames=shard_frames)
    path = shard_path(tmp_path, store.manifest.shards - 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    damaged = LatentStore.open(tmp_path)
    assert torch.isfinite(damaged["c<&>-1"]).all()
    with pytest.raises(DataError, match=rf"{path.name} is missing or damaged \(its checksum is not that"):
        damaged.frames(dtype)
    path.write_bytes(whole)
    assert torch.equal(LatentStore.open(tmp_path).frames(dtype), torch.cat([latents_of(name) for name in FRAMES]))


def test_checksums_are_those_of_the_files(tmp_path):
    manifest = write(tmp_path).manifest
    files = [shard_path(tmp_path, 0), shard_path(tmp_path, 1), tmp_path / "utterances.jsonl"]
    wanted = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert [*manifest.shard_checksums, manifest.utterances_checksum] == wanted


def test_a_shard_that_is_read_is_the_one_that_was_compared(tmp_path):
    store = write(tmp_path)
    first, second = store.manifest.shard_checksums
    assert torch.equal(read_shard(shard_path(tmp_path, 0), first), store.frames()[:11])
    for path, checksum in [(shard_path(tmp_path, 0), second), (shard_path(tmp_path, 9), first)]:
        with pytest.raises(DataError, match=rf"{path.name} is missing or damaged"):
            read_shard(path, checksum)


def test_an_id_may_hold_what_ends_a_line_elsewhere(tmp_path):
    names = ["a\u2028b", "c\x85d", "e\r\nf", "g\x1ch"]
    writer = StoreWriter(tmp_path, info())
    for name in names:
        writer.add(Utterance(name, "s", 1.0), torch.ones(4, DIM))
    assert [one.id for one in writer.finish(4).utterances] == names
    assert [one.id for one in utterances_in_shard(shard_path(tmp_path, 0))] == names[:3]


def test_the_kinds_of_device_are_kept_through_a_resume(tmp_path):
    StoreWriter(tmp_path, info(), ["cpu"])
    assert read_manifest(tmp_path).devices == ("cpu",)
    writer = StoreWriter(tmp_path, info(), ["a GPU"])
    assert read_manifest(tmp_path).devices == ("a GPU", "cpu")
    assert writer.finish(0).manifest.devices == ("a GPU", "cpu")


def test_disk_full_leaves_no_half_file_and_can_be_resumed(tmp_path, monkeypatch):
    write(tmp_path / "whole")
    writer = StoreWriter(tmp_path / "full", info())
    before = bytes_of(tmp_path / "full")

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_reach_the_disk", refuse)
        with pytest.raises(DataError, match="disk full"):
            add_all(writer, list(FRAMES))
    assert bytes_of(tmp_path / "full") == before
    write(tmp_path / "full")
    assert bytes_of(tmp_path / "full") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("place", [0, 4, 1000])
def test_one_value_that_is_not_finite_is_seen(dtype, place):
    values = torch.randn(7, 143, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert all_finite(values)
    assert all_finite(values[:0])
    for bad in (float("nan"), float("inf"), -float("inf")):
        spoilt = values.clone()
        spoilt.view(-1)[place] = bad
        assert not all_finite(spoilt)


def test_it_shows_itself(tmp_path):
    store = write(tmp_path)
    assert "21 frames x 3 at 12.5 Hz" in repr(store)
    assert "4 of 3 speakers" in repr(store)
    assert "<script" not in write(tmp_path / "x", corpus="<script>")._repr_html_()
