"""The map of archetypes: a point for each centroid, as large as its cluster, in the colour of what is heard there.

Drawn by hand and not by matplotlib, so that every point can say what it is when pointed at.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from audio_engram import numbers
from audio_engram.archetype_map import KNOWN, Archetype, ArchetypeMap
from audio_engram.report.diverging import MOST, Classes, classes
from audio_engram.report.labels import Box, places
from audio_engram.report.panels import WIDTH, Panel

HEIGHT = 348.0
KEY = 48.0
EDGE = 22.0
LARGEST = 15.0
ROOMY = 9.0  # room for a number inside
FILLED = 0.2  # of the panel, by all points together
CELL = 50.0
CLASS = {k: name for k, name in zip(range(-MOST, MOST + 1), ("l3", "l2", "l1", "mid", "h1", "h2", "h3"), strict=True)}


class Effect(NamedTuple):
    """What is heard at an increment: its name, its unit, and its value at an archetype."""

    name: str
    unit: str
    of: Callable[[Archetype], float | None]


class Point(NamedTuple):
    """An archetype on the panel [px]; `kind` is the class of its colour, None where nothing is known."""

    number: int
    of: Archetype
    x: float
    y: float
    radius: float
    kind: int | None


def maps(found: ArchetypeMap) -> list[Panel]:
    """A panel for each acoustic effect that was measured: where there is no sound, places alone would tell nothing."""
    return [_panel(found, one) for one in _effects(found) if any(one.of(a) is not None for a in found.archetypes)]


def _effects(found: ArchetypeMap) -> list[Effect]:
    mean = found.average_flux or 0.0
    return [
        Effect("Change of level", "dB", lambda a: a.energy_change),
        Effect(
            f"Spectral flux, less the average of {numbers.number(mean)}",
            "",
            lambda a: None if a.flux is None else a.flux - mean,
        ),
        Effect("Change of pitch", "semitones", lambda a: a.pitch_change),
    ]


def map_caption(found: ArchetypeMap) -> str:
    """How to read the maps; nothing where there are none."""
    if not any(a.heard for a in found.archetypes):
        return ""
    said = [
        f"Maps: the centroids by their two principal components, which hold {found.plane:.0%} of the variance between "
        "them; areas are numbers of training increments. Colours and triangles are means over these; the outermost "
        "classes have no end."
    ]
    if any(a.pitch_change is None for a in found.archetypes):
        said.append(f"Dashed: fewer than {KNOWN} increments with a pitch before and after.")
    if any(a.nearest for a in found.archetypes):
        said.append("Numbered archetypes can be heard under Listen.")
    return " ".join(said)


def _panel(found: ArchetypeMap, effect: Effect) -> Panel:
    values = [effect.of(a) for a in found.archetypes]
    scale = classes([v for v in values if v is not None])
    height = HEIGHT - KEY
    points = _points(found.archetypes, [None if v is None else scale.of(v) for v in values], height)
    title = f"{effect.name}{f' ({effect.unit})' if effect.unit else ''}"
    drawn = [_mark(p) for p in sorted(points, key=lambda p: -p.radius)] + _numbers(points, height) + _key(scale)
    said = f"{title}. {_described(values, scale)}"
    svg = f'<svg class="map" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" aria-hidden="true">{"".join(drawn)}</svg>'
    return Panel(title, svg, said)


def _points(archetypes: Sequence[Archetype], kinds: Sequence[int | None], height: float) -> list[Point]:
    """The centroids on one scale for both components, in the middle of the panel."""
    x, y = [a.x for a in archetypes], [a.y for a in archetypes]
    spans = (max(x) - min(x)) / (WIDTH - 2 * EDGE), (max(y) - min(y)) / (height - 2 * EDGE)
    zoom = 1 / max(*spans, 1e-12)
    most = max(1, *(a.size for a in archetypes))
    area = FILLED * WIDTH * height / max(1.0, sum(a.size for a in archetypes) / most)
    largest = min(LARGEST, math.sqrt(area / math.pi))
    return [
        Point(
            number,
            a,
            WIDTH / 2 + zoom * (a.x - (max(x) + min(x)) / 2),
            height / 2 - zoom * (a.y - (max(y) + min(y)) / 2),
            max(1.5, largest * math.sqrt(a.size / most)),
            kind,
        )
        for number, (a, kind) in enumerate(zip(archetypes, kinds, strict=True))
    ]


def _mark(point: Point) -> str:
    look = "unknown" if point.kind is None else CLASS[point.kind]
    told = f"Archetype {point.number}: {numbers.plural(point.of.size, 'increment')}; {point.of.heard}".rstrip("; ")
    shape = _shape(point.x, point.y, point.radius, point.kind or 0)
    return f'<path class="{look}" d="{shape}"><title>{told}</title></path>'


def _shape(x: float, y: float, radius: float, kind: int) -> str:
    """A circle, or a triangle of its area that points up or down."""
    if kind == 0:
        r = round(radius, 1)  # first, or arcs that do not meet would be bent into ovals
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r:.1f} 0a{r} {r} 0 1 0 {-2 * r:.1f} 0z"
    out = radius * math.sqrt(4 * math.pi / (3 * math.sqrt(3))) * (-1 if kind > 0 else 1)
    wide = abs(out) * math.sqrt(3)
    return f"M{x:.1f} {y + out:.1f}l{wide / 2:.1f} {-1.5 * out:.1f}h{-wide:.1f}z"


def _numbers(points: Sequence[Point], height: float) -> list[str]:
    """The outlines of those that are heard, on top of all points, with their numbers in or beside them."""
    heard = [p for p in points if p.of.nearest]
    texts = [str(p.number) for p in heard]
    room = Box(WIDTH / 2, height / 2, WIDTH, height)
    beside = places([(p.x, height - p.y) for p in heard], texts, room)
    offsets = [(0.0, 0.0) if p.radius > ROOMY else offset for p, offset in zip(heard, beside, strict=True)]
    rings = [
        f'<path class="heard{" unknown" if p.kind is None else ""}" d="{_shape(p.x, p.y, p.radius, p.kind or 0)}"/>'
        for p in heard
    ]
    return rings + [
        f'<text x="{p.x + dx:.1f}" y="{p.y - dy + 4:.1f}" text-anchor="middle">{text}</text>'
        for p, text, (dx, dy) in zip(heard, texts, offsets, strict=True)
    ]


def _key(scale: Classes) -> list[str]:
    """The classes side by side, their limits below and between them."""
    left, top = (WIDTH - CELL * len(CLASS)) / 2, HEIGHT - KEY + 16
    marks = [
        f'<path class="{name}" d="{_shape(left + CELL * (place + 0.5), top, 7.0, kind)}"/>'
        for place, (kind, name) in enumerate(CLASS.items())
    ]
    limits = [
        f'<text class="limit" x="{left + CELL * (place + 1):.1f}" y="{top + 26:.1f}" text-anchor="middle">'
        f"{numbers.tick(value)}</text>"
        for place, value in enumerate(scale.limits)
    ]
    return marks + limits


def _described(values: Sequence[float | None], scale: Classes) -> str:
    known = [(value, number) for number, value in enumerate(values) if value is not None]
    above, below = sum(v > scale.half for v, _ in known), sum(v < -scale.half for v, _ in known)
    (low, lowest), (high, highest) = min(known), max(known)
    return (
        f"Of {len(values)} archetypes {above} are above {numbers.tick(scale.half)} and {below} below "
        f"{numbers.tick(-scale.half)}. Highest: {numbers.number(high)} at number {highest}. "
        f"Lowest: {numbers.number(low)} at number {lowest}."
    )
