"""LibriSpeech in its published layout: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`.

Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015.
"""

from pathlib import Path

from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.errors import DataError

SUBSETS = {
    *("dev-clean", "dev-other", "test-clean", "test-other"),
    *("train-clean-100", "train-clean-360", "train-other-500"),
}
LAYOUT = "<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"


def open_librispeech(folder: Path) -> Corpus:
    """The utterances of every subset in `folder`: the `LibriSpeech` folder, the one above it, or one subset.

    Raises: DataError for no utterances, a file out of the layout or a speaker unknown to `SPEAKERS.TXT`.
    """
    root, subsets = _root_and_subsets(folder)
    files = sorted(path for subset in subsets for path in (root / subset).glob("*/*/*.flac"))
    if not files:
        raise DataError(f"data.corpus: no LibriSpeech utterances ({LAYOUT}) in {folder}; check it, or use folder:PATH")
    items = tuple(_item(path) for path in files)
    _check_speakers(root / "SPEAKERS.TXT", {item.speaker for item in items})
    return Corpus("librispeech", items)


def _root_and_subsets(folder: Path) -> tuple[Path, list[str]]:
    folder = folder.resolve()
    if folder.name in SUBSETS:
        return folder.parent, [folder.name]
    root = folder / "LibriSpeech" if (folder / "LibriSpeech").is_dir() else folder
    return root, sorted(SUBSETS)


def _item(path: Path) -> CorpusItem:
    subset, speaker, chapter = path.parts[-4:-1]
    fields = path.stem.split("-")
    if fields[:2] != [speaker, chapter] or len(fields) != 3 or not all(field.isdigit() for field in fields):
        raise DataError(f"{path} does not follow LibriSpeech's layout {LAYOUT}; move it away, or use folder:PATH")
    return CorpusItem(path.stem, speaker, path, subset)


def _check_speakers(table: Path, speakers: set[str]) -> None:
    if not table.exists():
        return
    # Comments begin with a semicolon, so their first field is never a speaker.
    known = {line.split("|")[0].strip() for line in table.read_text(encoding="utf-8").splitlines()}
    unknown = sorted(speakers - known)
    if unknown:
        raise DataError(f"{table} has no speaker {unknown[0]}; fetch {table.name} and the audio of one release again")
