"""What calibration found, as text and as a page."""

import json
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

from audio_engram import __version__, numbers
from audio_engram.calibration import ALLOWED, TOGETHER, Passed, Recovered
from audio_engram.calibration_plan import OTHER_SETTINGS, OTHER_SIZES, SETTINGS, SPEAKERS, UTTERANCES
from audio_engram.data.publish import publish_text
from audio_engram.measurements import Measurement
from audio_engram.report import words
from audio_engram.report.bars import Across, Row, dot_panel
from audio_engram.report.figure import Drawn, figure
from audio_engram.report.series import style_of
from audio_engram.report.tables import Table
from audio_engram.report.templating import page

Found = tuple[list[Passed], list[Recovered]]
KNOWN = {
    "ar": "Pairs of dimensions that turn and shrink, with noise: all of it is foretold by the frame before.",
    "archetypes": "Increments along planted directions drawn at random: they exist, and no context foretells them.",
    "chained": "The same directions, each followed by its own next one: contexts foretell them.",
    "correlated": "A Gaussian process with few axes: nothing but its covariance, AR(1) tells all.",
    "headings": "Contexts foretell the direction of an increment and not its magnitude.",
    "noise": "Independent Gaussian frames: regression to the mean and nothing else.",
    "planes": "A resonance in one of four planes, drawn for every utterance: no direction is preferred in any.",
    "pulses": "Pulses through a first-order filter: nothing but the filter.",
    "regimes": "States that follow one another, which clusters of contexts find.",
    "resonance": "White noise through a resonator: nothing but its spectrum.",
    "shuffled": "Frames of a process in random order, with speakers and loudness: nothing in their order.",
    "strides": "Contexts foretell the magnitude of an increment and of its direction only the way back.",
    "walk": "A sum of independent Gaussian increments: what follows a frame does not depend on it.",
}
VERDICTS = ("pass", "undecided", "fail", "unattainable")


def verdicts(passed: list[Passed]) -> Table:
    """A row for each experiment and world."""
    rows = tuple(
        (
            *(one.row.experiment, one.row.world, "no" if one.row.null else "yes"),
            *(str(one.verdicts.get(verdict, 0)) for verdict in VERDICTS),
            numbers.interval(*one.rate),
            _word(one),
        )
        for one in passed
    )
    columns = ("experiment", "world", "should pass", *VERDICTS, "share that passed", "calibration")
    caption = (
        f"Verdicts over seeds, with 95 % intervals of the share that passed (Wilson 1927). Where a world lacks "
        f"what its experiment asks for, calibration holds while the interval reaches down to {ALLOWED:.0%}; elsewhere, "
        "if more than half pass, which fewer seeds can tell. Null worlds of an experiment are counted together too. "
        "Calibration holds only so far where so few seeds could not have told otherwise."
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
            *(one.row.experiment, one.row.world, *_figure(one.figure)),
            *(numbers.number(value) for value in (one.truth, one.mean, one.bias)),
            "–" if one.spread is None else numbers.number(one.spread),
            "–" if one.coverage is None else f"{one.coverage:.0%}",
            str(one.n),
        )
        for one in recovered
    )
    columns = ("experiment", "world", "figure", "of", "truth", "mean", "bias", "spread", "truth in interval", "seeds")
    caption = (
        "Figures whose truth is known: mean over seeds, its distance to the truth, standard deviation between seeds, "
        "and how many 95 % intervals hold the truth. The truth is that of the best predictor: a trained one stays "
        "behind it, and an interval over speakers says nothing of that: how many hold it is no part of whether "
        "calibration holds, which is a matter of verdicts alone. A world that lacks what its experiment asks for may "
        "have known figures all the same."
    )
    return Table(caption, columns, rows, heads=4)


def _figure(name: str) -> tuple[str, str]:
    """What a figure is called, and whose it is."""
    metric, _, model = name.partition(", ")
    return words.metric(metric).label, words.model(model)


def worlds(passed: list[Passed]) -> Table:
    """What each world is that was asked."""
    names = sorted({one.row.world for one in passed} - {TOGETHER})
    return Table("The worlds.", ("world", "what it is"), tuple((name, KNOWN.get(name, "")) for name in names), 2)


def reasons(passed: list[Passed]) -> Table:
    """Why the answer of each row is known."""
    rows = tuple((one.row.experiment, one.row.world, "no" if one.row.null else "yes", one.row.reason) for one in passed)
    caption = "Why it is known whether an experiment should pass, by construction of the world and of what is trained."
    return Table(caption, ("experiment", "world", "should pass", "because"), rows, heads=4)


def as_text(found: Found) -> str:
    """Both tables for a terminal."""
    return "\n\n".join(aligned(table) for table in (verdicts(found[0]), recovery(found[1])) if table.rows)


def aligned(table: Table) -> str:
    """A table in columns of equal width."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _made(path: Path, asked: str, command: str) -> list[tuple[str, str]]:
    """By which command and version, and when the trials were carried out."""
    trials = [file.stat().st_mtime for file in (path.parent / "trials").glob("*-*.json")]
    days = sorted({datetime.fromtimestamp(end, UTC).date().isoformat() for end in trials})
    facts = [
        ("Command", command),
        ("Version", __version__),
        ("Asked of each experiment", asked),
        ("Trials carried out", " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))),
        ("Speakers, utterances of each", f"{SPEAKERS}, {UTTERANCES}"),
        *((f"The same for {name}", f"{of}, {each}") for name, (of, each) in OTHER_SIZES.items()),
    ]
    return [(name, value) for name, value in facts if value]


def write_page(path: Path, found: Found, seeds: int, command: str = "") -> None:
    """Tables and both figures as a page that needs nothing else."""
    helpers = {"next_figure": partial(next, count(1)), "next_table": partial(next, count(1))}
    over = f"{seeds} null world" + ("" if seeds == 1 else "s")
    panels = _panel(found[0], null=True) + _panel(found[0], null=False)
    caption = (
        f"How often each experiment passed, asked about {over}, with 95 % intervals. Where a world lacks what the "
        f"experiment asks for, a share of {ALLOWED:.0%} (the line) is allowed; elsewhere more than half are asked for."
    )
    content = {
        "asked": over,
        "enough": all(one.enough for one in found[0]),
        "figures": figure(caption, panels),
        "tables": [table for table in _tables(found) if table.rows],
        "made": _made(path, over, command),
        "settings": json.dumps(SETTINGS | {"in place of these, by experiment": OTHER_SETTINGS}, indent=1),
        "fooled": [f"{one.row.experiment} on {one.row.world}" for one in found[0] if not one.holds],
    }
    publish_text(path, page("calibration.html", helpers, content))


def _tables(found: Found) -> tuple[Table, ...]:
    return verdicts(found[0]), recovery(found[1]), reasons(found[0]), worlds(found[0])


def _panel(passed: list[Passed], null: bool) -> list[Drawn]:
    mine = [one for one in passed if one.row.null is null]
    rows = [Row(f"{one.row.experiment}, {one.row.world}", _record(one), style_of("vmf")) for one in mine]
    title, name = ("none may pass", "calibration") if null else ("it should pass", "calibration-found")
    across = Across(((ALLOWED if null else 0.5, ""),), limits=(-0.03, 1.03))
    return [(dot_panel(f"Share that passed where {title}", name, rows, across), [])] if rows else []


def _record(one: Passed) -> Measurement:
    value, low, high = one.rate
    return Measurement(experiment="calibration", model="", metric="passed", value=value, low=low, high=high)
