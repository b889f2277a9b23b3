"""What a figure is: panels under one caption, with one legend."""

from collections.abc import Iterable
from dataclasses import dataclass

from audio_engram.report import words
from audio_engram.report.panels import Panel
from audio_engram.report.series import Curve, Style

Drawn = tuple[Panel, list[Curve]]
INTERVALS = "Bars and bands are 95 % intervals over speakers."


@dataclass(frozen=True)
class Figure:
    """Panels that share one caption and one legend."""

    caption: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, Style], ...] = ()


def figure(caption: str, drawn: Iterable[Drawn]) -> list[Figure]:
    """A figure of the panels that have curves, with every series named once; none where nothing was drawn."""
    pairs = list(drawn)
    legend = {curve.label: curve.style for _, lines in pairs for curve in lines}
    return [Figure(caption, tuple(panel for panel, _ in pairs), tuple(legend.items()))] if pairs else []


def title_of(metric: str) -> str:
    """A metric with its unit."""
    known = words.metric(metric)
    return f"{known.title} ({known.unit})" if known.unit else known.title
