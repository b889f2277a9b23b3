"""Cut manifests of Lhotse (`cuts.jsonl`, `cuts.jsonl.gz`) read as plain data, without Lhotse.

Żelasko et al., "Lhotse: a speech data representation library for the modern deep learning ecosystem", 2021.
"""

from pathlib import Path
from typing import Any

from audio_engram.data.corpus import Corpus, CorpusItem, is_there
from audio_engram.data.cuts import Cut
from audio_engram.data.listed import corpus_of_rows
from audio_engram.data.table import Row, read_table
from audio_engram.errors import DataError


def open_lhotse(manifest: Path) -> Corpus:
    """The cuts of a manifest, in its order.

    Lhotse means relative paths from the folder where it was called, which the manifest does not name. They are
    taken from the manifest's own folder, or the nearest one above it, where the first cut's file is.

    Raises: DataError for a manifest that is missing or damaged, or a cut that is not one speaker in one file.
    """
    found = [(row, *_parts(row)) for row in read_table(manifest)]
    base = _base(manifest, [cut.file for _, _, cut in found])
    items = []
    for row, speaker, cut in found:
        source = Cut(base / cut.file, cut.start, cut.end, cut.channel)
        items.append((row, CorpusItem(row.text("id"), speaker, source)))
    return corpus_of_rows(manifest, items)


def _base(manifest: Path, files: list[Path]) -> Path:
    relative = [file for file in files if not file.is_absolute()]
    folders = manifest.resolve().parents
    return next((folder for folder in folders if relative and is_there(folder / relative[0])), folders[0])


def _parts(row: Row) -> tuple[str, Cut]:
    kind = row.fields.get("type", "MonoCut")
    if kind not in ("MonoCut", "Cut"):
        raise _refused(row, f"is a {kind}", "write simple cuts with CutSet.save_audios")
    recording = row.fields.get("recording")
    if not isinstance(recording, dict):
        raise _refused(row, "has no recording", "export cuts that carry their recordings")
    if recording.get("transforms"):
        raise _refused(row, "has a recording with transforms", "write simple cuts with CutSet.save_audios")
    start, duration = row.seconds("start") or 0.0, row.seconds("duration")
    if not duration:
        raise _refused(row, "has no duration", "mend the row")
    file, channel = _file(row, recording, row.fields.get("channel", 0))
    return _speaker(row), Cut(file, start, start + duration, channel)


def _file(row: Row, recording: dict[str, Any], channel: Any) -> tuple[Path, int]:
    """The file that holds the cut's channel, and the channel's place in it."""
    sources = recording.get("sources")
    for source in sources if isinstance(sources, list) else ():
        channels = source.get("channels") if isinstance(source, dict) else None
        if isinstance(channels, list) and channel in channels:
            if source.get("type") != "file" or not isinstance(source.get("source"), str):
                kind = source.get("type")
                raise _refused(row, f"has audio of type {kind!r}", "write files with CutSet.save_audios")
            return Path(row.plain("source", source["source"])), channels.index(channel)
    raise _refused(row, f"has no source with its channel {channel!r}", "mend the row")


def _speaker(row: Row) -> str:
    supervisions = row.fields.get("supervisions")
    parts = [part for part in supervisions if isinstance(part, dict)] if isinstance(supervisions, list) else []
    speakers = {Row(row.where, part).optional("speaker") for part in parts} - {""}
    if len(speakers) > 1:
        raise _refused(row, f"has {len(speakers)} speakers", "cut them apart with CutSet.trim_to_supervisions")
    if not speakers:
        raise _refused(row, "names no speaker in its supervisions", "fill in the speakers and export the cuts again")
    return speakers.pop()


def _refused(row: Row, problem: str, remedy: str) -> DataError:
    return DataError(f"{row.where} {problem}, which is not read here; {remedy}")
