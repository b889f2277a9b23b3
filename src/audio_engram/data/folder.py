"""Any folder of audio files; the speaker is the first folder below it, or stands in `speakers.csv`."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.errors import DataError

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
TABLE = "speakers.csv"


def open_folder(root: Path) -> Corpus:
    """The audio files below `root`, sorted by their path, which is their id.

    Raises: DataError for no audio, files without a speaker, or a `speakers.csv` that does not fit the files.
    """
    names = sorted(path.relative_to(root).as_posix() for path in _audio_files(root))
    table = root / TABLE
    speakers = _speakers_from_table(table, names) if table.exists() else _speakers_from_folders(root, names)
    if not speakers:
        raise DataError(f"data.corpus: no audio ({', '.join(sorted(SUFFIXES))}) below {root}; check the path")
    items = (CorpusItem(name, speaker, root / name) for name, speaker in sorted(speakers.items()))
    return Corpus(root.resolve().name, tuple(items))


def _audio_files(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above would go round for ever
            subfolders.clear()
            continue
        seen.add(real)
        audio = (name for name in files if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."))
        yield from (Path(folder, name) for name in audio)


def _speakers_from_folders(root: Path, names: list[str]) -> dict[str, str]:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"data.corpus: {root / loose[0]} ({len(loose)} such files) has no speaker;"
            f" put each speaker's files in a folder of its own, or write {TABLE} with columns file,speaker"
        )
    return {name: name.split("/")[0] for name in names}


def _speakers_from_table(table: Path, names: list[str]) -> dict[str, str]:
    """File -> speaker. A listed file that is missing stays: it will be counted as failed, with its reason."""
    speakers: dict[str, str] = {}
    for row, fields in _rows(table):
        name, speaker = fields["file"].strip(), fields["speaker"].strip()
        if not name or not speaker or name in speakers:
            problem = f"lists {name} again" if name in speakers else "lacks a file or a speaker"
            raise DataError(f"{table} row {row} {problem}; mend the row")
        speakers[name] = speaker
    unlisted = [name for name in names if name not in speakers]
    if unlisted:
        raise DataError(f"{table} has no row for {unlisted[0]} ({len(unlisted)} such files); add it or move it away")
    return speakers


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with table.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, restval="")
        if not {"file", "speaker"} <= set(reader.fieldnames or ()):
            raise DataError(f"{table} row 1 should name the columns file,speaker; found {reader.fieldnames}")
        yield from enumerate(reader, start=2)
