"""An axis on which both −2,000 and −20 can be read."""

import math
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator

from audio_engram import numbers

WIDE = 20.0
DEEPEST = 1e-3  # of the largest value: an axis of more decades would have no room for the upper ones


def linear_to(values: Sequence[float]) -> float | None:
    """The power of ten up to which a symmetric log axis is linear; None where a linear one shows every value."""
    sizes = [abs(v) for v in values if v]
    if not sizes or max(sizes) < WIDE * min(sizes):
        return None
    return 10.0 ** math.floor(math.log10(max(min(sizes), DEEPEST * max(sizes))))


def scale(on: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Scale an axis to values that may differ by orders of magnitude, with ticks as the page writes them."""
    axis, threshold = (on.xaxis if which == "x" else on.yaxis), linear_to(values)
    if threshold is None:
        axis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 2.5, 5, 10]))
    else:
        (on.set_xscale if which == "x" else on.set_yscale)("symlog", linthresh=threshold)
        locator = SymmetricalLogLocator(base=10, linthresh=threshold)
        locator.set_params(numticks=5)
        axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(numbers.tick))
