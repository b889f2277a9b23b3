"""Seven classes of a number that may be above or below nothing, with limits that are easy to read."""

import math
from collections.abc import Sequence
from typing import NamedTuple

MOST = 3  # classes on either side of the middle one
SHARE = 0.95
NICE = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


class Classes(NamedTuple):
    """The middle class goes from -`half` to `half`, and every other is twice `half` wide but the outermost."""

    half: float

    @property
    def limits(self) -> list[float]:
        """Between the classes, from the lowest on."""
        return [self.half * k for k in range(1 - 2 * MOST, 2 * MOST, 2)]

    def of(self, value: float) -> int:
        """The class of a value: -3 to 3."""
        return max(-MOST, min(MOST, round(value / (2 * self.half))))


def classes(values: Sequence[float]) -> Classes:
    """Classes whose outermost begin, at a number with few digits, beyond which few of the values lie."""
    sizes = sorted(abs(v) for v in values)
    wanted = sizes[math.ceil(SHARE * len(sizes)) - 1] / (2 * MOST - 1) if sizes else 0.0
    if wanted <= 0:
        return Classes(1.0)
    ten = 10.0 ** math.floor(math.log10(wanted))
    return Classes(next(step * ten for step in NICE if step * ten >= wanted * (1 - 1e-9)))
