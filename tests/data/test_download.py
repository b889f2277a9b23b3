"""Downloads from a server that breaks off, forgets ranges or sends the wrong thing; and the command that uses them."""

import errno
import hashlib
import io
import json
import re
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_engram import cli
from audio_engram.data import download, librispeech
from audio_engram.data.download import fetch
from audio_engram.data.librispeech import SUBSETS, download_librispeech
from audio_engram.errors import DataError, MissingError, UsageError

BODY = np.random.default_rng(0).bytes(100_000)
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Sends `files`; its attributes say in which way it is a bad server."""

    daemon_threads = True
    ranges = True
    cut_after = 0  # bytes of each answer, then the connection is closed
    status: tuple[int, ...] = ()  # of the first answers
    length = True
    shift = 0  # of the part that is sent

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append((self.path, wanted))
        if server.status:
            code, *rest = server.status
            server.status = tuple(rest)
            self.send_error(code)
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        body, start = server.files[self.path], 0
        if wanted and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            start += server.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + server.cut_after] if server.cut_after else body[start:])


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.files["/x.bin"] = BODY
        yield running
        running.shutdown()
        thread.join()


def starts(server: Server) -> list[int]:
    return [int(wanted.removeprefix("bytes=").removesuffix("-") or 0) for _, wanted in server.asked]


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_file_in_one_go(server, tmp_path):
    fetch(f"{server.url}/x.bin", tmp_path / "deep/x.bin", MD5)
    assert (tmp_path / "deep/x.bin").read_bytes() == BODY
    assert names(tmp_path / "deep") == ["x.bin"]
    fetch(f"{server.url}/x.bin", tmp_path / "deep/x.bin", MD5)
    assert len(server.asked) == 1  # a file that is there is not fetched again


def test_a_server_that_breaks_off_is_asked_for_the_rest(server, tmp_path):
    server.cut_after = 30_000
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert starts(server) == [0, 30_000, 60_000, 90_000]


def test_what_an_earlier_run_left_is_gone_on_from(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(BODY[:99_999])
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert starts(server) == [99_999]


def test_a_whole_part_needs_no_byte_more(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(BODY)
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY


def test_a_part_longer_than_the_file_is_begun_again(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(BODY + b"x")
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY
    assert starts(server) == [len(BODY) + 1, 0]


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "x.bin.part").write_bytes(b"y" * 70_000)
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY


def test_a_server_that_names_no_length(server, tmp_path):
    server.length = False
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_never_gets_on_is_given_up(server, tmp_path, ranges):
    server.ranges, server.cut_after = ranges, 30_000
    if ranges:
        server.files["/x.bin"] = BODY[:30_000]
        server.cut_after, server.shift = 30_000, 5  # another part than the one asked for
        (tmp_path / "x.bin.part").write_bytes(BODY[:20_000])
    with pytest.raises(
        MissingError, match=r"cannot be reached \((it ended early|it sends another part.*)\); check the"
    ):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert len(server.asked) == download.TRIES + (0 if ranges else 1)
    assert names(tmp_path) == ["x.bin.part"]


def test_a_server_in_trouble_is_asked_again(server, tmp_path):
    server.status = (500, 503, 429)
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert len(server.asked) == 4


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (502, download.TRIES)])
def test_a_refusal_is_one_line(server, tmp_path, status, times):
    server.status = (status,) * 9
    with pytest.raises(MissingError, match=rf"x\.bin: .*the server answers {status} .*--mirror$"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert len(server.asked) == times


def test_a_wrong_checksum_is_put_aside_and_does_not_stand_in_the_way(server, tmp_path):
    server.files["/x.bin"] = BODY[::-1]
    with pytest.raises(DataError, match=rf"wanted {MD5}, .*put aside as .*x\.bin\.bad: delete that, and run"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert names(tmp_path) == ["x.bin.bad"]
    server.files["/x.bin"] = BODY
    fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (tmp_path / "x.bin").read_bytes() == BODY


def test_a_file_that_was_there_and_is_damaged(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(BODY[:-1])
    with pytest.raises(DataError, match="put aside"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)
    assert (names(tmp_path), server.asked) == (["x.bin.bad"], [])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "/etc/passwd", "//x/y"])
def test_other_addresses(tmp_path, url):
    with pytest.raises(UsageError, match="downloads go over https"):
        fetch(url, tmp_path / "x", MD5)
    assert names(tmp_path) == []


def test_no_room(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"0\.0 GB free; free some space"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DataError), (errno.EROFS, UsageError)])
def test_a_disk_that_takes_nothing(server, tmp_path, monkeypatch, number, error):
    def full(*args: object) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(error, match=r"disk full .*free some space|cannot be written .*--to"):
        fetch(f"{server.url}/x.bin", tmp_path / "x.bin", MD5)


# --- LibriSpeech ---


def archive(subset: str, extra: dict[str, bytes] | None = None) -> bytes:
    """A subset of two speakers in the published layout."""
    buffer, sound = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, np.random.default_rng(1).uniform(-0.5, 0.5, 16000), 16000, format="FLAC")
    files = {"SPEAKERS.TXT": b"19 | F | x\n103 | M | y\n", "README.TXT": b"about " + subset.encode()}
    files |= {f"{subset}/{s}/1/{s}-1-0000.flac": sound.getvalue() for s in (19, 103)}
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in (files | (extra or {})).items():
            info = tarfile.TarInfo(f"LibriSpeech/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def openslr(server, monkeypatch) -> Server:
    """A server of two subsets, with their checksums."""
    for subset in ("dev-clean", "test-clean"):
        publish(server, monkeypatch, subset, archive(subset))
    return server


def publish(server: Server, monkeypatch, subset: str, data: bytes) -> None:
    server.files[f"/12/{subset}.tar.gz"] = data
    monkeypatch.setitem(SUBSETS, subset, hashlib.md5(data, usedforsecurity=False).hexdigest())


def engram(capsys, *words: str) -> tuple[int, str, list[str]]:
    code = cli.main(words)
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_published_checksums():
    """As md5sum.txt of openslr.org/12 has them; an unnoticed edit must not pass."""
    assert len(SUBSETS) == 7
    together = "".join(f"{name} {md5}\n" for name, md5 in sorted(SUBSETS.items()))
    assert hashlib.sha256(together.encode()).hexdigest()[:16] == "16450ae397f9033d"


def test_the_command_fetches_unpacks_and_the_corpus_opens(openslr, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "corpus",
        "download",
        "librispeech",
        "dev-clean",
        "test-clean",
        "--to",
        "d",
        "--mirror",
        f"{openslr.url}/12/",
    ]
    code, out, err = engram(capsys, *words)
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        "d/LibriSpeech/dev-clean",
        "d/LibriSpeech/test-clean",
        "use it with --corpus librispeech:d",
    ]
    assert names(tmp_path / "d") == ["LibriSpeech"]
    assert names(tmp_path / "d/LibriSpeech") == ["README.TXT", "SPEAKERS.TXT", "dev-clean", "test-clean"]
    assert (tmp_path / "d/LibriSpeech/README.TXT").read_text() == "about dev-clean"
    code, out, err = engram(capsys, "corpus", "check", "librispeech:d", "--json")
    assert code == 3  # the two subsets here hold utterances of one name
    assert "103-1-0000 more than once" in err[0]
    code, out, err = engram(capsys, "corpus", "check", "librispeech:d/LibriSpeech/dev-clean", "--json")
    facts = {"utterances": 2, "speakers": 2, "most_of_one_speaker": 1, "held_out": 0}
    facts |= {"subsets": {"dev-clean": 2}, "missing": 0}
    assert (code, json.loads(out), err) == (0, facts, [])
    before = len(openslr.asked)
    code, out, _ = engram(capsys, *words, "--json")
    assert json.loads(out) == {"corpus": "librispeech:d", "fetched": {"dev-clean": False, "test-clean": False}}
    assert len(openslr.asked) == before


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["dev-claen", "--to", "d"], 2, r"LibriSpeech has no subset 'dev-claen'; known: dev-clean, dev-other,"),
        (["dev-clean", "--to", "d", "--mirror", "ftp://x"], 2, r"ftp://x/dev-clean\.tar\.gz: downloads go over https"),
        (["dev-clean"], 2, r"the following arguments are required: --to; see engram corpus download --help"),
        (["dev-clean", "--to", "file/d", "--mirror", "http://127.0.0.1:9"], 2, r"file/d: cannot be written .*--to"),
    ],
)
def test_wrong_words(tmp_path, capsys, monkeypatch, words, code, line):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    try:
        found, out, err = engram(capsys, "corpus", "download", "librispeech", *words)
    except SystemExit as leaving:
        found, (out, text) = leaving.code, capsys.readouterr()
        err = text.splitlines()
    assert (found, out, len(err)) == (code, "", 1), err
    assert re.match(f"engram: {line}", err[0]), err
    assert names(tmp_path) == ["file"]


def test_offline_is_one_line_and_exit_code_4(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with socket.socket() as free:  # bound and not listening: the connection is refused
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        code, out, err = engram(capsys, "corpus", "download", "librispeech", "dev-clean", "--to", "d", "--mirror", url)
    assert (code, out, len(err)) == (4, "", 1)
    wanted = (
        rf"engram: {url}/dev-clean\.tar\.gz: cannot be reached \(.*refused\); check the network and run .*--mirror$"
    )
    assert re.match(wanted, err[0]), err


def test_a_silent_server_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(MissingError, match=r"reached \(timed out\)"):
        fetch(f"http://127.0.0.1:{deaf.getsockname()[1]}/x", tmp_path / "x", MD5)


EVIL = {
    "link": (tarfile.SYMTYPE, "LibriSpeech/dev-clean/19/1/19-1-0009.flac"),
    "up": (tarfile.REGTYPE, "LibriSpeech/../../evil.flac"),
}


@pytest.mark.parametrize("kind", [*EVIL, "damaged", "other"])
def test_a_bad_archive_leaves_no_corpus(openslr, tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    data = archive("dev-clean") if kind != "other" else archive("dev-other")
    if kind in EVIL:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            info = tarfile.TarInfo(EVIL[kind][1])
            info.type, info.linkname = EVIL[kind][0], "/etc/passwd"
            tar.addfile(info)
        data = buffer.getvalue()
    publish(openslr, monkeypatch, "dev-clean", data[:-300] if kind == "damaged" else data)
    words = ["corpus", "download", "librispeech", "dev-clean", "--to", "d", "--mirror", f"{openslr.url}/12"]
    code, out, err = engram(capsys, *words)
    assert (code, out, len(err)) == (3, "", 1)
    line = {
        "link": "has '.*19-1-0009.flac', which is neither a plain file nor a folder; nothing was unpacked",
        "up": r"has '.*\.\./evil\.flac', which lies outside of it; nothing was unpacked",
        "damaged": "is damaged .*; nothing was unpacked: delete the archive and fetch it again",
        "other": "the archive of dev-clean has no folder LibriSpeech/dev-clean; delete it and fetch it again",
    }[kind]
    assert re.search(line, err[0]), err
    assert names(tmp_path / "d") == ["dev-clean.tar.gz"]
    assert names(tmp_path) == ["d"]
    # As the line says.
    Path("d/dev-clean.tar.gz").unlink()
    publish(openslr, monkeypatch, "dev-clean", archive("dev-clean"))
    assert engram(capsys, *words)[0] == 0


def test_a_subset_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "LibriSpeech/dev-clean").mkdir(parents=True)
    assert download_librispeech("dev-clean", tmp_path, "http://127.0.0.1:9") is False
    with pytest.raises(UsageError, match="no subset 'dev-claen'; did you mean dev-clean"):
        download_librispeech("dev-claen", tmp_path)


def test_a_local_folder_of_archives(tmp_path, capsys, monkeypatch):
    """The offline case: nothing is copied, and the archives stay where they are."""
    monkeypatch.chdir(tmp_path)
    data = archive("dev-clean")
    monkeypatch.setitem(SUBSETS, "dev-clean", hashlib.md5(data, usedforsecurity=False).hexdigest())
    Path("archives").mkdir()
    words = ["corpus", "download", "librispeech", "dev-clean", "--to", "new/d", "--mirror", "archives"]
    code, out, err = engram(capsys, *words)
    assert (code, out, len(err)) == (4, "", 1)
    assert (
        err[0] == "engram: archives/dev-clean.tar.gz: is not there; put the archive into the folder given with --mirror"
    )
    Path("archives/dev-clean.tar.gz").write_bytes(data[:-1])
    code, out, err = engram(capsys, *words)
    assert (code, out, len(err)) == (3, "", 1)
    assert re.search(r"its MD5 is \w+, wanted \w+: it is damaged or another file; copy it again", err[0])
    assert not Path("new").exists()
    Path("archives/dev-clean.tar.gz").write_bytes(data)
    code, out, err = engram(capsys, *words)
    assert (code, out.splitlines()[0], err) == (0, "new/d/LibriSpeech/dev-clean", [])
    assert names(tmp_path / "new/d") == ["LibriSpeech"]
    assert Path("archives/dev-clean.tar.gz").read_bytes() == data
    assert engram(capsys, "corpus", "check", "librispeech:new/d")[0] == 0


def test_a_killed_run_between_the_steps_goes_on(openslr, tmp_path, monkeypatch):
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(librispeech, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            download_librispeech("dev-clean", tmp_path, f"{openslr.url}/12")
    assert names(tmp_path) == ["dev-clean.tar.gz"]
    (tmp_path / ".dev-clean/LibriSpeech").mkdir(parents=True)  # as a kill amid the renames leaves it
    assert download_librispeech("dev-clean", tmp_path, f"{openslr.url}/12") is True
    assert len(openslr.asked) == 1
    assert names(tmp_path) == ["LibriSpeech"]


# --- engram corpus check ---


def test_check_names_missing_and_empty_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.full(100, 0.1), 16000)
    Path("empty.wav").write_bytes(b"")
    rows = ["file,speaker,start,subset", "a.wav,s,,x", "a.wav,s,0.001,x", "empty.wav,t,,y", "gone.wav,t,1,y"]
    Path("list.csv").write_text("\n".join(rows))
    code, out, err = engram(capsys, "corpus", "check", "manifest:list.csv")
    assert code == 3
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["utterances", "4"],
        ["speakers", "2"],
        ["most_of_one_speaker", "2"],
        ["held_out", "0 speakers at data.test = 0.25: too few to divide, and for verdicts, which need 6"],
        ["subsets", "x 2, y 2"],
        ["missing", "2"],
    ]
    assert err == [
        "empty.wav: empty.wav",
        "gone.wav#1-: gone.wav",
        "engram: 2 of 4 utterances have no file, first empty.wav: empty.wav; fetch them",
    ]


@pytest.mark.parametrize(
    ("spec", "code", "line"),
    [
        ("maniefst:x", 2, "there is no corpus 'maniefst:x'; did you mean manifest"),
        ("manifest:no.csv", 3, r"no\.csv does not exist; give the file that lists"),
        ("lhotse:", 2, "should be written lhotse:PATH"),
    ],
)
def test_check_of_what_cannot_be_opened(capsys, spec, code, line):
    found, out, err = engram(capsys, "corpus", "check", spec)
    assert (found, out, len(err)) == (code, "", 1)
    assert line.replace(r"\.", ".") in err[0]


def test_check_of_the_demo(capsys):
    code, out, err = engram(capsys, "corpus", "check", "demo", "--json")
    assert (code, json.loads(out)["speakers"], json.loads(out)["held_out"], err) == (0, 32, 8, [])
    lines = dict(line.split(maxsplit=1) for line in engram(capsys, "corpus", "check", "demo")[1].splitlines())
    assert lines["held_out"] == "8 speakers at data.test = 0.25: enough for verdicts, which need 6"
    assert lines["subsets"] == "none"


def test_check_of_latents(tmp_path, capsys):
    for speaker in range(4):
        (tmp_path / f"s{speaker}").mkdir()
        np.save(tmp_path / f"s{speaker}/a.npy", np.ones((10 + speaker, 3), np.float32))
    code, out, err = engram(capsys, "corpus", "check", f"latents:{tmp_path}", "--json")
    facts = {"utterances": 4, "speakers": 4, "most_of_one_speaker": 1, "held_out": 1, "subsets": {}}
    facts |= {"D": 3, "dtype": "float32", "frames": 46, "problems": 0}
    assert (code, json.loads(out), err) == (0, facts, [])
    np.save(tmp_path / "s3/b.npy", np.full((9, 3), np.nan, np.float32))
    np.save(tmp_path / "s3/c.npy", np.ones((9, 4), np.float32))
    code, out, err = engram(capsys, "corpus", "check", f"latents:{tmp_path}")
    assert (code, len(err)) == (3, 3)
    assert "problems             2" in out
    assert "held_out             1 speaker at data.test = 0.25: too few for verdicts, which need 6" in out
    assert "s3/b.npy: frame 0 is not finite" in err[0]
    assert err[2].startswith("engram: 2 of 6 utterances cannot be used, first s3/b.npy")


def test_a_world_is_not_checked(capsys):
    code, out, err = engram(capsys, "corpus", "check", "world:ar")
    assert (code, out, len(err)) == (2, "", 1)
    assert "nothing to check" in err[0]
