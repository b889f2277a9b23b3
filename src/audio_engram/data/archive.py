"""Unpack a tar archive that may be damaged or hostile: all of it, or nothing.

Only files and folders are written, new ones, inside the folder. `tarfile` is trusted to read headers, not to
notice damage: it takes a broken header for the end of the archive, so the end is checked here.
"""

import gzip
import io
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from audio_engram.data.publish import FULL
from audio_engram.errors import DataError

BLOCK = 1 << 16
HEADER = 1 << 20
"""Bytes of one header: a name of more is no name."""
SLACK = 1 << 24
REMEDY = "delete the archive and fetch it again from its publisher"


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to; `ratio` is unpacked over packed, beyond the first 16 MiB."""

    size: int = 128 << 30
    members: int = 500_000
    ratio: float = 20.0


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> int:
    """Unpack a `.tar.gz` into the new `folder` and return the number of files.

    Raises: DataError for a damaged archive, for a member that is a link, a device, absolute or outside and for one
    over the limits; OSError where the disk is full or cannot be written. Nothing is left then.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    temporary.mkdir(parents=True)
    try:
        with archive.open("rb") as packed:
            n_files = _Unpacking(archive, temporary, limits or Limits()).run(packed)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return n_files


class _Unpacking:
    """One archive on its way into one folder."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive, self.folder, self.limits = archive, folder.resolve(), limits
        self.files = 0

    def run(self, packed: BinaryIO) -> int:
        stream = _Bounded(packed, self)
        try:
            with tarfile.TarFile(fileobj=stream, mode="r") as tar:
                for number, member in enumerate(tar, start=1):
                    if number > self.limits.members:
                        raise self.refused(f"holds more than {self.limits.members} members")
                    self.write(tar, member)
            stream.check_end()
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise self.refused(f"is damaged ({error})") from error
        return self.files

    def write(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member into the folder."""
        path = self.place(member)
        try:
            (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
            if member.isdir():
                return
            source = tar.extractfile(member)
            assert source is not None
            with source, path.open("xb") as target:
                shutil.copyfileobj(source, target, BLOCK)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.refused(f"has {member.name!r} twice") from error
        except OSError as error:
            if isinstance(error, gzip.BadGzipFile) or error.errno in FULL:
                raise
            raise self.refused(f"has {member.name!r}, which cannot be written ({error.strerror})") from error
        self.files += 1

    def place(self, member: tarfile.TarInfo) -> Path:
        """Where a member goes."""
        name, parts = member.name, PurePosixPath(member.name).parts
        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        if not (plain or member.isdir()):
            raise self.refused(f"has {name!r}, which is neither a plain file nor a folder")
        if name.startswith("/") or ".." in parts or any(sign in name for sign in "\\:\0"):
            raise self.refused(f"has {name!r}, which lies outside of it")
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise self.refused(f"has {name!r}, which lies outside of it")
        return path

    def refused(self, problem: str) -> DataError:
        """The one line for an archive that is not unpacked."""
        return DataError(f"{self.archive}: {problem}; nothing was unpacked: {REMEDY}")


class _Bounded(io.RawIOBase):
    """The unpacked bytes, forward only; the limits are kept while they are read, headers included."""

    def __init__(self, packed: BinaryIO, of: _Unpacking) -> None:
        self._packed, self._of = packed, of
        self._stream = gzip.GzipFile(fileobj=packed, mode="rb")
        self._position = 0
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer at the end."""
        if not 0 <= size <= HEADER:
            raise self._of.refused(f"has a header of {size} bytes")
        self._last = self._stream.read(size)
        self._position += len(self._last)
        limits = self._of.limits
        if self._position > limits.size:
            raise self._of.refused(f"unpacks to more than {limits.size} bytes")
        if self._position > SLACK + limits.ratio * self._packed.tell():
            raise self._of.refused(f"unpacks to more than {limits.ratio:g} times its size")
        return self._last

    def seekable(self) -> bool:
        """Forward, it is."""
        return True

    def tell(self) -> int:
        """Bytes read so far."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Skip to `offset`."""
        if whence != io.SEEK_SET or offset < self._position:
            raise self._of.refused("has a header that points backwards")
        while self._position < offset and self.read(min(BLOCK, offset - self._position)):
            pass
        return self._position

    def check_end(self) -> None:
        """The last header is a block of zeros and nothing but zeros follows, which also checks gzip's own checksum."""
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise self._of.refused("is damaged (no end mark)")
        while block := self.read(BLOCK):
            if block.strip(b"\0"):
                raise self._of.refused("is damaged (bytes after its end)")
