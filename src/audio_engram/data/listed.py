"""Utterances listed in a table: `file,speaker` and, where wanted, `id,start,end,subset`."""

from pathlib import Path

from audio_engram.data.corpus import Corpus, CorpusItem, at_home
from audio_engram.data.cuts import Cut
from audio_engram.data.table import Row, read_table
from audio_engram.errors import DataError


def open_listed(table: Path) -> Corpus:
    """The utterances of a CSV or JSON-lines table, in its order; files are looked for from the table's folder.

    A listed file that is missing stays: it will be counted as failed, with its reason.

    Raises: DataError for a table that is missing or damaged, naming the row.
    """
    return corpus_of_rows(table, [(row, _item(row, table.parent)) for row in read_table(table)])


def corpus_of_rows(table: Path, found: list[tuple[Row, CorpusItem]]) -> Corpus:
    """A corpus named after its table.

    Raises: DataError for an id that two rows have.
    """
    first: dict[str, Row] = {}
    for row, item in found:
        if item.id in first:
            raise DataError(f"{row.where} has the id {item.id} of {first[item.id].where}; give each row its own id")
        first[item.id] = row
    return Corpus(table.name.partition(".")[0] or table.name, tuple(item for _, item in found))


def _item(row: Row, folder: Path) -> CorpusItem:
    name, start, end = row.text("file"), row.seconds("start"), row.seconds("end")
    file = folder / at_home(name)
    source: Path | Cut = file
    if start or end is not None:
        source = Cut(file, start or 0.0, end)
        if end is not None and end <= source.start:
            raise DataError(f"{row.where} ends at {end:g} s, before it starts; mend the row")
        name += f"#{source.start:g}-{'' if end is None else f'{end:g}'}"
    return CorpusItem(row.optional("id") or name, row.text("speaker"), source, row.optional("subset"))
