"""The measurements of finished runs as LaTeX tables for a paper: one for each experiment, rounded as on the page.

They need the packages booktabs and longtable, because an experiment may fill more than a page.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from audio_engram import __version__, numbers
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.folder import RunFolder, read_run
from audio_engram.report.tables import Table, shown

VARYING = ("model", "fed", "lag", "step", "codec", "speakers")
"""Columns that stand only where their cells differ; what is the same in all rows stands in the caption."""
SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$", "‖": r"$\Vert$"},
    **{"–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "→": r"$\to$"},
    **{"²": "$^{2}$", "³": "$^{3}$", "¹": "$^{1}$", "√": r"$\surd$", "∞": r"$\infty$", "½": "1/2", "₁": "$_{1}$"},
    **{"Δ": r"$\Delta$", "δ": r"$\delta$", "κ": r"$\kappa$", "η": r"$\eta$", "σ": r"$\sigma$", "μ": r"$\mu$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "ε": r"$\varepsilon$", "ẑ": r"$\hat z$"},
}
SPECIALS = str.maketrans(SPECIAL)
NUMBER = re.compile(r"−?\d[\d,.]*(?:×10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+))?")
DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def latex_tables(runs: Sequence[Path]) -> str:
    """One table for each experiment of every run, and what a document needs for them.

    Raises:
        UsageError: if there is no such folder. DataError: if a run is not finished, or cannot be understood.
    """
    found = [read_run(path) for path in runs]
    several = len(found) > 1
    parts = [
        f"% Written by engram tables (audio-engram {__version__}).",
        r"% In the preamble: \usepackage[utf8]{inputenc} \usepackage{booktabs,longtable}",
    ]
    for place, run in enumerate(found, start=1):
        parts.append(f"\n% {_one_line(str(run.path))}: {_one_line(run.provenance.command)}")
        for experiment in _experiments(run.measurements):
            label = f"{experiment}-{place}" if several else experiment
            parts.append(as_latex(_table(run, experiment), label))
    return "\n".join(parts) + "\n"


def as_latex(table: Table, label: str) -> str:
    """A table of text cells; those of the last column are numbers. What a row shares with the one above is left out."""
    columns = "l" * (len(table.columns) - 1) + "r"
    heading = " & ".join(map(escaped, table.columns)) + r" \\"
    head = [r"\toprule", heading, r"\midrule"]
    rows, before = [], ""
    for first, *rest, last in table.rows:
        name = "" if first == before else escaped(first)
        name = f"{{}}{name}" if name[:1] in ("[", "*") else name  # or the line break before would take it for its own
        rows.append(" & ".join([name, *map(escaped, rest), mathematical(last)]) + r" \\")
        before = first
    safe = re.sub(r"[^A-Za-z0-9:-]+", "-", label)
    return "\n".join(
        [
            rf"\begin{{longtable}}{{{columns}}}",
            rf"\caption{{{escaped(table.caption)}}}\label{{tab:{safe}}}\\",
            *head,
            r"\endfirsthead",
            *head,
            r"\endhead",
            r"\bottomrule",
            r"\endlastfoot",
            *rows,
            r"\end{longtable}",
        ]
    )


def escaped(text: str) -> str:
    """Text in which nothing is a command."""
    return _one_line(text).translate(SPECIALS)


def mathematical(text: str) -> str:
    """Numbers as the page writes them, in mathematics: `−7.25 [−7.90, −6.61]`, `4.20×10⁷`; the rest escaped."""
    done, parts, text = 0, [], _one_line(text)
    for found in NUMBER.finditer(text):
        parts += [text[done : found.start()].translate(SPECIALS), _number(found)]
        done = found.end()
    return "".join([*parts, text[done:].translate(SPECIALS)])


def _number(found: re.Match[str]) -> str:
    mantissa = found[0].partition("×")[0].rstrip(",.")
    after = found[0].partition("×")[0][len(mantissa) :]
    power = rf" \times 10^{{{found[1].translate(DIGITS)}}}" if found[1] else ""
    return f"${mantissa.replace('−', '-').replace(',', '{,}')}{power}${after}"


def _one_line(text: str) -> str:
    return " ".join(part for part in re.split(r"[\s\x00-\x1f\x7f]+", text) if part)


def _experiments(records: Measurements) -> list[str]:
    """In the order of the page."""
    names, known = {r.experiment for r in records.select(split="test")}, list(words.EXPERIMENTS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def _table(run: RunFolder, experiment: str) -> Table:
    """A row for each record of held-out speakers, metric after metric; without the columns that tell nothing."""
    records = run.measurements.select(experiment=experiment, split="test")
    metrics = list(dict.fromkeys(r.metric for r in records))
    ordered = sorted(records, key=lambda r: metrics.index(r.metric))
    cells = [_cells(r) for r in ordered]
    telling = [name for name in VARYING if len({cell[name] for cell in cells}) > 1]
    rows = tuple(
        (_metric(r.metric), *(cell[name] for name in telling), shown(r)) for r, cell in zip(ordered, cells, strict=True)
    )
    same = [f"{name} {cells[0][name]}" for name in VARYING if name not in telling and cells[0][name]]
    told = words.experiment(experiment)
    known = f"{run.provenance.corpus.name}: {', '.join([*same, '95 % intervals over held-out speakers'])}."
    caption = f"{told.title}: {told.question} {known}"
    return Table(caption, ("metric", *telling, "value"), rows)


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
