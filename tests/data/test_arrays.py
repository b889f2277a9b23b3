"""Latents as arrays: what counts as an utterance, who speaks, and what is done with arrays that cannot be used."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from audio_engram.data.array_store import write_arrays
from audio_engram.data.arrays import Arrays, open_arrays
from audio_engram.data.splits import split_speakers
from audio_engram.errors import DataError, UsageError

D = 6


def latents(seed: int, frames: int = 20, dim: int = D) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((frames, dim)).astype(np.float32)


def npy(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def pack(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name.replace("__", "/"): torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


def whole(folder: Path, speakers: int = 4) -> Arrays:
    for speaker in range(speakers):
        npy(folder / f"s{speaker}/a.npy", latents(speaker))
    return open_arrays(folder)


class TestOpen:
    def test_files_and_tensors_are_utterances(self, tmp_path):
        npy(tmp_path / "ann/x.npy", latents(0))
        npy(tmp_path / "ann/deep/y.npy", latents(1).astype(np.float64)).rename(tmp_path / "ann/z.NPY")
        pack(tmp_path / "bob/p.safetensors", u2=latents(2), u1=latents(3), part__u3=latents(4).astype(np.float16))
        (tmp_path / "ann/notes.txt").write_text("")
        arrays = open_arrays(tmp_path)
        assert [(item.id, item.speaker) for item in arrays.items] == [
            ("ann/x.npy", "ann"),
            ("ann/z.NPY", "ann"),
            ("bob/p/part/u3", "bob"),
            ("bob/p/u1", "bob"),
            ("bob/p/u2", "bob"),
        ]
        assert (arrays.latent_dim, arrays.dtype, arrays.speakers) == (D, "float32", ["ann", "bob"])
        for item, seed in zip(arrays.items, (0, 1, 4, 3, 2), strict=True):
            values = arrays.load(item)
            assert values.dtype == torch.float32
            assert torch.allclose(values, torch.from_numpy(latents(seed)), atol=2e-3 if seed == 4 else 0)

    def test_table_names_ids_or_packs(self, tmp_path):
        npy(tmp_path / "x.npy", latents(0))
        pack(tmp_path / "p.safetensors", u1=latents(1), u2=latents(2))
        table = "file,speaker,subset\nx.npy,Zoë,dev\np.safetensors,b,\np/u2,c,test\ngone.npy,c,\n"
        (tmp_path / "speakers.csv").write_text(table, encoding="utf-8")
        found = [(item.id, item.speaker, item.subset) for item in open_arrays(tmp_path).items]
        assert found == [("gone.npy", "c", ""), ("p/u1", "b", ""), ("p/u2", "c", "test"), ("x.npy", "Zoë", "dev")]

    def test_any_layout_of_numbers_in_memory(self, tmp_path):
        want = latents(0)
        for name, array in [
            ("fortran", np.asfortranarray(want)),
            ("big", want.astype(">f4")),
            ("double", want.astype(">f8")),
        ]:
            npy(tmp_path / f"s/{name}.npy", array)
        arrays = open_arrays(tmp_path)
        assert all(torch.equal(arrays.load(item), torch.from_numpy(want)) for item in arrays.items)

    @pytest.mark.parametrize(
        ("files", "table", "message"),
        [
            ([], None, r"no \.npy or \.safetensors below"),
            (["x.npy"], None, r"x\.npy \(1 such files\) has no speaker; put each speaker's files in a folder"),
            (["p.safetensors"], None, "has no speaker"),
            (["x.npy"], "file,speaker\ny.npy,a\n", r"has no row for x\.npy; add one"),
            (
                ["p.safetensors"],
                "file,speaker\np/other,a\n",
                r"has no row for p/u; add one for it or for p\.safetensors",
            ),
            (["x.npy"], "name,speaker\nx.npy,a\n", "row 1 should name the columns file,speaker"),
            (["x.npy"], "file,speaker\nx.npy,a\nx.npy,b\n", r"row 3 lists x\.npy again"),
            ([], "file,speaker\nx.npy,a\n", r"none of 1 arrays can be used, first .*x\.npy: cannot be read \(No such"),
            (
                ["s/q.npy", "s.safetensors"],
                "file,speaker\ns/q.npy,a\ns.safetensors,a\n",
                "has the id s/q.npy more than",
            ),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, files, table, message):
        for name in files:
            if name.endswith(".npy"):
                npy(tmp_path / name, latents(0))
            else:
                pack(tmp_path / name, **{"q.npy" if "s/q.npy" in files else "u": latents(1)})
        if table:
            (tmp_path / "speakers.csv").write_text(table)
        with pytest.raises(DataError, match=message):
            open_arrays(tmp_path)

    def test_the_path_is_a_folder(self, tmp_path):
        with pytest.raises(DataError, match="does not exist; give the folder"):
            open_arrays(tmp_path / "no")
        with pytest.raises(DataError, match="is a file; give the folder"):
            open_arrays(npy(tmp_path / "x.npy", latents(0)))

    def test_fingerprint_changes_with_what_matters(self, tmp_path):
        def fingerprint(folder: str, array: np.ndarray, name: str = "s/x.npy") -> str:
            npy(tmp_path / folder / name, array)
            return open_arrays(tmp_path / folder).fingerprint()

        changed = latents(0)
        changed[3, 2] += 1
        found = [
            fingerprint("one", latents(0)),
            fingerprint("changed", changed),
            fingerprint("longer", latents(0, 21)),
            fingerprint("double", latents(0).astype(np.float64)),
            fingerprint("renamed", latents(0), "s/y.npy"),
            fingerprint("speaker", latents(0), "t/x.npy"),
        ]
        assert len(set(found)) == 6
        assert fingerprint("same", latents(0)) == found[0]


BAD = {
    "nan": (np.where(np.arange(120).reshape(20, D) == 43, np.nan, latents(9)), r"frame 7 is not finite \(1 of 20"),
    "inf": (np.full((20, D), np.inf, np.float16), r"frame 0 is not finite \(20 of 20"),
    "too large": (np.full((20, D), 1e300), "frame 0 is not finite"),
    "other D": (latents(9, dim=D + 1), "has D = 7, but 4 of 5 arrays have 6; leave it out"),
    "vector": (latents(9)[:, 0], r"has shape \(20,\), wanted \(frames, D\)"),
    "batch": (latents(9)[None], r"has shape \(1, 20, 6\)"),
    "no frames": (latents(9)[:0], "no array|has shape"),
    "no dims": (latents(9)[:, :0], "no array|has shape"),
    "whole numbers": (np.ones((20, D), np.int64), "holds torch.int64, wanted float16"),
    "complex": (np.ones((20, D), np.complex64), "holds torch.complex64"),
    "text": (np.full((20, D), "x"), "no array that can be read"),
    "objects": (np.full((20, D), None), "no array that can be read"),
}
RAW = {
    "empty file": (b"", "no array that can be read|cannot be read"),
    "no array": (b"not an array at all", "no array that can be read"),
    "header only": (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',", "no array that can be read"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "no array that can be read"),
    "archive": (b"PK\x03\x04" + bytes(100), "no array that can be read"),
}


class TestWrite:
    def test_the_store_holds_what_the_arrays_hold(self, tmp_path):
        arrays = whole(tmp_path / "in")
        store = write_arrays(arrays, 12.5, tmp_path / "out")
        m = store.manifest
        assert (m.codec, m.tap, m.frame_rate, m.sample_rate, m.latent_dim) == ("latents", "", 12.5, 13, D)
        assert (m.corpus, m.synthetic, m.dtype) == ("latents:in", False, "float32")
        assert (m.counts.found, m.counts.ok, m.seconds) == (4, 4, pytest.approx(4 * 20 / 12.5))
        for seed, utterance in enumerate(store.utterances):
            assert (utterance.id, utterance.speaker) == (f"s{seed}/a.npy", f"s{seed}")
            assert torch.equal(store[utterance.id], torch.from_numpy(latents(seed)))
        assert len({utterance.source for utterance in store.utterances}) == 4
        assert set(split_speakers(store.frames_by_speaker).values()) == {"train", "validation", "test"}

    def test_half_precision_stays_half(self, tmp_path):
        npy(tmp_path / "in/s/a.npy", latents(0).astype(np.float16))
        store = write_arrays(open_arrays(tmp_path / "in"), 50.0, tmp_path / "out")
        assert store.manifest.dtype == "float16"
        assert torch.equal(store["s/a.npy"], torch.from_numpy(latents(0)).half().float())

    def test_a_finished_store_is_reused_and_another_refused(self, tmp_path):
        arrays = whole(tmp_path / "in")
        first = write_arrays(arrays, 12.5, tmp_path / "out")
        before = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
        write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out")
        assert {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
        with pytest.raises(UsageError, match=r"holds other latents \(.*frame_rate: wanted 25\.0, found 12\.5"):
            write_arrays(arrays, 25.0, tmp_path / "out")
        npy(tmp_path / "in/s0/a.npy", latents(77))
        with pytest.raises(UsageError, match="holds other latents"):
            write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out")

    @pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
    def test_the_frame_rate_is_a_number(self, tmp_path, rate):
        with pytest.raises(UsageError, match=r"a frame rate of .* Hz; say how many"):
            write_arrays(whole(tmp_path / "in"), rate, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("kind", [*BAD, *RAW])
    def test_an_array_that_cannot_be_used_is_counted_with_its_reason(self, tmp_path, kind):
        whole(tmp_path / "in")
        bad = tmp_path / "in/s4/bad.npy"
        if kind in BAD:
            npy(bad, BAD[kind][0])
        else:
            bad.parent.mkdir()
            bad.write_bytes(RAW[kind][0])
        store = write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out", max_failed=0.2)
        counts = store.manifest.counts
        assert (counts.found, counts.ok, counts.skipped, counts.failed) == (5, 4, 0, 1)
        problem = store.manifest.problems[0]
        assert problem.id == "s4/bad.npy"
        message = (BAD | RAW)[kind][1]
        with pytest.raises(
            DataError, match=rf"1 of 5 items failed, .*max_failed = 0\.1; first .*({message}).*--resume"
        ):
            write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out", max_failed=0.1)

    def test_short_arrays_are_skipped_and_damaged_packs_are_one_failure(self, tmp_path):
        whole(tmp_path / "in")
        npy(tmp_path / "in/s0/short.npy", latents(5, frames=8))
        path = pack(tmp_path / "in/s1/p.safetensors", u1=latents(1), u2=latents(2))
        path.write_bytes(path.read_bytes()[:-10])
        store = write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out", max_failed=0.5)
        assert [(problem.id, problem.status) for problem in store.manifest.problems] == [
            ("s0/short.npy", "skipped"),
            ("s1/p.safetensors", "failed"),
        ]
        assert "8 of at least 9 frames" in store.manifest.problems[0].reason

    @pytest.mark.parametrize("odd", ["a", "z"])
    def test_the_array_of_another_d_is_to_blame_wherever_it_stands(self, tmp_path, odd):
        whole(tmp_path / "in")
        npy(tmp_path / f"in/{odd}/x.npy", latents(9, dim=D + 1).astype(np.float64))
        store = write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out", max_failed=0.2)
        (problem,) = store.manifest.problems
        assert (store.manifest.latent_dim, store.manifest.counts.ok) == (D, 4)
        assert problem.reason == f"{odd}/x.npy: has D = 7, but 4 of 5 arrays have 6; leave it out"

    def test_the_odd_array_does_not_decide_the_type(self, tmp_path):
        for speaker in range(3):
            npy(tmp_path / f"{speaker}/x.npy", latents(speaker).astype(np.float16))
        npy(tmp_path / "odd/x.npy", latents(9, dim=D + 1))
        assert open_arrays(tmp_path).dtype == "float16"

    @pytest.mark.parametrize("table", ["", "file,speaker\na/p.safetensors,a\n"])
    def test_a_pack_without_tensors_is_a_failure(self, tmp_path, table):
        whole(tmp_path / "in")
        pack(tmp_path / "in/a/p.safetensors")
        if table:
            rows = "".join(f"s{speaker}/a.npy,s{speaker}\n" for speaker in range(4))
            (tmp_path / "in/speakers.csv").write_text(table + rows)
        store = write_arrays(open_arrays(tmp_path / "in"), 12.5, tmp_path / "out", max_failed=0.2)
        assert store.manifest.counts.found == 5
        (problem,) = store.manifest.problems
        assert problem.id == "a/p.safetensors"
        assert problem.reason.endswith("a/p.safetensors: holds no tensor; write it again or leave it out")

    def test_nothing_usable(self, tmp_path):
        npy(tmp_path / "short/s/a.npy", latents(0, frames=3))
        with pytest.raises(DataError, match=r"none of 1 items could be .*too short"):
            write_arrays(open_arrays(tmp_path / "short"), 12.5, tmp_path / "out")
        npy(tmp_path / "bad/s/a.npy", latents(0)[0])
        with pytest.raises(DataError, match=r"none of 1 arrays can be used, first .*has shape \(6,\)"):
            open_arrays(tmp_path / "bad")


@pytest.mark.parametrize("shape", ["-" * 20_000 + "1", "1" + "+1" * 20_000])
def test_a_header_that_breaks_the_parser_is_a_failed_array(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}, 3)}}\n".encode()
    file = tmp_path / "s" / "bad.npy"
    file.parent.mkdir()
    file.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    with pytest.raises(DataError, match=r"bad\.npy: no array that can be read"):
        open_arrays(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    np.save(tmp_path / "a.npy", np.zeros((20, 3), np.float32))
    os.rename(tmp_path / "a.npy", folder + b"/a.npy")
    with pytest.raises(DataError, match=r"'\\udcff/a\.npy' .* is not named in UTF-8; rename it"):
        open_arrays(tmp_path)
