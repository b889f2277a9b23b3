"""Points with intervals both ways."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter, MaxNLocator

from audio_engram import numbers
from audio_engram.measurements import Measurement
from audio_engram.report.panels import Margins, Panel, axes, color, to_svg
from audio_engram.report.series import Style


class Point(NamedTuple):
    """A labelled point: one measurement across, one upwards."""

    label: str
    x: Measurement
    y: Measurement
    style: Style


def scatter_panel(title: str, name: str, points: Sequence[Point], labels: tuple[str, str]) -> Panel:
    """Crosses of intervals with a marker in their middle and a label beside; points without a value are left out."""
    with axes(Margins(left=64, right=24, top=12, bottom=44), height=330.0) as on:
        for point in points:
            if point.x.value is None or point.y.value is None:
                continue
            shade = color(point.style.role)
            for horizontal, record in ((True, point.x), (False, point.y)):
                if record.low is not None and record.high is not None:
                    ends, same = [record.low, record.high], [point.y.value if horizontal else point.x.value] * 2
                    on.plot(*((ends, same) if horizontal else (same, ends)), color=shade, linewidth=1, alpha=0.6)
            on.plot(point.x.value, point.y.value, point.style.marker or "o", color=shade, markersize=6)
            on.annotate(
                point.label, (point.x.value, point.y.value), (5, 5), textcoords="offset points", color=color("ink")
            )
        on.set_xlabel(labels[0])
        on.set_ylabel(labels[1])
        on.grid(axis="x", visible=True)
        for axis in (on.xaxis, on.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(FuncFormatter(numbers.tick))
        return Panel(title, to_svg(on, name), _described(title, points))


def _described(title: str, points: Sequence[Point]) -> str:
    said = (
        f"{p.label}: {numbers.interval(p.x.value, p.x.low, p.x.high)} across, "
        f"{numbers.interval(p.y.value, p.y.low, p.y.high)} upwards"
        for p in points
    )
    return f"{title}. {'. '.join(said)}."
