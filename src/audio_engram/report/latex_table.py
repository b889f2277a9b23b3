"""A table as LaTeX: as wide as the text at most, and in parts where it is longer than a page or far too wide.

It needs the packages booktabs and graphicx. A longtable breaks over pages by itself, but nothing makes it narrower.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, zip_longest
from math import ceil
from textwrap import wrap

from audio_engram.report.tables import Table

NAME, NAME_STACKED, HEADING = 36, 24, 14
"""Characters in a line of a name, of one where there is a second line in any case, and of a heading."""
WIDE, WIDEST = 80, 130
"""Characters beside one another in the text of an article: where values take more than the first, their intervals stand
below them; where that is more than the second, some columns stand in a further part."""
SMALLER = 0.8
"""Of an interval below its value."""
LONG = 42
"""Lines on a page under the caption."""
SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "≤": r"$\le$", "≥": r"$\ge$", "‖": r"$\Vert$"},
    **{"–": "--", "—": "---", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''", "→": r"$\to$"},
    **{"²": "$^{2}$", "³": "$^{3}$", "¹": "$^{1}$", "√": r"$\surd$", "∞": r"$\infty$", "½": "1/2", "₁": "$_{1}$"},
    **{"Δ": r"$\Delta$", "δ": r"$\delta$", "κ": r"$\kappa$", "η": r"$\eta$", "σ": r"$\sigma$", "μ": r"$\mu$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "ε": r"$\varepsilon$", "ẑ": r"$\hat z$"},
}
SPECIALS = str.maketrans(SPECIAL)
NUMBER = re.compile(r"−?\d[\d,.]*(?:×10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+))?")
DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
Row = tuple[str, ...]


def as_latex(table: Table, label: str) -> list[str]:
    """A float, or several under one number. A name that is that of the row above is left out."""
    stacked = len(table.columns) - table.heads > 1 and _width(table, stacked=False) > WIDE
    caption = rf"\caption{{{escaped(table.caption)}}}\label{{tab:{re.sub(r'[^A-Za-z0-9:-]+', '-', label)}}}"
    found = []
    for part in (part for columns in _beside(table, stacked) for part in _pages(columns, stacked)):
        found.append(_float(caption, part, stacked))
        caption = r"\addtocounter{table}{-1}\caption{(continued)}"
    return found


def _float(caption: str, table: Table, stacked: bool) -> str:
    columns = "l" * table.heads + "r" * (len(table.columns) - table.heads)
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            caption,
            r"\smallskip\centering\small\setlength{\tabcolsep}{4pt}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            *_heading(table),
            *_rows(table, stacked),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _beside(table: Table, stacked: bool) -> list[Table]:
    """As few tables as have room for all columns of values, each with about as many."""
    values = range(table.heads, len(table.columns))
    for n in range(1, len(values)):
        share = ceil(len(values) / n)
        parts = [_columns(table, values[first : first + share]) for first in range(0, len(values), share)]
        if all(_width(part, stacked) <= WIDEST for part in parts):
            return parts
    return [_columns(table, [value]) for value in values]


def _columns(table: Table, values: Iterable[int]) -> Table:
    """The names with these columns."""
    kept = (*range(table.heads), *values)
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)


def _pages(table: Table, stacked: bool) -> list[Table]:
    """Tables of about the same length, each with some of the rows."""
    heights = [max(map(len, _lines(row, table.heads, stacked))) for row in table.rows]
    room = LONG * max(1.0, _width(table, stacked) / WIDE)  # What is made narrower is made less high as well.
    share = sum(heights) / ceil(sum(heights) / room)
    pages: dict[int, tuple[Row, ...]] = {}
    for row, before in zip(table.rows, accumulate(heights, initial=0), strict=False):
        page = int(before / share)
        pages[page] = (*pages.get(page, ()), row)
    return [replace(table, rows=rows) for rows in pages.values()]


def _heading(table: Table) -> list[str]:
    """The names of the columns, which end at the same line."""
    cells = [[escaped(line) for line in lines] for lines in _titles(table)]
    height = max(map(len, cells))
    lines = zip(*([""] * (height - len(cell)) + cell for cell in cells), strict=True)
    return [r"\toprule", *(_protected(line) + r" \\" for line in lines), r"\midrule"]


def _titles(table: Table) -> list[list[str]]:
    return [_wrapped(column, HEADING) for column in table.columns]


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(one_line(text), width, break_on_hyphens=False) or [""]


def _rows(table: Table, stacked: bool) -> Iterator[str]:
    """Each row; where several columns name it, the first of them only if it changes."""
    before = None
    for row in table.rows:
        cells = _lines(row, table.heads, stacked)
        if table.heads > 1 and row[0] == before:
            cells[0] = [""]
        yield _row(cells, table.heads)
        before = row[0]


def _lines(row: Row, heads: int, stacked: bool) -> list[list[str]]:
    """The lines of each cell."""
    names = [_wrapped(cell, NAME_STACKED if stacked else NAME) for cell in row[:heads]]
    return names + [_value(one_line(cell), stacked) for cell in row[heads:]]


def _value(cell: str, stacked: bool) -> list[str]:
    value, bracket, ends = cell.partition(" [")
    return [value, f"[{ends}"] if stacked and bracket else [cell]


def _row(cells: list[list[str]], heads: int) -> str:
    names = [[escaped(first), *(rf"\quad {escaped(line)}" for line in more)] for first, *more in cells[:heads]]
    values = [
        [mathematical(first), *(rf"{{\scriptsize {mathematical(line)}}}" for line in more)]
        for first, *more in cells[heads:]
    ]
    lines = [_protected(line) for line in zip_longest(*names, *values, fillvalue="")]
    return " \\\\[-0.4ex]\n".join(lines) + (r" \\[0.5ex]" if len(lines) > 1 else r" \\")


def _protected(cells: Iterable[str]) -> str:
    """A line whose beginning the line break before it does not take for its own."""
    line = " & ".join(cells)
    return f"{{}}{line}" if line[:1] in ("[", "*") else line


def _width(table: Table, stacked: bool) -> float:
    """In characters."""
    widths = [[float(max(map(len, cell))) for cell in _titles(table)]]
    widths += [[*map(_room, _lines(row, table.heads, stacked))] for row in table.rows]
    return sum(max(column) + 2.0 for column in zip(*widths, strict=True))


def _room(cell: list[str]) -> float:
    """Of the longest line."""
    return max(len(line) * (SMALLER if line.startswith("[") else 1.0) for line in cell)


def escaped(text: str) -> str:
    """Text in which nothing is a command."""
    return one_line(text).translate(SPECIALS)


def mathematical(text: str) -> str:
    """Numbers as the page writes them, in mathematics: `−7.25 [−7.90, −6.61]`, `4.20×10⁷`; the rest escaped."""
    done, parts, text = 0, [], one_line(text)
    for found in NUMBER.finditer(text):
        parts += [text[done : found.start()].translate(SPECIALS), _number(found)]
        done = found.end()
    return "".join([*parts, text[done:].translate(SPECIALS)])


def _number(found: re.Match[str]) -> str:
    mantissa = found[0].partition("×")[0].rstrip(",.")
    after = found[0].partition("×")[0][len(mantissa) :]
    power = rf" \times 10^{{{found[1].translate(DIGITS)}}}" if found[1] else ""
    return f"${mantissa.replace('−', '-').replace(',', '{,}')}{power}${after}"


def one_line(text: str) -> str:
    """Text without line breaks and control characters."""
    return " ".join(part for part in re.split(r"[\s\x00-\x1f\x7f]+", text) if part)
