"""Labels beside points: each at the nearest free place around its point."""

import math
from collections.abc import Sequence
from typing import NamedTuple

HEIGHT, LETTER, MARKER = 13.0, 7.0, 9.0
RADII = (11.0, 18.0, 26.0, 36.0, 48.0)
ANGLES = 16


class Box(NamedTuple):
    """The middle and the sides of what takes up room [px]."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """The area that both cover."""
        across = (self.width + other.width) / 2 - abs(self.x - other.x)
        up = (self.height + other.height) / 2 - abs(self.y - other.y)
        return max(0.0, min(across, self.width, other.width)) * max(0.0, min(up, self.height, other.height))


def places(points: Sequence[tuple[float, float]], texts: Sequence[str], room: Box) -> list[tuple[float, float]]:
    """Offsets [px] of the labels from their points: the first place that is free, else the one least covered."""
    taken = [Box(x, y, MARKER, MARKER) for x, y in points]
    offsets = []
    for (x, y), text in zip(points, texts, strict=True):
        size = (LETTER * len(text) + 2, HEIGHT)
        best = min(_around(), key=lambda o: _cost(Box(x + o[0], y + o[1], *size), taken, room))
        taken.append(Box(x + best[0], y + best[1], *size))
        offsets.append(best)
    return offsets


def _around() -> list[tuple[float, float]]:
    """Offsets from near to far, from the upper right on."""
    turns = [math.pi / 4 + 2 * math.pi * k / ANGLES for k in range(ANGLES)]
    return [(r * math.cos(turn), r * math.sin(turn)) for r in RADII for turn in turns]


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    """What of a label would be covered or lie outside; rounded, so that free places are equally free."""
    return round(sum(box.overlap(one) for one in taken) + box.width * box.height - box.overlap(room), 3)
