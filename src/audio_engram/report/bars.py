"""Waterfalls and dots with intervals: one row a number, its value at the right edge."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from audio_engram import numbers
from audio_engram.measurements import Measurement
from audio_engram.report.panels import Margins, Panel, axes, color, to_svg
from audio_engram.report.scales import scale
from audio_engram.report.series import Style

ROW = 30.0
LINE_NAMES = 18.0
LETTER = 6.6  # of room for a label


class Across(NamedTuple):
    """The axis of dots: upright lines with their labels, its range, and whether values may be of any size.

    Sizes below the `finest` need not be told apart.
    """

    lines: tuple[tuple[float, str], ...] = ((0.0, ""),)
    limits: tuple[float, float] | None = None
    any_size: bool = False
    finest: float = 0.0


ZERO = Across()


class Row(NamedTuple):
    """A named number with the look of its series."""

    label: str
    record: Measurement
    style: Style


def dot_panel(title: str, name: str, rows: Sequence[Row], across: Across = ZERO) -> Panel:
    """Dots with intervals beside lines, at zero unless told; those of any size may need an axis that is not linear."""
    named = LINE_NAMES if any(text for _, text in across.lines) else 0.0
    left = min(190, 14 + round(LETTER * max((len(row.label) for row in rows), default=0)))
    with axes(Margins(left, right=58, top=10 + round(named), bottom=34), ROW * len(rows) + 54 + named) as on:
        _rows(on, [row.label for row in rows])
        for value, text in across.lines:
            _line(on, value, text)
        for place, row in enumerate(rows):
            _whisker(on, row.record, place, row.style.role)
            if row.record.value is not None:
                face = color(row.style.role) if row.style.filled else color("card")
                edge = color(row.style.role)
                on.plot(
                    row.record.value,
                    place,
                    row.style.marker or "o",
                    color=edge,
                    markerfacecolor=face,
                    markersize=6,
                )
            _value(on, row.record, place)
        if across.any_size:
            scale(on, "x", [max(abs(r.value), across.finest) for _, r, _ in rows if r.value is not None])
        if across.limits:
            on.set_xlim(*across.limits)
        return Panel(title, to_svg(on, name), describe(title, rows))


def _line(on: Axes, value: float, text: str) -> None:
    """An upright line, named above the panel."""
    on.axvline(value, color=color("threshold"), linewidth=1, linestyle=(0, (3, 2)))
    if text:
        on.annotate(
            text,
            (value, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10.5,
            color=color("threshold"),
        )


def waterfall_panel(title: str, name: str, parts: Sequence[Row], total: Row, limits: tuple[float, float]) -> Panel:
    """Parts that run on from one another and end at their total."""
    with axes(Margins(left=118, right=58, top=10, bottom=34), height=ROW * (len(parts) + 1) + 54) as on:
        _rows(on, [row.label for row in parts] + [total.label])
        on.axvline(0, color=color("muted"), linewidth=0.8)
        reached = 0.0
        for place, row in enumerate(parts):
            value = row.record.value or 0.0
            _bar(on, place, reached, value, row.style)
            reached += value
            on.plot([reached, reached], [place + 0.3, place + 0.7], color=color("muted"), linewidth=0.8)
            _value(on, row.record, place)
        _bar(
            on,
            len(parts),
            0.0,
            total.record.value or 0.0,
            Style(total.style.role, filled=total.style.filled),
            0.9,
        )
        _whisker(on, total.record, len(parts), "ink")
        _value(on, total.record, len(parts))
        on.set_xlabel("nats/frame")
        on.set_xlim(*limits)
        return Panel(title, to_svg(on, name), describe(title, [*parts, total]))


def describe(title: str, rows: Sequence[Row]) -> str:
    """The panel in words."""
    said = ". ".join(f"{r.label}: {numbers.interval(r.record.value, r.record.low, r.record.high)}" for r in rows)
    return f"{title}. {said}."


def _rows(on: Axes, labels: list[str]) -> None:
    on.set_yticks(range(len(labels)), labels)
    for text in on.get_yticklabels():
        text.set_color(color("ink"))
    on.set_ylim(len(labels) - 0.5, -0.5)
    on.grid(axis="y", visible=False)
    on.grid(axis="x", visible=True)
    on.spines["left"].set_visible(False)
    on.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    on.xaxis.set_major_formatter(FuncFormatter(numbers.tick))


def _bar(on: Axes, place: int, start: float, length: float, style: Style, alpha: float = 0.55) -> None:
    shade = color(style.role)
    if style.filled:
        on.barh(place, length, left=start, height=0.56, color=shade, alpha=alpha, linewidth=0)
    else:
        on.barh(
            place,
            length,
            left=start,
            height=0.56,
            facecolor="none",
            edgecolor=shade,
            hatch="////",
            linewidth=1,
        )
        on.barh(place, length, left=start, height=0.56, color=shade, alpha=alpha / 3, linewidth=0)


def _whisker(on: Axes, record: Measurement, place: int, role: str) -> None:
    if record.low is not None and record.high is not None:
        on.plot([record.low, record.high], [place, place], color=color(role), linewidth=1.6, solid_capstyle="butt")


def _value(on: Axes, record: Measurement, place: int) -> None:
    """The number itself, in a column at the right edge."""
    on.annotate(
        numbers.number(record.value),
        (1, place),
        (54, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
    )
