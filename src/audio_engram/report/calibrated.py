"""What calibration found, as text and as a page."""

from functools import partial
from itertools import count
from pathlib import Path

from audio_engram import numbers
from audio_engram.calibration import ALLOWED, Passed, Recovered
from audio_engram.data.publish import publish_text
from audio_engram.measurements import Measurement
from audio_engram.report.bars import Across, Row, dot_panel
from audio_engram.report.figure import Drawn, figure
from audio_engram.report.series import style_of
from audio_engram.report.tables import Table
from audio_engram.report.templating import page

Found = tuple[list[Passed], list[Recovered]]
VERDICTS = ("pass", "undecided", "fail", "unattainable")


def verdicts(passed: list[Passed]) -> Table:
    """A row for each experiment and world."""
    rows = tuple(
        (
            *(one.row.experiment, one.row.world, "nothing" if one.row.null else "something"),
            *(str(one.verdicts.get(verdict, 0)) for verdict in VERDICTS),
            numbers.interval(*one.rate),
            _word(one),
        )
        for one in passed
    )
    columns = ("experiment", "world", "to find", *VERDICTS, "share that passed", "calibration")
    caption = (
        f"Verdicts over seeds, with 95 % intervals of the share that passed (Wilson 1927). Where there is nothing to "
        f"find calibration holds while the interval reaches down to {ALLOWED:.0%}; elsewhere, if more than half pass. "
        "It holds only so far where so few seeds could not have told otherwise."
    )
    return Table(caption, columns, rows, heads=3)


def _word(one: Passed) -> str:
    if not one.holds:
        return "DOES NOT HOLD"
    return "holds" if one.enough else "holds so far"


def recovery(recovered: list[Recovered]) -> Table:
    """A row for each figure whose truth is known."""
    rows = tuple(
        (
            *(one.row.experiment, one.row.world, one.figure),
            *(numbers.number(value) for value in (one.truth, one.mean, one.bias)),
            "–" if one.spread is None else numbers.number(one.spread),
            "–" if one.coverage is None else f"{one.coverage:.0%}",
            str(one.n),
        )
        for one in recovered
    )
    columns = ("experiment", "world", "figure", "truth", "mean", "bias", "spread", "covered", "seeds")
    caption = (
        "Figures whose truth is known: mean over seeds, its distance to the truth, standard deviation between seeds, "
        "and how many 95 % intervals hold the truth. The truth is that of the best predictor: a trained one stays "
        "behind it, and an interval over speakers says nothing of that."
    )
    return Table(caption, columns, rows, heads=3)


def as_text(found: Found) -> str:
    """Both tables for a terminal."""
    return "\n\n".join(aligned(table) for table in (verdicts(found[0]), recovery(found[1])) if table.rows)


def aligned(table: Table) -> str:
    """A table in columns of equal width."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def write_page(path: Path, found: Found, seeds: int) -> None:
    """Both tables and both figures as a page that needs nothing else."""
    helpers = {"next_figure": partial(next, count(1)), "next_table": partial(next, count(1))}
    over = f"{seeds} seed" + ("" if seeds == 1 else "s")
    panels = _panel(found[0], null=True) + _panel(found[0], null=False)
    caption = (
        f"How often each experiment passed over {over}, with 95 % intervals. Where there is nothing to find a share of "
        f"{ALLOWED:.0%} (the line) is allowed; where there is something, more than half are asked for."
    )
    content = {
        "seeds": over,
        "enough": all(one.enough for one in found[0]),
        "figures": figure(caption, panels),
        "tables": [table for table in (verdicts(found[0]), recovery(found[1])) if table.rows],
        "fooled": [f"{one.row.experiment} on {one.row.world}" for one in found[0] if not one.holds],
    }
    publish_text(path, page("calibration.html", helpers, content))


def _panel(passed: list[Passed], null: bool) -> list[Drawn]:
    mine = [one for one in passed if one.row.null is null]
    rows = [Row(f"{one.row.experiment}, {one.row.world}", _record(one), style_of("vmf")) for one in mine]
    title, name = ("nothing", "calibration") if null else ("something", "calibration-found")
    line = ALLOWED if null else 0.5
    return (
        [(dot_panel(f"Share that passed where there is {title}", name, rows, Across(((line, ""),))), [])]
        if rows
        else []
    )


def _record(one: Passed) -> Measurement:
    value, low, high = one.rate
    return Measurement(experiment="calibration", model="", metric="passed", value=value, low=low, high=high)
