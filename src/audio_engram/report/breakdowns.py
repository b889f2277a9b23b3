"""Figures whose rows are single numbers: the parts of ΔNLL, the magnitude, the repair by an injection."""

from itertools import accumulate

from audio_engram.measurements import Measurements
from audio_engram.report import words
from audio_engram.report.bars import Row, dot_panel, waterfall_panel
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.series import data_order, model_order, style_of


def decomposition(records: Measurements, name: str) -> list[Figure]:
    """One waterfall for each head, from mean reversion to dynamics, ending at ΔNLL."""
    real = records.select(lag=1, data="real", mode="teacher_forced")
    parts = Measurements(r for r in real if r.metric in words.PARTS)
    models = sorted({r.model for r in parts}, key=model_order)
    whole = Measurements(r for r in real if r.metric == "delta_nll" and r.model in models)
    limits = _common_reach(parts, whole)
    panels: list[Drawn] = []
    for model in models:
        style = style_of(model)
        found = {r.metric: r for r in parts.select(model=model)}
        rows = [Row(words.metric(p).label, found[p], style) for p in words.PARTS if p in found]
        total = whole.select(model=model)
        if rows and len(total) == 1:
            panel = waterfall_panel(
                words.model(model),
                f"{name}-parts-{model}",
                rows,
                Row("ΔNLL", total[0], style),
                limits,
            )
            panels.append((panel, []))
    return figure("What ΔNLL at lag 1 is made of. Only the last part, dynamics, needs the order of the frames.", panels)


def _common_reach(parts: Measurements, whole: Measurements) -> tuple[float, float]:
    """The range that all waterfalls need, so that they can be compared."""
    reached = [0.0, *(end for r in whole for end in (r.value, r.low, r.high) if end is not None)]
    for model in {r.model for r in parts}:
        found = {r.metric: r.value or 0.0 for r in parts.select(model=model)}
        reached += accumulate(found.get(part, 0.0) for part in words.PARTS)
    room = 0.03 * (max(reached) - min(reached)) or 1.0
    return min(reached) - room, max(reached) + room


def magnitude(records: Measurements, name: str) -> list[Figure]:
    """R² of the log-magnitude by the head and by the norm of the mean."""
    panels: list[Drawn] = [
        (dot_panel(title_of(metric), f"{name}-{metric}", rows), [])
        for metric in ("magnitude_r2", "magnitude_r2_of_mean")
        if (rows := _magnitude_rows(records.select(metric=metric)))
    ]
    caption = f"How much of the log-magnitude is explained. {INTERVALS} Left of zero is worse than a constant."
    return figure(caption, panels)


def _magnitude_rows(records: Measurements) -> list[Row]:
    several = len({r.lag for r in records}) > 1
    ordered = sorted(records, key=lambda r: (data_order(r.data), model_order(r.model), r.lag))
    return [
        Row(
            _short(words.series(r.model, r.data), f", lag {r.lag}" if several else ""),
            r,
            style_of(r.model, r.data),
        )
        for r in ordered
    ]


def _short(label: str, suffix: str, room: int = 32) -> str:
    label, keep = words.brief(label), room - len(suffix)
    return (label if len(label) <= keep else label[: keep - 1] + "…") + suffix


def recovery(records: Measurements, name: str) -> list[Figure]:
    """How much of the gap one true frame closes, after each injection."""
    ordered = sorted(records, key=lambda r: (model_order(r.model), r.mode, r.step))
    rows = [Row(_short(words.model(r.model), f", step {r.step}"), r, style_of(r.model)) for r in ordered]
    panels: list[Drawn] = [(dot_panel(title_of("recovery"), name, rows), [])] if rows else []
    return figure(f"What one true frame repairs, by the step after which it was given. {INTERVALS}", panels)
