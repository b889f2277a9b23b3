"""Curves with intervals along lags, steps or epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, SymmetricalLogLocator

from audio_engram import numbers
from audio_engram.measurements import Measurement
from audio_engram.report.panels import HEIGHT, Panel, axes, color, to_svg
from audio_engram.report.series import Curve, Style

Point = tuple[float, float]
DASHES = {
    "solid": "-",
    "dashed": (0, (5, 2)),
    "dotted": (0, (1, 1.6)),
    "dashdot": (0, (6, 2, 1, 2)),
    "none": "none",
}
LINEAR_TO = 100.0
EXPLODED = 30.0
BESIDE = 0.06  # of the width of the curves is what a point beside them has to itself
FEW_PLACES = 4  # on an axis, each of which has its own tick
DEEPEST = 1e-3  # of the largest value: below it a log axis would be drawn for what has long vanished


@dataclass(frozen=True)
class Look:
    """What surrounds the curves: the axis they run along, the scale, guide lines and shaded bands."""

    axis: str
    scale: str = "linear"
    guides: tuple[tuple[float, str], ...] = ()
    bands: tuple[tuple[float, float], ...] = ()
    marks: tuple[float, ...] = ()
    limits: tuple[float, float] | None = None
    x_label: str = ""
    height: float = HEIGHT

    @property
    def runs_along(self) -> str:
        """What the horizontal axis says."""
        return self.x_label or {"lag": "lag k (frames)", "step": "rollout step"}.get(self.axis, self.axis)


def line_panel(title: str, name: str, drawn: Sequence[Curve], look: Look, beside: Sequence[Curve] = ()) -> Panel:
    """A panel of curves, with single points `beside` them, left of where they begin; `name` is unique on the page."""
    with axes(height=look.height) as on:
        _scale_y(on, [v for c in (*drawn, *beside) for v in _values(c)], look.scale)
        for low, high in look.bands:
            on.axhspan(low, high, color=color("threshold"), alpha=0.1, linewidth=0)
        for mark in look.marks:
            on.axvline(mark, color=color("rule"), linewidth=1, linestyle=(0, (2, 2)))
        for index, curve in enumerate(drawn):
            _draw(on, curve, look, index)
        places = sorted({float(getattr(r, look.axis)) for c in drawn for r in c.records})
        _beside(on, beside, places)
        _finish_x(on, places, look)
        if look.limits:
            on.set_ylim(*look.limits)
        for value, text in look.guides:
            _guide(on, (value, text), _points(drawn, look), (1,) if beside else (1, 0))
        return Panel(title, to_svg(on, name), describe(title, drawn, look, beside))


def common_limits(records: Sequence[Measurement], scale: str) -> tuple[float, float] | None:
    """A vertical range that holds all intervals, so that panels side by side can be compared."""
    ends = [v for r in records for v in (r.value, r.low, r.high) if v is not None]
    if not ends or min(ends) == max(ends) or (scale == "log" and min(ends) <= 0):
        return None
    if scale == "log":
        return max(min(ends) / 1.1, max(ends) * DEEPEST), max(ends) * 1.1
    room = 0.05 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def describe(title: str, drawn: Sequence[Curve], look: Look, beside: Sequence[Curve] = ()) -> str:
    """The panel in words: where each curve starts and ends, as far as it was measured."""
    parts = [f"{title} along {look.runs_along}."]
    for curve in drawn:
        measured = [r for r in curve.records if r.value is not None or r.n_frames]
        ends = measured[:1] + (measured[-1:] if len(measured) > 1 else [])
        said = ", ".join(f"{numbers.number(r.value)} at {getattr(r, look.axis)}" for r in ends)
        parts.append(f"{curve.label}: {said}.")
    parts += [f"Beside: {c.label}: {numbers.number(c.records[0].value)}." for c in beside]
    return " ".join(parts)


def _points(drawn: Sequence[Curve], look: Look) -> list[Point]:
    return [(float(getattr(r, look.axis)), r.value) for c in drawn for r in c.records if r.value]


def _beside(on: Axes, beside: Sequence[Curve], places: Sequence[float]) -> None:
    """Draw single points with their intervals before the first place, a column each."""
    if not beside or not places:
        return
    column = BESIDE * (places[-1] - places[0])
    on.axvline(places[0] - column / 2, color=color("rule"), linewidth=1)
    for number, curve in enumerate(reversed(beside), start=1):
        record, x = curve.records[0], places[0] - number * column
        shade = color(curve.style.role)
        on.vlines([x], [_or_nan(record.low)], [_or_nan(record.high)], color=shade, linewidth=1.1, zorder=2)
        _plot(on, ([x], [_or_nan(record.value)]), curve.style)


def _values(curve: Curve) -> list[float]:
    return [r.value for r in curve.records if r.value is not None]


def _scale_y(on: Axes, values: list[float], scale: str) -> None:
    if scale == "log" and values and min(values) > 0:
        on.set_yscale("log")
        wide = max(values) / min(values) > 1000
        on.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=8))
        on.yaxis.set_minor_locator(NullLocator())
    elif scale == "symlog" and max(map(abs, values), default=0.0) > EXPLODED * LINEAR_TO:
        on.set_yscale("symlog", linthresh=LINEAR_TO)
        on.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LINEAR_TO))
    else:
        on.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    on.yaxis.set_major_formatter(FuncFormatter(numbers.tick))


def _draw(on: Axes, curve: Curve, look: Look, place: int) -> None:
    """A curve; `place` sets its markers aside a little, so that they do not hide one another."""
    # A line through one place cannot be seen: a short dash stands for it.
    style = curve.style if len(curve.records) > 1 else curve.style._replace(marker=curve.style.marker or "_")
    aside = 2 ** (0.03 * (place % 5 - 1)) if look.axis == "lag" and style.marker not in ("", "x") else 1.0
    x = [aside * getattr(r, look.axis) for r in curve.records]
    y = [_or_nan(r.value) for r in curve.records]
    _plot(on, (x, y), style, (place % 3, 3) if len(x) > 10 else None)
    if curve.with_interval:
        _intervals(on, curve, x, look.axis == "step" or not style.marker)


def _plot(on: Axes, line: tuple[list[float], list[float]], style: Style, every: tuple[int, int] | None = None) -> None:
    """A line with its markers, at all places or every so many."""
    on.plot(
        *line,
        color=color(style.role),
        linestyle=DASHES[style.dash],
        linewidth=1.7 if style.marker and style.filled else 1.2,
        marker=style.marker or None,
        markersize={"x": 5.5, "_": 12.0}.get(style.marker, 4.6),
        markevery=every,
        markerfacecolor=color(style.role) if style.filled else color("card"),
        markeredgecolor=color(style.role),
        markeredgewidth=1.2,
        solid_capstyle="round",
        zorder=3 + style.filled,
    )


def _intervals(on: Axes, curve: Curve, x: list[float], as_band: bool) -> None:
    low, high = [_or_nan(r.low) for r in curve.records], [_or_nan(r.high) for r in curve.records]
    if all(math.isnan(v) for v in low + high):
        return
    shade = color(curve.style.role)
    if as_band:
        alpha = 0.28 if curve.style.role == "ceiling" else 0.12
        on.fill_between(x, low, high, color=shade, alpha=alpha, linewidth=0, zorder=1)
    else:
        on.vlines(x, low, high, color=shade, linewidth=1.1, zorder=2)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _finish_x(on: Axes, places: list[float], look: Look) -> None:
    on.set_xlabel(look.runs_along)
    if look.axis == "lag" and places:
        on.set_xscale("log", base=2)
        on.set_xticks(places, [f"{p:g}" for p in places])
        on.xaxis.set_minor_locator(NullLocator())
        on.set_xlim(places[0] / 1.25, places[-1] * 1.25)
    elif places:
        every = max(1, round((places[-1] - places[0]) / 4))
        few = len(places) <= FEW_PLACES
        on.set_xticks(places if few else sorted({places[0], *(p for p in places if p % every == 0)}))
        on.xaxis.set_major_formatter(FuncFormatter(numbers.tick))


def _guide(on: Axes, guide: tuple[float, str], points: Sequence[Point], sides: Sequence[int]) -> None:
    """A line across the panel, labelled at the side where the curves leave most room."""
    value, text = guide
    on.axhline(value, color=color("threshold"), linewidth=1, linestyle=(0, (3, 2)), zorder=2)
    if not text:
        return
    side, above = _most_room(on, value, points, sides)
    on.annotate(
        text,
        (side, value),
        (0, 3 if above else -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right" if side else "left",
        va="bottom" if above else "top",
        fontsize=10.5,
        color=color("threshold"),
        zorder=6,
    )


LABEL = 0.08  # of a panel's height


def _most_room(on: Axes, value: float, drawn: Sequence[Point], sides: Sequence[int]) -> tuple[int, bool]:
    """Left (0) or right (1), above or below a guide: where the nearest curve is furthest."""
    on.get_ylim()  # Limits are worked out when asked for, and the transform does not ask.
    where = on.transAxes.inverted()
    points = [where.transform(on.transData.transform(point)) for point in drawn]
    height = where.transform(on.transData.transform((1, value)))[1]

    def room(side: int, above: bool) -> float:
        if not above and height < LABEL:
            return 0.0  # it would lie among the ticks
        near = [y - height for x, y in points if abs(x - side) < 0.55]
        gaps = [gap if above else -gap for gap in near]
        return min([gap for gap in gaps if gap > -0.02], default=0.5 if (height < 0.9 or not above) else 0.1)

    return max(((side, above) for above in (True, False) for side in sides), key=lambda c: room(*c))


def epoch_records(values: Sequence[tuple[int, float | None]]) -> tuple[Measurement, ...]:
    """Losses in the shape that curves are drawn from; `step` is the epoch."""
    return tuple(
        Measurement(experiment="training", model="", metric="loss", value=value, step=epoch) for epoch, value in values
    )
