"""LibriSpeech in its published layout: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`.

Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015.
"""

import shutil
from pathlib import Path

from audio_engram.codecs.base import near_miss
from audio_engram.data.archive import unpack
from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.data.download import fetch, local_archive, written_below
from audio_engram.errors import DataError, UsageError

SERVER = "https://www.openslr.org/resources/12"
SUBSETS = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
"""The MD5 of each subset's archive, as published in md5sum.txt beside them."""
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
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read, or damaged ({error}); fetch it again or remove it") from error
    known = {line.split("|")[0].strip() for line in lines}
    unknown = sorted(speakers - known)
    if unknown:
        raise DataError(f"{table} has no speaker {unknown[0]}; fetch {table.name} and the audio of one release again")


def download_librispeech(subset: str, folder: Path, server: str = SERVER) -> bool:
    """Fetch and unpack a subset into `folder/LibriSpeech/<subset>`; False if it is there already.

    `server` is an address, or a local folder that holds the archives: those are read where they are, and stay.

    Raises: UsageError for an unknown subset, MissingError when the server cannot be reached, DataError for a
    damaged archive or a full disk. What was fetched is kept and gone on from.
    """
    if subset not in SUBSETS:
        raise UsageError(f"LibriSpeech has no subset {subset!r}; {near_miss(subset, sorted(SUBSETS))}")
    if (folder / "LibriSpeech" / subset).exists():
        return False
    name, unpacked, is_local = f"{subset}.tar.gz", folder / f".{subset}", Path(server).expanduser().is_dir()
    if is_local:
        archive = local_archive(Path(server).expanduser() / name, SUBSETS[subset])
    else:
        archive = folder / name
        fetch(f"{server.rstrip('/')}/{name}", archive, SUBSETS[subset])
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a killed process
    try:
        with written_below(folder):
            folder.mkdir(parents=True, exist_ok=True)
            unpack(archive, unpacked)
            _put_in_place(unpacked / "LibriSpeech", folder / "LibriSpeech", subset)
            if not is_local:
                archive.unlink()
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return True


def _put_in_place(unpacked: Path, root: Path, subset: str) -> None:
    if not (unpacked / subset).is_dir():
        raise DataError(f"the archive of {subset} has no folder LibriSpeech/{subset}; delete it and fetch it again")
    root.mkdir(exist_ok=True)
    for table in unpacked.glob("*.TXT"):
        if not (root / table.name).exists():
            table.rename(root / table.name)
    (unpacked / subset).rename(root / subset)  # last: a subset that is there is whole
