"""Points with intervals both ways."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from audio_engram import numbers
from audio_engram.measurements import Measurement
from audio_engram.report import words
from audio_engram.report.labels import RADII, Box, places
from audio_engram.report.panels import Margins, Panel, axes, color, to_svg
from audio_engram.report.scales import scale
from audio_engram.report.series import Style

HEIGHT = 330.0
RATIOS, NEAR_ONE = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0), (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
WIDE = 1.8  # times its lower end an axis of ratios may reach, to have ticks near 1


class Point(NamedTuple):
    """A labelled point: one measurement across, one upwards."""

    label: str
    x: Measurement
    y: Measurement
    style: Style


class Seen(NamedTuple):
    """Where a point is drawn, and whether its true place lies below the panel."""

    point: Point
    x: float
    y: float
    below: bool


def scatter_panel(
    title: str, name: str, points: Sequence[Point], labels: tuple[str, str], limits: tuple[float, float]
) -> Panel:
    """Crosses of intervals with a marker in their middle and a label beside; points without a value are left out.

    What lies below the lower limit stands on it as an arrow, and its value in the note.
    """
    with axes(Margins(left=64, right=24, top=12, bottom=44), height=HEIGHT) as on:
        seen = [one for point in points if (one := _seen(point, limits[0])) is not None]
        scale(on, "x", [one.x for one in seen])
        for one in seen:
            _cross(on, one)
        on.set_ylim(*limits)
        on.set_xlabel(labels[0])
        on.set_ylabel(labels[1])
        on.grid(axis="x", visible=True)
        on.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        on.yaxis.set_major_formatter(FuncFormatter(numbers.tick))
        _label(on, seen)
        return Panel(title, to_svg(on, name), _described(title, points), note=_further_down(seen))


class Plane(NamedTuple):
    """Two axes of ratios: their labels, what is wanted to stay below along each, and their ranges."""

    labels: tuple[str, str]
    wanted: tuple[float, float]
    across: tuple[float, float]
    upwards: tuple[float, float]


def ratio_panel(title: str, name: str, points: Sequence[Point], plane: Plane) -> Panel:
    """Points on logarithmic axes around a cross at (1, 1), with the corner shaded that is wanted.

    What lies outside, or is no number, stands in the note.
    """
    with axes(Margins(left=64, right=24, top=12, bottom=44), height=HEIGHT) as on:
        seen = [one for point in points if (one := _within(point, plane)) is not None]
        on.set_xscale("log")
        on.set_yscale("log")
        on.set_xlim(*plane.across)
        on.set_ylim(*plane.upwards)
        _corner(on, plane)
        for one in seen:
            _cross(on, one)
        on.set_xlabel(plane.labels[0])
        on.set_ylabel(plane.labels[1])
        on.grid(axis="x", visible=True)
        for axis, (low, high) in ((on.xaxis, plane.across), (on.yaxis, plane.upwards)):
            axis.set_major_locator(FixedLocator(RATIOS if high > WIDE * low else NEAR_ONE))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(numbers.tick))
        _label(on, seen)
        drawn = {one.point.label for one in seen}
        outside = _outside([point for point in points if point.label not in drawn])
        return Panel(title, to_svg(on, name), _described(title, points), note=outside)


def _within(point: Point, plane: Plane) -> Seen | None:
    x, y = point.x.value, point.y.value
    if x is None or y is None:
        return None
    inside = plane.across[0] <= x <= plane.across[1] and plane.upwards[0] <= y <= plane.upwards[1]
    return Seen(point, x, y, below=False) if inside else None


def _corner(on: Axes, plane: Plane) -> None:
    """What is wanted, and where nothing has changed."""
    (x, y), (left, low) = plane.wanted, (plane.across[0], plane.upwards[0])
    on.fill_between([left, x], low, y, color=color("threshold"), alpha=0.1, linewidth=0)
    on.plot([left, x, x], [y, y, low], color=color("threshold"), linewidth=1, linestyle=(0, (3, 2)))
    on.plot(1, 1, "+", color=color("ink"), markersize=11, markeredgewidth=1.4, zorder=3)


def _outside(points: Sequence[Point]) -> str:
    """The values of points that are not drawn."""
    said = (f"{p.label} at {numbers.number(p.x.value)} and {numbers.number(p.y.value)}" for p in points)
    listed = "; ".join(said)
    return f"Outside (across and upwards): {listed}." if listed else ""


def _seen(point: Point, lowest: float) -> Seen | None:
    if point.x.value is None or point.y.value is None:
        return None
    below = point.y.value < lowest
    return Seen(point, point.x.value, lowest if below else point.y.value, below)


def _further_down(seen: Sequence[Seen]) -> str:
    """The values of the points below the panel, which beside their arrows would hide one another."""
    said = (
        f"{one.point.label} ({words.brief(words.model(one.point.y.model))}) at {numbers.number(one.point.y.value)}"
        for one in seen
        if one.below
    )
    listed = ", ".join(said)
    return f"Further down: {listed}." if listed else ""


def _cross(on: Axes, one: Seen) -> None:
    shade, marker = color(one.point.style.role), one.point.style.marker or "o"
    x, y = one.point.x, one.point.y
    if x.low is not None and x.high is not None:
        on.plot([x.low, x.high], [one.y, one.y], color=shade, linewidth=1, alpha=0.6)
    if y.low is not None and y.high is not None and not one.below:
        on.plot([one.x, one.x], [y.low, y.high], color=shade, linewidth=1, alpha=0.6)
    on.plot(one.x, one.y, marker, color=shade, markersize=6, clip_on=False, zorder=4)
    if one.below:
        down = {"arrowstyle": "-|>", "color": shade, "shrinkA": 0, "shrinkB": 0}
        on.annotate("", (one.x, one.y), (0, 16), textcoords="offset points", arrowprops=down)


def _label(on: Axes, seen: Sequence[Seen]) -> None:
    """Labels where they hide nothing, with a thin line to the points that they had to leave."""
    on.get_xlim(), on.get_ylim()  # Limits are worked out when asked for, and the transform does not ask.
    canvas = on.get_figure(root=True)
    assert canvas is not None
    to_points = 72 / canvas.dpi
    at = [tuple(v * to_points for v in on.transData.transform((one.x, one.y))) for one in seen]
    texts = [one.point.label for one in seen]
    box = on.get_window_extent()
    room = Box(*(v * to_points for v in ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.width, box.height)))
    for one, text, offset in zip(seen, texts, places([(x, y) for x, y in at], texts, room), strict=True):
        far = max(abs(offset[0]), abs(offset[1])) > RADII[0]
        thin = {"arrowstyle": "-", "color": color("muted"), "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        on.annotate(
            text,
            (one.x, one.y),
            offset,
            textcoords="offset points",
            ha="center",
            va="center",
            color=color(one.point.style.role),
            arrowprops=thin if far else None,
            zorder=5,
        )


def _described(title: str, points: Sequence[Point]) -> str:
    said = (
        f"{p.label}: {numbers.interval(p.x.value, p.x.low, p.x.high)} across, "
        f"{numbers.interval(p.y.value, p.y.low, p.y.high)} upwards"
        for p in points
    )
    return f"{title}. {'. '.join(said)}."
