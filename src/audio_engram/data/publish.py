"""Put a file in place whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audio_engram.errors import DataError, EngramError, UsageError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
AGAIN = "run it again, with --resume where the command has it"
LONGEST = 255
"""Bytes of one name in a path, which is what common file systems take."""


@contextmanager
def published(path: Path, option: str = "--out") -> Iterator[Path]:
    """Yield a temporary name beside `path`, which `option` names; rename it to `path` at a good end, else remove it.

    Raises: DataError when the disk is full, UsageError when the place cannot be written for another reason.
    """
    # No process id: two machines that share the folder may run the same one.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        _reach_the_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error, option) from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing is there to remove
            temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError, option: str = "--out") -> EngramError:
    """The one line for a place that could not be written."""
    if error.errno in FULL:
        return DataError(f"disk full while writing {path} ({error.strerror}); free some space and {AGAIN}")
    return UsageError(f"{path}: cannot be written ({error.strerror}); choose another place with {option}")


def check_name(path: Path, option: str = "") -> None:
    """Look at a path, which `option` names, before anything is read or written there.

    Raises: UsageError for one that no file or folder can have.
    """
    remedy = f" with {option}" if option else ""
    try:
        longest = max((len(part.encode()) for part in path.parts), default=0)
    except UnicodeEncodeError:  # safetensors and JSON take no such path
        raise UsageError(f"{str(path)!a} is no path in UTF-8: choose another name{remedy}") from None
    if longest > LONGEST:
        raise UsageError(f"{path}: has a name of {longest} bytes, more than {LONGEST}: choose a shorter one{remedy}")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises: DataError when the disk is full, UsageError when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def publish_text(path: Path, text: str, option: str = "--out") -> None:
    """Write `text` to `path`, which `option` names, as UTF-8, whole or not at all."""
    with published(path, option) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove temporary files of `name`, or of all, that a killed process left in `folder`."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        if not leftover.is_dir():  # which `published` never makes
            leftover.unlink(missing_ok=True)


def _reach_the_disk(path: Path) -> None:
    # Without this, a power cut after the rename could leave the final name on an empty file.
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
