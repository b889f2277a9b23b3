"""Parts of a corpus: contiguous runs of whole windows, which can be encoded apart and give the same bytes."""

import re
from pathlib import Path

from audio_engram.data.extract import ExtractConfig
from audio_engram.data.manifest import MANIFEST, UTTERANCES, Part
from audio_engram.data.publish import remove_leftovers
from audio_engram.errors import DataError, UsageError

MOST = 99_999
LOGS = "logs"
"""Where a scheduler keeps its files, beside the parts."""
_NAME = re.compile(r"(\d{5})-of-(\d{5})")


def plan_part(n_items: int, index: int, of: int, config: ExtractConfig) -> Part:
    """Part `index` (from 1) of `of` of a corpus of `n_items`; parts differ by at most one window in length.

    Raises: UsageError for a part that does not exist.
    """
    if not 1 <= index <= of <= MOST:
        raise UsageError(f"part {index}/{of}: parts are counted from 1, up to {MOST}: give 1/{max(of, 1)} and so on")
    windows = -(-n_items // config.window)
    first, end = (min(k * windows // of * config.window, n_items) for k in (index - 1, index))
    return Part(
        index=index,
        of=of,
        first=first,
        items=end - first,
        window=config.window,
        batch_seconds=config.batch_seconds,
    )


def read_part(text: str) -> tuple[int, int]:
    """`3/8` as (3, 8).

    Raises: UsageError for anything else.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= of <= MOST:
        raise UsageError(f"--shard {text}: write it as I/N, from 1/N to N/N, N at most {MOST}")
    return index, of


def count_parts(parts: Path) -> int:
    """How many parts the corpus in the folder `parts` was cut into; 0 where there are none.

    Raises: UsageError when it holds parts of different numbers, or something else.
    """
    numbers = set()
    for path in parts.glob("[!.]*") if parts.is_dir() else ():
        if found := _NAME.fullmatch(path.name):
            numbers.add(int(found[2]))
        elif path.name != LOGS:
            raise UsageError(f"{path}: is no part of a corpus: move it away")
    if len(numbers) > 1:
        several = " and ".join(map(str, sorted(numbers)))
        raise UsageError(f"{parts}: holds parts of {several}, which overlap: remove all but those of one number")
    return numbers.pop() if numbers else 0


def refuse_no_parts(parts: Path) -> int:
    """How many parts there are.

    Raises: DataError when there are none, UsageError as `count_parts` does.
    """
    of = count_parts(parts)
    if not of:
        raise DataError(f"{parts}: there are no parts to merge: encode them with --shard I/N, or name their --out")
    return of


def check_number(parts: Path, of: int) -> None:
    """Raises: UsageError when the folder `parts` holds parts of another number than `of`."""
    there = count_parts(parts)
    if there not in (0, of):
        raise UsageError(f"{parts}: holds parts of {there}, not of {of}: use that number, or remove them")


def missing_parts(parts: Path, plan: list[Part]) -> list[Part]:
    """The parts that have no store, finished or not."""
    return [part for part in plan if not (parts / part.folder).is_dir()]


def refuse_missing(parts: Path, plan: list[Part]) -> None:
    """Raises: DataError naming the parts that have not been begun."""
    if missing := missing_parts(parts, plan):
        names = ", ".join(part.label for part in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(f"{parts}: parts {names}{more} are missing: encode them with --shard, then merge again")


def remove_parts(parts: Path) -> None:
    """Delete the stores of the parts, and nothing else that stands in the folder `parts`."""
    for folder in [path for path in parts.glob("*-of-*") if _NAME.fullmatch(path.name)]:
        remove_leftovers(folder)
        # The manifest last: while it stands, what is left is still known to be a part.
        for pattern in (UTTERANCES, "shard-*.safetensors", ".shard-*.sha256", MANIFEST):
            for path in folder.glob(pattern):
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    if parts.is_dir() and not any(parts.iterdir()):
        parts.rmdir()
