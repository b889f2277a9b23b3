"""Small plots as inline SVG that takes its colours and its font from the style sheet of the page.

Each panel is its own SVG, so that a phone stacks them at their full size. Colours are drawn as placeholders
and replaced by CSS variables: one plot serves the light and the dark scheme.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from audio_engram.report.series import Style

WIDTH, HEIGHT = 400.0, 270.0
ROLES = (
    "ink",
    "muted",
    "rule",
    "card",
    "mdn",
    "mdn-k16",
    "mdn-k32",
    "vmf",
    "vmf-k16",
    "vmf-k32",
    "ar1",
    "state",
    "utterance",
    "ceiling",
    "magnitude",
    "magnitude-utterance",
    "threshold",
    "mode-a",
    "mode-b",
    "mode-c",
    "mode-d",
    "other-1",
    "other-2",
    "other-3",
)
_PLACEHOLDER = {role: f"#0101{index:02x}" for index, role in enumerate(ROLES)}

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "audio-engram",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.5,
    "text.color": _PLACEHOLDER["ink"],
    "axes.labelcolor": _PLACEHOLDER["muted"],
    "axes.edgecolor": _PLACEHOLDER["muted"],
    "axes.linewidth": 0.8,
    "axes.labelsize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _PLACEHOLDER["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": _PLACEHOLDER["muted"],
    "ytick.color": _PLACEHOLDER["muted"],
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.8,
}


@dataclass(frozen=True)
class Panel:
    """One plot with its title and a text for those who cannot see it.

    `key` tells what numbered labels stand for, `legend` names series of this panel alone, `note` stands below.
    """

    title: str
    svg: str
    alt: str
    key: tuple[tuple[str, str], ...] = ()
    legend: tuple[tuple[str, Style], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Margins:
    """Room around the axes, in pixels of the drawing."""

    left: int = 50
    right: int = 14
    top: int = 12
    bottom: int = 40


def color(role: str) -> str:
    """The placeholder that becomes the CSS variable of this role."""
    return _PLACEHOLDER[role]


@contextmanager
def axes(margins: Margins | None = None, height: float = HEIGHT) -> Iterator[Axes]:
    """Axes on a transparent canvas, in the style of the page."""
    room = margins or Margins()
    with matplotlib.rc_context(_RC):
        canvas = Canvas(figsize=(WIDTH / 72, height / 72))
        canvas.patch.set_visible(False)
        box = (
            room.left / WIDTH,
            room.bottom / height,
            1 - (room.left + room.right) / WIDTH,
            1 - (room.top + room.bottom) / height,
        )
        drawn = canvas.add_axes(box)
        drawn.patch.set_visible(False)
        yield drawn


def to_svg(drawn: Axes, prefix: str) -> str:
    """The drawing as an SVG element; the same drawing and prefix give the same characters."""
    buffer = io.StringIO()
    # The SVG carries characters and no glyphs, so what matplotlib's own font lacks is of no concern.
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas = drawn.get_figure(root=True)
        assert canvas is not None
        canvas.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    # Names of models may stand in the prefix, and it goes into attributes unescaped.
    return _inline(buffer.getvalue(), re.sub(r"[^A-Za-z0-9_-]", "-", prefix))


def _inline(svg: str, prefix: str) -> str:
    """Fit a stand-alone SVG into HTML: unique ids, no XML namespaces, colours and fonts from the page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    svg = re.sub(r'<svg[^>]*viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for role, placeholder in _PLACEHOLDER.items():
        svg = svg.replace(placeholder, f"var(--{role})")
    return re.sub(r">\s+<", "><", svg)
