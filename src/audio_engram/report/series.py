"""Which colour, marker and line a series has, everywhere on the page."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words


class Style(NamedTuple):
    """Never colour alone: a series also has its marker or its line."""

    role: str
    marker: str = ""
    dash: str = "solid"
    filled: bool = True


MODELS = {
    "mdn": Style("mdn", "o"),
    "mdn_k16": Style("mdn-k16", "^"),
    "mdn_k32": Style("mdn-k32", "v"),
    "vmf": Style("vmf", "s"),
    "vmf_k16": Style("vmf-k16", "D"),
    "vmf_k32": Style("vmf-k32", "P"),
    "coupled": Style("mode-d", "X"),
    "coupled_k16": Style("mode-d", "X", "dashed", filled=False),
    "ar1": Style("ar1", "", "dashdot"),
    "state": Style("state", "", "dashed"),
    "utterance": Style("utterance", "", "dotted"),
    "increment": Style("muted", "", "dotted"),
    "ceiling": Style("ceiling", "", "solid"),
    "magnitude": Style("magnitude", "P"),
    "magnitude_utterance": Style("magnitude-utterance", "X"),
}
MODES = {
    "A": Style("mode-a", "o"),
    "B": Style("mode-b", "s", "dashed"),
    "C": Style("mode-c", "^", "dashdot"),
    "D": Style("mode-d", "D"),
}
BASELINES = ("ar1", "state", "utterance", "increment")
_DASH_OF_DATA = {"shuffled_within": "dashed", "shuffled_across": "dotted"}


@dataclass(frozen=True)
class Curve:
    """One series: its name in the legend, its look, and the measurements along an axis."""

    label: str
    style: Style
    records: tuple[Measurement, ...]
    with_interval: bool = True


def style_of(model: str, data: str = "real") -> Style:
    """The look of a model; surrogate data make it hollow and broken."""
    style = MODELS.get(model) or Style(f"other-{sum(model.encode()) % 3 + 1}", "X")
    if data == "real":
        return style
    return style._replace(dash=_DASH_OF_DATA.get(data, "dashdot"), filled=False)


def model_order(name: str) -> tuple[int, str]:
    """The order of models in legends and tables: as in the list of words, unknown ones last."""
    known = list(words.MODELS)
    return (known.index(name) if name in known else len(known), name)


def data_order(name: str) -> tuple[int, str]:
    """Real data first."""
    known = list(words.DATA)
    return (known.index(name) if name in known else len(known), name)


def curves(records: Measurements, axis: str) -> list[Curve]:
    """One curve for each model and kind of data, along `lag` or `step`."""
    pairs = sorted({(r.model, r.data) for r in records}, key=lambda p: (data_order(p[1]), model_order(p[0])))
    return [
        Curve(
            words.series(model, data),
            style_of(model, data),
            along(records.select(model=model, data=data), axis),
        )
        for model, data in pairs
    ]


def along(records: Measurements, axis: str) -> tuple[Measurement, ...]:
    """The records in the order of an axis."""
    return tuple(sorted(records, key=lambda r: getattr(r, axis)))


def analytic(records: Measurements, axis: str) -> list[Curve]:
    """The known truth of a world, as crosses without an interval."""
    return [
        Curve(f"analytic truth{_of(model)}", Style("ink", "x", "none"), along(records.select(model=model), axis))
        for model in sorted({r.model for r in records}, key=model_order)
    ]


def _of(model: str) -> str:
    return f" ({words.model(model)})" if model else ""


def restyle(found: list[Curve], change: Callable[[Curve], Curve]) -> list[Curve]:
    """The curves with a change made to each."""
    return [change(curve) for curve in found]


def as_reference(curve: Curve) -> Curve:
    """The teacher-forced twin of a rollout: dotted, without marker and interval."""
    style = curve.style._replace(marker="", dash="dotted")
    return replace(curve, label=f"{curve.label}, teacher-forced", style=style, with_interval=False)
