"""Trainings against drift along their rollouts: survival, distances to real stretches, length of increments."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from audio_engram import numbers
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.lines import Look, line_panel
from audio_engram.report.remedies import NOTHING, first_broken, trainings
from audio_engram.report.series import MODELS, Curve, Style, curves

WANTED = 1.5  # times real; the report does not load the experiment that asks for it
REAL = {"real": Style("ink", "", "dashed")}
BESIDE = {
    "teacher-forced": Style("ink", "o", "none", filled=False),
    "shuffled frames": Style("ink", "s", "none", filled=False),
    "Gaussian frames": Style("ink", "D", "none", filled=False),
}
"""Anchors that stand in the panels; all of them stand in the table."""
OTHERS = tuple(
    Style(role, marker, dash)
    for dash in ("solid", "dashed", "dotted")
    for role, marker in (
        *(("mode-b", "D"), ("other-2", "^"), ("mode-d", "v"), ("other-3", "P")),
        *(("other-1", "X"), ("mode-c", "h"), ("mode-a", "<")),
    )
)
"""Looks of trainings that have none everywhere on the page, in the order in which they were tried."""
BEYOND = 3.0  # times the values, to which intervals are shown
FAR = Look("step", "log", guides=((1.0, "real"), (WANTED, f"wanted: {WANTED:g}")))
LOOKS = {
    "survival": Look("step", limits=(-0.03, 1.03)),
    "frechet_latents_ratio": FAR,
    "frechet_increments_ratio": replace(FAR, guides=((1.0, "real"),)),
    "magnitude_p50_ratio": Look("step", bands=((0.8, 1.25),), guides=((1.0, ""),)),
}
Limits = tuple[float, float] | None
"""Of the vertical axis; None for what the values ask for."""
BROKEN = (
    " Where some rollouts had left the finite numbers, or a value has no interval, marks are hollow and no line joins "
    "them: they are of other rollouts at every step."
)


def stability(records: Measurements, name: str, others: Measurements = NOTHING) -> list[Figure]:
    """Survival, distances to real stretches and length of increments along the rollout, beside what is no rollout.

    `others` are rollouts that are no training's, which have lines beside them.
    """
    records = Measurements([*records, *others])
    panels = [drawn for metric in LOOKS for drawn in _panel(records, metric, f"{name}-{metric}")]
    hollow = any(_apart(records, curve) for _, drawn in panels for curve in drawn)
    return figure(
        f"Free-running rollouts that draw every increment, beside real utterances. {INTERVALS} Survival is the share "
        "that has not left the bounds of real speech. Distances are of the stretch before each step; the shaded strip "
        "of the magnitude is 0.8–1.25. Hollow marks on the left are stretches that are no rollout."
        f"{BROKEN if hollow else ''}",
        panels,
    )


def _panel(records: Measurements, metric: str, name: str) -> list[Drawn]:
    """The panel of a metric; none where it was measured at one step only."""
    tried = _looks(records) | REAL
    of_metric = Measurements(r for r in records.select(metric=metric, mode="sampled") if r.model in tried)
    found = [replace(curve, style=tried[curve.records[0].model]) for curve in curves(of_metric, "step")]
    if not any(len(curve.records) > 1 for curve in found):
        return []
    beside, look = _beside(records.select(metric=metric)), LOOKS[metric]
    apart = {curve.label: _apart(records, curve) for curve in found}
    if not look.limits:
        joined = [r for curve in found for r in curve.records if r not in apart[curve.label] and _tried(r)]
        anchors = [r for curve in beside for r in curve.records]
        look = replace(look, limits=_limits([*joined, *anchors] or of_metric, look))
    for curve in found:  # the axis is made for trainings
        apart[curve.label] += [r for r in curve.records if not _tried(r) and not _inside(r, look.limits)]
    drawn = [piece for curve in found for piece in _pieces(curve, apart[curve.label], look.limits)]
    note = _beyond([(c.label, r) for c in found for r in apart[c.label]], look.limits)
    panel = replace(line_panel(title_of(metric), name, drawn, look, beside), note=note)
    return [(panel, [*found, *beside])]


def _tried(record: Measurement) -> bool:
    """Whether it is of a training, or of the recordings."""
    return record.experiment == "stability"


def _apart(records: Measurements, curve: Curve) -> list[Measurement]:
    """Records that no line should join: without an interval, or of the rollouts that had not broken yet."""
    first = curve.records[0]
    if first.metric == "survival" or first.model in BESIDE:
        return []
    broken = first_broken(records, first.model)
    return [r for r in curve.records if r.value is not None and (r.low is None or 0 < broken <= r.step)]


def _pieces(curve: Curve, apart: list[Measurement], limits: Limits) -> list[Curve]:
    """The curve with a gap where records stand apart, and those of them that the axis shows as hollow marks."""
    nothing: dict[str, None] = dict.fromkeys(("value", "low", "high"))
    gaps = tuple(r.model_copy(update=nothing) if r in apart else r for r in curve.records)
    shown = tuple(r for r in apart if _inside(r, limits))
    marks = replace(curve, style=curve.style._replace(dash="none", filled=False), records=shown, with_interval=False)
    joined = [replace(curve, records=gaps)] * (len(apart) < len(curve.records))
    return [*joined, *([marks] if shown else [])]


def _beyond(apart: list[tuple[str, Measurement]], limits: Limits) -> str:
    """What lies beyond the axis, which is made for the others."""
    told: dict[str, list[str]] = {}
    for label, r in apart:
        if not _inside(r, limits):
            told.setdefault(label, []).append(f"{numbers.number(r.value)} at {r.step}")
    named = "; ".join(f"{label} {', '.join(values)}" for label, values in told.items())
    return f"Beyond the axis: {named}." if named else ""


def _inside(record: Measurement, limits: Limits) -> bool:
    return limits is None or (record.value is not None and limits[0] <= record.value <= limits[1])


def _beside(records: Measurements) -> list[Curve]:
    """The anchors that have the metric."""
    found = [(style, r) for name, style in BESIDE.items() for r in records.select(model=name)]
    return [Curve(words.model(r.model), style, (r,)) for style, r in found]


def _looks(records: Measurements) -> dict[str, Style]:
    """A look for each remedy."""
    free = cycle(OTHERS)
    tried = [*trainings(records), *(r.model for r in records if not _tried(r))]
    return {name: MODELS[name] if name in MODELS else next(free) for name in dict.fromkeys(tried)}


def _limits(records: Sequence[Measurement], look: Look) -> Limits:
    """A range that shows all values and guides: one broken rollout makes an interval of many decades."""
    values = [*(r.value for r in records if r.value is not None), *(value for value, _ in look.guides)]
    ends = [v for pair in (*((r.low, r.high) for r in records), *look.bands) for v in pair if v is not None]
    if not values or min(values) <= 0:
        return None
    low, high = min([*values, *ends]), max([*values, *ends])
    low, high = max(low, min(values) / BEYOND), min(high, max(values) * BEYOND)
    # Of a logarithmic axis a tenth, so that the name of the lowest guide has room below it.
    return low / ((high / low) ** 0.1 if look.scale == "log" else 1.05), high * 1.05
