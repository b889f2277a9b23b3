"""Any folder of audio files; the speaker is the first folder below it, or stands in `speakers.csv`."""

import os
from collections.abc import Iterator
from pathlib import Path

from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.data.table import SPEAKERS, read_speakers, speakers_from_folders
from audio_engram.errors import DataError

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


def open_folder(root: Path) -> Corpus:
    """The audio files below `root`, sorted by their path, which is their id.

    Raises: DataError for no audio, files without a speaker, or a `speakers.csv` that does not fit the files.
    """
    names = sorted(path.relative_to(root).as_posix() for path in files_below(root, SUFFIXES))
    table = root / SPEAKERS
    voices = read_speakers(table, names) if table.exists() else speakers_from_folders(root, names)
    if not voices:
        raise DataError(f"data.corpus: no audio ({', '.join(sorted(SUFFIXES))}) below {root}; check the path")
    items = (CorpusItem(name, voice.speaker, root / name, voice.subset) for name, voice in sorted(voices.items()))
    return Corpus(root.resolve().name, tuple(items))


def files_below(root: Path, suffixes: set[str]) -> Iterator[Path]:
    """The files below `root` with one of the endings, links followed, hidden ones left out."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above would go round for ever
            subfolders.clear()
            continue
        seen.add(real)
        wanted = (name for name in files if Path(name).suffix.lower() in suffixes and not name.startswith("."))
        yield from (Path(folder, name) for name in wanted)
