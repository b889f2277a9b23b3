"""The unpacker takes files and folders, all of an archive or nothing, and believes no header."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_engram.data.archive import Limits, unpack
from audio_engram.errors import DataError

FILES = {"L/README.TXT": b"read me", "L/dev/1/a.flac": b"\x01" * 3000, "L/dev/2/b.flac": bytes(range(256)) * 9}
KINDS = {
    "symlink": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "contiguous": tarfile.CONTTYPE,
    "sparse": tarfile.GNUTYPE_SPARSE,
}


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def packed(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(data, mtime=0))
    return path


GOOD = tar(*(file(name, data) for name, data in FILES.items()))


def refused(path: Path, limits: Limits | None = None) -> str:
    """The one line, after a look that nothing but the archive is there."""
    with pytest.raises(DataError) as caught:
        unpack(path, path.parent / "new", limits)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    assert line.endswith("nothing was unpacked: delete the archive and fetch it again from its publisher")
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_come_out_as_they_went_in(tmp_path, form):
    long = "L/" + "d" * 90 + "/" + "f" * 90
    folder = tarfile.TarInfo("L/empty")
    folder.type = tarfile.DIRTYPE
    executable = tarfile.TarInfo("./L/run")
    executable.mode, executable.uid = 0o4777, 0
    data = tar(*(file(n, d) for n, d in FILES.items()), (folder, b""), (executable, b"#!"), file(long), form=form)
    assert unpack(packed(tmp_path, data), tmp_path / "new") == 5
    found = {p.relative_to(tmp_path / "new").as_posix(): p for p in (tmp_path / "new").rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES | {"L/run": b"#!", long: b"x"}
    assert found["L/run"].stat().st_mode & 0o7111 == 0
    assert (tmp_path / "new/L/empty").is_dir()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["/etc/passwd", "README.TXT"])
def test_neither_links_nor_devices(tmp_path, kind, target):
    data = tar(*(file(name, data) for name, data in FILES.items()), special("L/evil", KINDS[kind], target))
    if kind == "sparse":
        data = tar(special("L/evil", KINDS[kind]))
    assert refused(packed(tmp_path, data)).startswith("has 'L/evil', which is neither a plain file nor a folder")


@pytest.mark.parametrize(
    "name", ["/etc/evil", "../evil", "L/../../evil", "L/..", "..", "L\\..\\evil", "C:evil", "/", "//evil"]
)
def test_nothing_lies_outside(tmp_path, name):
    path = packed(tmp_path, tar(file("L/a"), file(name)))
    assert "which lies outside of it" in refused(path)


def test_a_sparse_file_of_the_newer_kind_is_refused(tmp_path):
    info, data = file("L/sparse", b"1\n0\n1\n" + bytes(506) + b"x")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 12}
    assert "neither a plain file" in refused(packed(tmp_path, tar((info, data))))


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("./a", "a")])
def test_no_name_twice(tmp_path, names):
    assert "twice" in refused(packed(tmp_path, tar(*map(file, names))))


@pytest.mark.parametrize("name", ["n" * 300, "d/" * 3000 + "f"])
def test_names_that_the_disk_refuses(tmp_path, name):
    assert "which cannot be written (File name too long)" in refused(packed(tmp_path, tar(file(name))))


class TestLimits:
    def test_size(self, tmp_path):
        path = packed(tmp_path, GOOD)
        size = len(GOOD)
        assert "unpacks to more than" in refused(path, Limits(size=size - 1))
        assert unpack(path, tmp_path / "new", Limits(size=size)) == 3

    def test_members(self, tmp_path):
        path = packed(tmp_path, GOOD)
        assert "holds more than 2 members" in refused(path, Limits(members=2))
        assert unpack(path, tmp_path / "new", Limits(members=3)) == 3

    def test_a_bomb_is_stopped_by_its_ratio(self, tmp_path, monkeypatch):
        monkeypatch.setattr("audio_engram.data.archive.SLACK", 1 << 18)
        path = packed(tmp_path, tar(file("bomb", bytes(1 << 20))))
        assert "unpacks to more than 20 times its size" in refused(path)
        assert unpack(path, tmp_path / "new", Limits(ratio=2000.0)) == 1

    def test_a_bomb_after_the_end_mark_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr("audio_engram.data.archive.SLACK", 1 << 18)
        assert "times its size" in refused(packed(tmp_path, GOOD + bytes(1 << 20)))

    def test_a_header_of_gigabytes_is_not_read(self, tmp_path):
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, 1 << 32
        assert f"has a header of {1 << 32} bytes" in refused(packed(tmp_path, info.tobuf() + bytes(2048)))


class TestDamage:
    @pytest.mark.parametrize(
        "data", [b"", b"text, no gzip", gzip.compress(b"text, no tar", mtime=0), gzip.compress(b"", mtime=0)]
    )
    def test_other_files(self, tmp_path, data):
        path = tmp_path / "a.tar.gz"
        path.write_bytes(data)
        assert "is damaged" in refused(path)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_half_a_download(self, tmp_path, share):
        path = packed(tmp_path, GOOD)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "is damaged" in refused(path)

    @pytest.mark.parametrize("keep", [512, 700, 1024, 1300, 5120, len(GOOD) // 2])
    def test_a_tar_cut_before_it_was_packed(self, tmp_path, keep):
        """Python's tarfile takes most of these for a whole archive with fewer members."""
        assert "is damaged" in refused(packed(tmp_path, GOOD[:keep]))

    def test_a_broken_header_in_the_middle_is_no_end(self, tmp_path):
        data = bytearray(GOOD)
        data[1024:1124] = b"\xff" * 100
        assert "is damaged" in refused(packed(tmp_path, bytes(data)))

    def test_bytes_after_the_end(self, tmp_path):
        assert "bytes after its end" in refused(packed(tmp_path, GOOD + GOOD))

    def test_the_checksum_of_gzip_is_read(self, tmp_path):
        path = packed(tmp_path, GOOD)
        data = bytearray(path.read_bytes())
        data[-6] ^= 1
        path.write_bytes(data)
        assert "CRC check failed" in refused(path)

    @settings(max_examples=150, deadline=None)
    @given(place=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
    def test_any_byte_changed_in_the_tar(self, tmp_path_factory, place, value):
        """Whatever a header says: the archive is refused, or unpacked inside its folder."""
        data = bytearray(GOOD)
        data[place] = value
        folder = tmp_path_factory.mktemp("fuzz")
        try:
            unpack(packed(folder, bytes(data)), folder / "new")
        except DataError:
            assert [one.name for one in folder.iterdir()] == ["a.tar.gz"]
        else:
            assert sorted(one.name for one in folder.iterdir()) == ["a.tar.gz", "new"]
            assert not any(one.is_symlink() for one in folder.rglob("*"))


def test_a_killed_run_leaves_nothing_in_the_way(tmp_path):
    (tmp_path / ".new.unpacking/L").mkdir(parents=True)
    (tmp_path / ".new.unpacking/L/README.TXT").write_text("old")
    unpack(packed(tmp_path, GOOD), tmp_path / "new")
    assert (tmp_path / "new/L/README.TXT").read_bytes() == b"read me"
    assert not (tmp_path / ".new.unpacking").exists()
