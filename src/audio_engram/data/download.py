"""Fetch a large file over HTTP: a broken transfer is resumed, and the file gets its name once its checksum is right."""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError

from audio_engram.data.progress import Progress
from audio_engram.data.publish import FULL
from audio_engram.errors import DataError, MissingError, UsageError

TIMEOUT = 60.0
PAUSE = 1.0
TRIES = 5
"""Tries in a row without a single new byte."""
BUSY = (408, 429)
BLOCK = 1 << 20
MEGABYTE = 10**6


def fetch(url: str, path: Path, md5: str) -> None:
    """Fetch `url` into `path`, unless it is there; what an earlier call left in `path.part` is gone on from.

    Raises: MissingError when the server cannot be reached or refuses, DataError for a wrong checksum or a full
    disk, UsageError for an address that is not http(s) or a place that cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(
            f"{url}: downloads go over https:// or http://, or come from a local folder that is there;"
            " mend what --mirror says"
        )
    part = path.with_name(f"{path.name}.part")
    with written_below(path.parent):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _fill(url, part)
        whole = path if path.exists() else part
        found, bad = file_md5(whole), path.with_name(f"{path.name}.bad")
        whole.replace(path if found == md5 else bad)
    if found != md5:
        raise DataError(
            f"{url}: its MD5 is {found}, wanted {md5}, so it is damaged or another file; it was put aside as {bad}:"
            " delete that, and run the same command again or give another server with --mirror"
        )


def local_archive(path: Path, md5: str) -> Path:
    """`path`, an archive that is there already.

    Raises: MissingError when it is not, DataError when it cannot be read or its checksum is wrong; it is left as it is.
    """
    if not path.is_file():
        raise MissingError(f"{path}: is not there; put the archive into the folder given with --mirror")
    try:
        found = file_md5(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions or copy it again") from error
    if found != md5:
        raise DataError(f"{path}: its MD5 is {found}, wanted {md5}: it is damaged or another file; copy it again")
    return path


@contextmanager
def written_below(folder: Path) -> Iterator[None]:
    """Say in one line what keeps files from being written below `folder`.

    Raises: DataError when the disk is full, UsageError when the place cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DataError(f"disk full ({error.strerror}) at {folder}; free some space and run it again") from error
        raise UsageError(f"{folder}: cannot be written ({error}); choose another place with --to") from error


def file_md5(path: Path) -> str:
    """MD5 of a file: what archives publish. It finds damage; it is no defence against forgery."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fill(url: str, part: Path) -> None:
    """Go on with `part` until the server has no more; give up after `TRIES` tries that brought nothing."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _transfer(url, part):
                return
            reason = "it ended early"
        except HTTPError as error:
            if error.code < 500 and error.code not in BUSY:
                raise MissingError(f"{url}: the server answers {error.code} {error.reason}; {_remedy(part)}") from error
            reason = f"the server answers {error.code} {error.reason}"
        except (URLError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures == TRIES:
            raise MissingError(f"{url}: cannot be reached ({reason}); {_remedy(part)}")
        time.sleep(PAUSE * failures)


def _remedy(part: Path) -> str:
    kept = f"; the {_size(part) / MEGABYTE:.0f} MB in {part} are gone on from" if _size(part) else ""
    return f"check the network and run the same command again, or give another server with --mirror{kept}"


def _transfer(url: str, part: Path) -> bool:
    """One request; True when the file is whole."""
    start = _size(part)
    headers = {"User-Agent": "audio-engram", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={start}-"} if start else {}))
    try:
        response = _ask(request)
    except HTTPError as error:
        if error.code == 416 and start:  # nothing after `start`: whole, or of another file
            total = _total(error.headers.get("Content-Range", ""))
            if total != start:
                part.unlink()
            return total == start
        raise
    with response:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("it sends another part than the one asked for")
        start = start if response.status == 206 else 0  # a server without ranges sends everything again
        length = int(response.headers.get("Content-Length") or -1)
        _check_room(part, length)
        with part.open("ab" if start else "wb") as handle:
            progress = Progress(f"download {part.stem} (MB)", max(0, length) // MEGABYTE, unit="MB")
            done = _copy(response, handle, progress)
    return length < 0 or done == length


def _ask(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except URLError:
        raise
    except OSError as error:  # urllib wraps these while it asks, not while it waits for the answer
        raise URLError(error) from error


def _copy(response: http.client.HTTPResponse, handle: BinaryIO, progress: Progress) -> int:
    done = 0
    with progress:
        while block := _read(response):
            handle.write(block)
            progress.step((done + len(block)) // MEGABYTE - done // MEGABYTE)
            done += len(block)
    return done


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except OSError as error:  # of the network, not of the disk
        raise http.client.HTTPException(str(error)) from error


def _check_room(part: Path, length: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if length > free:
        raise DataError(f"{part.parent}: {length / 1e9:.1f} GB to come, {free / 1e9:.1f} GB free; free some space")


def _size(part: Path) -> int:
    return os.path.getsize(part) if part.exists() else 0


def _total(content_range: str) -> int | None:
    """The size in `bytes */SIZE`."""
    match = re.fullmatch(r"bytes \*/(\d+)", content_range)
    return int(match[1]) if match else None
