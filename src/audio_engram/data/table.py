"""Tables that a user writes: CSV with a header, or one JSON object a line (`.jsonl`, `.jsonl.gz`)."""

import csv
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from audio_engram.errors import DataError

SPEAKERS = "speakers.csv"
LONGEST = 1e9
"""Seconds: 30 years, the end of any recording."""


@dataclass(frozen=True)
class Row:
    """One row; what is wrong with a field is said with its place."""

    where: str
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """A field that must be there.

        Raises: DataError when it is missing or empty.
        """
        return self.optional(name) or self._refuse(f"lacks a {name}")

    def optional(self, name: str) -> str:
        """A field that may be missing, which is the empty text.

        Raises: DataError for anything but text or a whole number.
        """
        value = self.fields.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            self._refuse(f"has {name} = {value!r}, which is no text")
        return self.plain(name, str(value)).strip()

    def plain(self, name: str, text: str) -> str:
        """`text` of a field, as a path or an id can be written anywhere.

        Raises: DataError for a zero byte or half a character.
        """
        if "\0" in text:
            self._refuse(f"has a zero byte in its {name}")
        if not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text):
            self._refuse(f"has {name} = {text!a}, which is no text in UTF-8")
        return text

    def seconds(self, name: str) -> float | None:
        """A time [s] that may be missing.

        Raises: DataError for anything but a finite number from 0 on.
        """
        value = self.fields.get(name)
        if value is None or value == "":
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not 0 <= number <= LONGEST:
            self._refuse(f"has {name} = {repr(value)[:40]}, wanted seconds from 0 to {LONGEST:g}")
        return number

    def _refuse(self, problem: str) -> Any:
        raise DataError(f"{self.where} {problem}; mend the row")


class Voice(NamedTuple):
    """Who speaks in a file, and in which subset it stands."""

    speaker: str
    subset: str = ""


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table, one by one.

    Raises: DataError for a file that is missing, damaged or of another kind.
    """
    try:
        if path.name.endswith(".csv"):
            with path.open(newline="", encoding="utf-8-sig") as handle:
                yield from _csv_rows(handle, path)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            opened = gzip.open if path.suffix == ".gz" else open
            with opened(path, "rt", encoding="utf-8-sig") as handle:
                yield from _json_rows(handle, path)
        else:
            raise DataError(f"{path}: a table is read as .csv, .jsonl or .jsonl.gz, by the name's ending; rename it")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read, or damaged ({error}); check it or write it again") from error


def read_speakers(table: Path, names: Collection[str]) -> dict[str, Voice]:
    """File -> speaker and subset. A listed file that is missing stays: it will be counted as failed.

    Raises: DataError for a damaged table, a file listed twice or one of `names` not listed.
    """
    voices: dict[str, Voice] = {}
    for row in read_table(table):
        name = row.text("file")
        if name in voices:
            raise DataError(f"{row.where} lists {name} again; mend the row")
        voices[name] = Voice(row.text("speaker"), row.optional("subset"))
    unlisted = [name for name in names if name not in voices]
    if unlisted:
        raise DataError(f"{table} has no row for {unlisted[0]} ({len(unlisted)} such files); add it or move it away")
    return voices


def speakers_from_folders(root: Path, names: Collection[str]) -> dict[str, Voice]:
    """File -> speaker, who is the first folder below `root`.

    Raises: DataError for a file without a folder.
    """
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"{root / loose[0]} ({len(loose)} such files) has no speaker;"
            f" put each speaker's files in a folder of its own, or write {SPEAKERS} with columns file,speaker"
        )
    return {name: Voice(name.split("/")[0]) for name in names}


def _csv_rows(handle: Iterable[str], path: Path) -> Iterator[Row]:
    reader = csv.DictReader(handle, restval="")
    repeated = [name for name, count in Counter(reader.fieldnames or ()).items() if count > 1]
    if repeated:
        raise DataError(f"{path} row 1 names the column {repeated[0]!r} more than once; remove or rename one")
    if not {"file", "speaker"} <= set(reader.fieldnames or ()):
        raise DataError(f"{path} row 1 should name the columns file,speaker; found {reader.fieldnames}")
    for fields in reader:
        where = f"{path} row {reader.line_num}"
        if None in fields:
            raise DataError(f"{where} has more fields than columns; put quotes around a field that has a comma")
        yield Row(where, fields)


def _json_rows(handle: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(handle, start=1):
        where = f"{path} row {number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # no JSON, too deep, or a number of thousands of digits
            raise DataError(f"{where} is no JSON ({error}); mend the row") from error
        if not isinstance(fields, dict):
            raise DataError(f'{where} is no JSON object such as {{"file": ..., "speaker": ...}}; mend the row')
        yield Row(where, fields)
