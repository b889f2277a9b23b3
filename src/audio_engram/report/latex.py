"""Finished runs as LaTeX tables for a paper: the findings and the tables of the page, or every measurement."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from audio_engram import __version__, numbers
from audio_engram.decision import Finding
from audio_engram.errors import UsageError, did_you_mean
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.compared import COMPARED
from audio_engram.report.folder import RunFolder, read_run, told_apart
from audio_engram.report.latex_table import as_latex, one_line
from audio_engram.report.sections import experiments_of, tables_to_read
from audio_engram.report.side_by_side import verdict
from audio_engram.report.tables import Table, shown

VARYING = ("model", "fed", "lag", "step", "codec", "speakers")
"""Columns that stand only where their cells differ; what is the same in all rows stands in the caption."""
INTERVALS = "95 % intervals over held-out speakers"
WAITING = 12
"""Tables before a page is closed: LaTeX keeps only so many of them waiting for their place."""
Labelled = tuple[str, Table]


def latex_tables(
    runs: Sequence[Path], experiments: Sequence[str] = (), everything: bool = False, metric: str = ""
) -> str:
    """Tables of every run, and what a document needs for them.

    Without `experiments` they are of all of them. With `everything`, or a `metric`, each experiment has one table of
    all that was measured on held-out speakers in place of those of the page.

    Raises:
        UsageError: there is no such folder, one is named twice, or it has no such experiment or metric.
        DataError: a run is not finished, or cannot be understood.
    """
    if len({path.resolve() for path in runs}) < len(runs):
        raise UsageError("tables: a run is named twice: name each once")
    found = [read_run(path) for path in runs]
    chosen = [_chosen(run, experiments) for run in found]
    if metric:
        _check_metric([r for run, those in zip(found, chosen, strict=True) for r in _measured(run, those)], metric)
    lines = [
        f"% Written by engram tables (audio-engram {__version__}).",
        r"% In the preamble: \usepackage[utf8]{inputenc} \usepackage{booktabs,graphicx}",
    ]
    names = told_apart([str(path) for path in runs])
    for place, (run, name, those) in enumerate(zip(found, names, chosen, strict=True), start=1):
        lines.append(f"\n% {one_line(str(run.path))}: {one_line(run.provenance.command)}")
        apart = (f"Run {name}. ", f"run{place}-") if len(runs) > 1 else ("", "")
        groups = _everything(run, those, metric) if everything or metric else _read(run, those)
        lines += [line for group in groups for line in _floats(group, *apart)]
    return "\n".join(lines) + "\n"


def _floats(tables: Sequence[Labelled], start: str, prefix: str) -> Iterator[str]:
    """Captions and labels begin with what tells several runs apart."""
    floats = [f for name, t in tables for f in as_latex(replace(t, caption=start + t.caption), prefix + name)]
    for first in range(0, len(floats), WAITING):
        yield from (*floats[first : first + WAITING], r"\clearpage")


def _chosen(run: RunFolder, wanted: Sequence[str]) -> list[str]:
    """The experiments of a run that are wanted, in the order of the page."""
    there = experiments_of(run.decision, run.measurements)
    known = list(dict.fromkeys([*there, *words.EXPERIMENTS]))
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known, f"use {', '.join(there)}")
            raise UsageError(f"experiments: {name}: no such experiment: {hint}")
        if name not in there:
            raise UsageError(f"experiments: {run.path} has no {name}: it has {', '.join(there)}")
    return [name for name in there if name in wanted or not wanted]


def _measured(run: RunFolder, experiments: Sequence[str]) -> list[Measurement]:
    return [r for r in run.measurements.select(split="test") if r.experiment in experiments]


def _check_metric(records: Sequence[Measurement], metric: str) -> None:
    known = sorted({r.metric for r in records})
    if metric not in known:
        hint = did_you_mean(metric, known, f"known are {', '.join(known)}")
        raise UsageError(f"tables: not measured: {metric}: {hint}")


def _read(run: RunFolder, experiments: Sequence[str]) -> Iterator[list[Labelled]]:
    """The findings, then the tables of the page of each experiment."""
    findings = [f for name in experiments for f in run.decision.findings if f.criterion.experiment == name]
    if findings:
        yield [("findings", _findings(run, findings))]
    for name in experiments:
        own = "" if name in COMPARED else run.provenance.codec.name
        tables = [
            replace(table, caption=_sentences(words.experiment(name).title, table.caption, _known(run, codec or own)))
            for codec, table in tables_to_read(name, run)
        ]
        if tables:
            yield [(f"{name}-{number}", table) for number, table in enumerate(tables, start=1)]


def _findings(run: RunFolder, findings: Sequence[Finding]) -> Table:
    """What was asked, what was measured, and the bar."""
    rows = tuple(
        (
            *(finding.criterion.question, _judged(finding.measured, run.provenance.codec.name), _verdict(finding)),
            *(
                shown(finding.measured),
                finding.criterion.wanted,
            ),
        )
        for finding in findings
    )
    columns = ("question", "judged by", "verdict", "value", "wanted")
    return Table(_sentences("Findings", _known(run, run.provenance.codec.name)), columns, rows, heads=3)


def _judged(record: Measurement, codec: str) -> str:
    """What a finding rests on."""
    at = f"step {record.step}" if record.step > 1 else f"lag {record.lag}" if record.lag > 1 else ""
    other = record.codec if record.codec != codec else ""
    return ", ".join(filter(None, (_metric(record.metric), words.series(record.model, record.data), at, other)))


def _verdict(finding: Finding) -> str:
    """With what no model could exceed, where that was measured."""
    ceiling = f"; ceiling {shown(finding.ceiling)}" if finding.ceiling else ""
    return verdict(finding) + ceiling


def _everything(run: RunFolder, experiments: Sequence[str], metric: str) -> Iterator[list[Labelled]]:
    for name in experiments:
        records = run.measurements.select(experiment=name, split="test")
        if metric:
            records = records.select(metric=metric)
        if records:
            yield [(name, _all_of(run, name, records))]


def _all_of(run: RunFolder, experiment: str, records: Measurements) -> Table:
    """A row for each record, metric after metric; without the columns that tell nothing."""
    metrics = list(dict.fromkeys(r.metric for r in records))
    ordered = sorted(records, key=lambda r: metrics.index(r.metric))
    cells = [_cells(r) for r in ordered]
    telling = [name for name in VARYING if len({cell[name] for cell in cells}) > 1]
    rows = tuple(
        (_metric(r.metric), *(cell[name] for name in telling), shown(r)) for r, cell in zip(ordered, cells, strict=True)
    )
    same = [f"{name} {cells[0][name]}" for name in VARYING if name not in telling and cells[0][name]]
    told = words.experiment(experiment)
    known = "; ".join([f"Corpus: {run.provenance.corpus.name}", *same, INTERVALS])
    return Table(_sentences(told.title, told.question, known), ("metric", *telling, "value"), rows, len(telling) + 1)


def _cells(record: Measurement) -> dict[str, str]:
    return {
        "model": words.series(record.model, record.data),
        "fed": words.mode(record.mode),
        "lag": str(record.lag),
        "step": str(record.step),
        "codec": record.codec,
        "speakers": numbers.count(record.n_speakers),
    }


def _metric(name: str) -> str:
    known = words.metric(name)
    return f"{known.label} ({known.unit})" if known.unit else known.label


def _known(run: RunFolder, codec: str) -> str:
    """What all tables of a run share; several codecs stand in the table itself."""
    return "; ".join(filter(None, (f"Corpus: {run.provenance.corpus.name}", codec and f"codec: {codec}", INTERVALS)))


def _sentences(*texts: str) -> str:
    """One after another, each with its end."""
    return " ".join(text if text.endswith((".", "?", "!")) else f"{text}." for text in map(str.strip, texts) if text)
