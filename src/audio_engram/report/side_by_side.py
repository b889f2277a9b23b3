"""Finished runs side by side: one table with a column for each run."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import Literal, NamedTuple

from audio_engram.data.publish import publish_text
from audio_engram.decision import Finding
from audio_engram.errors import UsageError
from audio_engram.measurements import Measurement
from audio_engram.report import words
from audio_engram.report.compared import COMPARED
from audio_engram.report.folder import RunFolder, read_run, told_apart
from audio_engram.report.tables import Table, shown
from audio_engram.report.templating import page

# What a reader asks of two runs first; everything else is asked for by its name.
TOLD = {
    "predictability": (
        *("delta_nll", "delta_nll_excess", "part_mean_reversion", "part_shape", "part_static", "part_dynamics"),
        *("direction_cosine", "innovation_cosine"),
    ),
    "magnitude": ("magnitude_r2",),
    "factorisation": ("direction_cosine", "magnitude_ratio", "state_error_vs_mean", "state_error_difference"),
    "injection": ("advantage_kept",),
    "representation": ("dynamics_per_second", "advantage_kept"),
    "smoothing": ("cosine_gain", "distortion_ratio"),
}
HEADS = ("mdn", "vmf", "vmf - mdn", "codec")
LONGEST_LAG = 2
VERDICT = "verdict: "
WIDEST = 30  # characters in a column of the terminal's table
MODES = {"free_running": "free running", "A": "A", "B": "B", "C": "C", "D": "D", "analytic": "analytic"}
Key = tuple[str, str, str, str, int, int, str, str]


def compare(folders: Sequence[Path], metric: str = "") -> tuple[Table, list[str]]:
    """The table, and what must be known before its columns are held against one another.

    Without `metric` the rows are the figures of `TOLD` on real data at their last step, and of other experiments those
    that were judged in any of the runs; with it, all of that metric.

    Raises:
        UsageError: fewer than two runs, one of them twice, or a metric that none of them has.
        DataError: a folder is no finished run.
    """
    if len(folders) < 2 or len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("compare: name two or more different run folders")
    runs = [read_run(folder) for folder in folders]
    judged = set() if metric else {key for run in runs for key in _judged(run)}
    cells = [
        {_key(r): r for r in run.measurements if _wanted(r, run, metric) or (r.split == "test" and _key(r) in judged)}
        for run in runs
    ]
    keys = list(dict.fromkeys(key for found in cells for key in found))
    if metric and not keys:
        known = ", ".join(sorted({r.metric for run in runs for r in run.measurements}))
        raise UsageError(f"compare: no run has measured {metric}: known are {known}")
    rows = tuple((*_named(key), *(shown(found.get(key)) for found in cells)) for key in sorted(keys, key=_order))
    columns = ("experiment", "metric", "model", "at", *(str(folder) for folder in folders))
    verdicts = () if metric else _verdicts(runs)
    table = Table("Runs side by side, with 95 % intervals over speakers.", columns, verdicts + rows, heads=4)
    return table, _cautions(runs)


def write_comparison(table: Table, cautions: Sequence[str], path: Path) -> None:
    """The same as a page that needs nothing else."""
    content = {"caption": table.caption, "runs": _short(table), "lines": grouped(table), "cautions": cautions}
    publish_text(path, page("compare.html", {}, content), option="--html")


def as_text(table: Table) -> str:
    """Aligned columns for a terminal, under headings; what is long goes on in the next line."""
    runs = _short(table)
    rows = [("", *runs)] + [(line.text, *line.cells) for line in grouped(table) if line.kind == "row"]
    wrapped = [[_name(row[0]), *(wrap(cell, WIDEST) or [""] for cell in row[1:])] for row in rows]
    widths = [max(len(text) for row in wrapped for text in row[place]) for place in range(len(runs) + 1)]
    aligned = iter(_aligned(row, widths) for row in wrapped)
    texts = [next(aligned)]
    for line in grouped(table):
        texts.append(next(aligned) if line.kind == "row" else {"group": "\n", "about": "  "}[line.kind] + line.text)
    return "\n".join(texts)


def _name(text: str) -> list[str]:
    return wrap(text, WIDEST, initial_indent="    ", subsequent_indent="      ") or [""]


def _aligned(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    """A row of cells that may have several lines."""
    lines = zip_longest(*cells, fillvalue="")
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


class Line(NamedTuple):
    """A line of the comparison: a heading (`group`, `about`), or a name with a cell for each run (`row`)."""

    kind: Literal["group", "about", "row"]
    text: str
    cells: tuple[str, ...] = ()


def grouped(table: Table) -> list[Line]:
    """The rows under headings of their experiment and of their metric or question."""
    lines: list[Line] = []
    group = about = ""
    for experiment, metric, model, at, *cells in table.rows:
        title = "Verdicts" if metric.startswith(VERDICT) else words.experiment(experiment).title
        if title != group:
            lines.append(Line("group", title))
            group, about = title, ""
        if metric != about:
            lines.append(Line("about", metric.removeprefix(VERDICT)))
            about = metric
        name = ", ".join(filter(None, (model, at))) or ("verdict" if metric.startswith(VERDICT) else "all")
        lines.append(Line("row", name, tuple(cells)))
    return lines


def _short(table: Table) -> tuple[str, ...]:
    return told_apart(table.columns[table.heads :])


def _key(record: Measurement) -> Key:
    codec = record.codec if record.experiment in COMPARED else ""
    return (record.experiment, record.metric, record.model, record.data, record.lag, record.step, record.mode, codec)


def _wanted(record: Measurement, run: RunFolder, metric: str) -> bool:
    if metric:
        return record.metric == metric
    if record.split != "test" or record.mode in ("A", "B", "C", "analytic"):
        return False
    told = record.metric in TOLD.get(record.experiment, ()) and record.model in HEADS and record.data == "real"
    rolled = record.experiment != "factorisation" or record.mode == "free_running"
    return told and rolled and record.lag <= LONGEST_LAG and record.step == _last_step(run, record)


def _judged(run: RunFolder) -> list[Key]:
    """What verdicts rest on, of experiments that `TOLD` does not know."""
    figures = [finding.measured for finding in run.decision.findings]
    return [_key(figure) for figure in figures if figure.experiment not in TOLD]


def _last_step(run: RunFolder, record: Measurement) -> int:
    what = {"experiment": record.experiment, "metric": record.metric, "model": record.model, "codec": record.codec}
    return max(r.step for r in run.measurements.select(**what))


def _named(key: Key) -> tuple[str, str, str, str]:
    experiment, metric, model, data, lag, step, mode, codec = key
    known = words.metric(metric)
    unit = f" [{known.unit}]" if known.unit else ""
    at = [codec, f"lag {lag}" if lag > 1 else "", f"step {step}" if step > 1 else "", MODES.get(mode, "")]
    return experiment, known.label + unit, words.series(model, data), ", ".join(filter(None, at))


def _order(key: Key) -> tuple[object, ...]:
    experiments, metrics = list(words.EXPERIMENTS), list(words.METRICS)
    experiment, metric, model, data, lag, step, mode, codec = key
    place = experiments.index(experiment) if experiment in experiments else len(experiments)
    return (
        place,
        metrics.index(metric) if metric in metrics else len(metrics),
        metric,
        codec,
        model,
        data,
        lag,
        step,
        mode,
    )


def _verdicts(runs: Sequence[RunFolder]) -> tuple[tuple[str, ...], ...]:
    """One row for a question, or for each codec or model that it was asked of."""
    found = [_by_question(run) for run in runs]
    asked = list(dict.fromkeys(question for of_run in found for question in of_run))
    rows = []
    for experiment, question in asked:
        several = any(len(of_run.get((experiment, question), ())) > 1 for of_run in found)
        whose = dict.fromkeys(
            _asked_of(f) if several else "" for of_run in found for f in of_run.get((experiment, question), ())
        )
        for who in whose:
            cells = (
                next((f for f in of_run.get((experiment, question), ()) if not several or _asked_of(f) == who), None)
                for of_run in found
            )
            rows.append((experiment, f"{VERDICT}{question}", who, "", *map(_cell, cells)))
    return tuple(rows)


def _by_question(run: RunFolder) -> dict[tuple[str, str], list[Finding]]:
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in run.decision.findings:
        found.setdefault((finding.criterion.experiment, finding.criterion.question), []).append(finding)
    return found


def _asked_of(finding: Finding) -> str:
    measured = finding.measured
    return measured.codec if measured.experiment in COMPARED else words.series(measured.model, "real")


def _cell(finding: Finding | None) -> str:
    return verdict(finding) if finding else "–"


def verdict(finding: Finding) -> str:
    """The word, and what it is called in this experiment."""
    label = finding.label if finding.label != finding.verdict else ""
    return f"{finding.verdict} ({label})" if label else finding.verdict


def _cautions(runs: Sequence[RunFolder]) -> list[str]:
    """Where the runs differ in what their figures rest on."""
    facts = {
        "corpus": [run.provenance.corpus.name for run in runs],
        "seed": [str(run.provenance.seed) for run in runs],
        "audio": [f"{run.provenance.corpus.seconds / 60:.0f} min" for run in runs],
        "number of held-out speakers": [str(run.provenance.corpus.speakers.get("test", 0)) for run in runs],
        "version": [run.provenance.version for run in runs],
        "number of dimensions": [str(run.provenance.codec.latent_dim) for run in runs],
        "frame rate": [f"{run.provenance.codec.frame_rate or 0:g} Hz" for run in runs],
    }
    return [f"{name} differs: {', '.join(values)}" for name, values in facts.items() if len(set(values)) > 1]
