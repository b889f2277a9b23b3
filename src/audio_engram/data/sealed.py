"""JSON files that say what they are of, and whose checksum tells whether they are what was written."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from audio_engram.data.manifest import text_checksum
from audio_engram.data.publish import publish_text

T = TypeVar("T")


class Unfit(ValueError):
    """Why a file cannot be taken: it is damaged, or of something else."""


def write_sealed(path: Path, of: Mapping[str, str], fields: Mapping[str, Any]) -> None:
    """Write `fields`, atomically, with what they are `of`.

    Raises:
        EngramError: the disk is full, or the place cannot be written.
    """
    whole = {"of": dict(of), **fields}
    publish_text(path, json.dumps(whole | {"checksum": text_checksum(json.dumps(whole))}, indent=1) + "\n")


def read_sealed(path: Path, of: Mapping[str, str], check: Callable[[Any], T]) -> T:
    """What `check` makes of the content of a file, which must be `of` this very thing.

    Raises:
        Unfit: it is damaged, `check` raises a ValueError, or it is of something else: the message names the keys.
    """
    try:
        fields = _sound(json.loads(path.read_text(encoding="utf-8")))
        there = fields.pop("of", None)
        different = [key for key, mine in of.items() if not isinstance(there, dict) or there.get(key) != mine]
        value = None if different else check(fields)
    except (OSError, ValueError, RecursionError) as error:
        raise Unfit(f"damaged ({str(error).splitlines()[0]})") from error
    if value is None:
        raise Unfit(f"of {' and '.join(f'another {key}' for key in different)}")
    return value


def _sound(fields: Any) -> dict[str, Any]:
    checksum = fields.pop("checksum", "") if isinstance(fields, dict) else ""
    if checksum != text_checksum(json.dumps(fields)):
        raise ValueError("its checksum is not that of its content")
    return dict(fields)
