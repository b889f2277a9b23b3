"""Trainings against drift: how long their rollouts live, how far they are from speech, and what they cost."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.lines import Look, line_panel
from audio_engram.report.series import MODELS, Curve, Style, curves
from audio_engram.report.tables import Table, by_model

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
COLUMNS = (
    *("delta_nll_excess", "excess_share", "survival", "frechet_latents_ratio"),
    *("magnitude_p50_ratio", "cycle_error_ratio", "speech_share"),
)


def stability(records: Measurements, name: str) -> list[Figure]:
    """Survival, distances to real stretches and length of increments along the rollout, beside what is no rollout."""
    far = Look("step", "log", guides=((1.0, "real"), (WANTED, f"wanted: {WANTED:g}")))
    looks = {
        "survival": Look("step", limits=(-0.03, 1.03)),
        "frechet_latents_ratio": far,
        "frechet_increments_ratio": replace(far, guides=((1.0, "real"),)),
        "magnitude_p50_ratio": Look("step", bands=((0.8, 1.25),), guides=((1.0, ""),)),
    }
    tried = _looks(records) | REAL
    panels: list[Drawn] = []
    for metric, look in looks.items():
        of_metric = Measurements(r for r in records.select(metric=metric, mode="sampled") if r.model in tried)
        drawn = [replace(curve, style=tried[curve.records[0].model]) for curve in curves(of_metric, "step")]
        if any(len(curve.records) > 1 for curve in drawn):
            beside = _beside(records.select(metric=metric))
            shown = [*of_metric, *(r for curve in beside for r in curve.records)]
            look = look if look.limits else replace(look, limits=_limits(shown, look.bands))
            panels.append((line_panel(title_of(metric), f"{name}-{metric}", drawn, look, beside), [*drawn, *beside]))
    return figure(
        f"Free-running rollouts that draw every increment, beside real utterances. {INTERVALS} Survival is the share "
        "that has not left the bounds of real speech. Distances are of the stretch before each step; the shaded strip "
        "of the magnitude is 0.8–1.25. Hollow marks on the left are stretches that are no rollout.",
        panels,
    )


def _beside(records: Measurements) -> list[Curve]:
    """The anchors that have the metric."""
    found = [(style, r) for name, style in BESIDE.items() for r in records.select(model=name)]
    return [Curve(words.model(r.model), style, (r,)) for style, r in found]


def _looks(records: Measurements) -> dict[str, Style]:
    """A look for each training."""
    named = _trainings(records)
    free = cycle(OTHERS)
    return {name: MODELS[name] if name in MODELS else next(free) for name in named}


def _limits(records: Sequence[Measurement], bands: tuple[tuple[float, float], ...] = ()) -> tuple[float, float] | None:
    """A range that shows all values: one broken rollout makes an interval of many decades."""
    values = [r.value for r in records if r.value is not None]
    ends = [v for pair in (*((r.low, r.high) for r in records), *bands) for v in pair if v is not None]
    if not values or min(values) <= 0:
        return None
    low, high = min([*values, *ends]), max([*values, *ends])
    return max(low, min(values) / BEYOND) / 1.05, min(high, max(values) * BEYOND) * 1.05


def remedies(records: Measurements) -> list[Table]:
    """Every training at its last horizon: what it costs in likelihood, and what it gains; the longest-lived first."""
    last = {(r.model, r.metric): r for r in sorted(records, key=lambda r: r.step)}
    named = sorted(_trainings(records), key=lambda model: _merit(last, model))
    caption = (
        "Trainings by the survival of their rollouts at the last horizon, then by their teacher-forced excess. "
        "Distances, magnitude and cycle error are times real."
    )
    of_last = [last[model, metric] for model in named for metric in COLUMNS if (model, metric) in last]
    return by_model(of_last, COLUMNS, caption, "training")


def _merit(last: dict[tuple[str, str], Measurement], model: str) -> tuple[float, float]:
    lived, cost = (last.get((model, metric)) for metric in ("survival", "delta_nll_excess"))
    return (-(_value(lived)), _value(cost))


def _value(record: Measurement | None) -> float:
    return record.value if record is not None and record.value is not None else 0.0


def _trainings(records: Measurements) -> list[str]:
    """The models with a teacher-forced likelihood, in the order in which they were tried."""
    return list(dict.fromkeys(r.model for r in records.select(metric="delta_nll_excess")))


def anchors(records: Measurements) -> list[Table]:
    """What real, ill-treated and one-step stretches have by the same figures."""
    tried = set(_trainings(records))
    others = sorted((r for r in records if r.model not in tried), key=lambda r: (_place(r.model), r.step))
    # Of recordings survival is known by their latents and speech by their sound: they have one row.
    one_row = [r.model_copy(update={"model": "real"}) if r.model == "original" else r for r in others]
    caption = (
        "What the same figures are of stretches that are no rollout: recordings, draws from true contexts (one step "
        "each), and true frames well and ill-treated. Recordings may be too short for the last horizon of survival."
    )
    return by_model(one_row, COLUMNS[2:], caption, "stretches")


def _place(model: str) -> int:
    order = list(words.ANCHORS)
    return order.index(model) if model in order else len(order)
