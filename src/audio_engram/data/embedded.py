"""The synthetic corpus that comes with the package, so that everything runs without a download."""

import json
from importlib.resources import as_file, files

from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.errors import DataError


def open_demo() -> Corpus:
    """Short synthetic utterances of many synthesiser voices; the speaker is the voice.

    Raises: DataError when the installation lacks the files.
    """
    with as_file(files("audio_engram.data") / "demo") as folder:
        index = folder / "demo.json"
        if not index.exists():
            raise DataError(f"{index} is missing from the installation; install audio-engram again")
        rows = json.loads(index.read_text(encoding="utf-8"))["utterances"]
        items = (CorpusItem(row["id"], row["speaker"], folder / row["file"]) for row in rows)
        return Corpus("demo", tuple(items), synthetic=True)
