"""Put a file in place whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audio_engram.errors import DataError

FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` at a good end, else remove it.

    Raises: DataError when the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _reach_the_disk(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DataError(
            f"disk full while writing {path}; free some space and run again, finished work is kept"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def _reach_the_disk(path: Path) -> None:
    # Without this, a power cut after the rename could leave the final name on an empty file.
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())
