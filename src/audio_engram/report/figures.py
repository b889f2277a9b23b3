"""The figures of each experiment, drawn from its measurements; what was not measured is not drawn."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from audio_engram.measurements import Measurements
from audio_engram.report import clusters, compared, words
from audio_engram.report.breakdowns import decomposition, magnitude, recovery
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.lines import Look, common_limits, line_panel
from audio_engram.report.series import (
    BASELINES,
    MODES,
    Curve,
    along,
    analytic,
    as_reference,
    curves,
    model_order,
)

INDEPENDENT_COSINE = 0.707


def without(records: Measurements, mode: str) -> Measurements:
    """The records that were not measured in this mode."""
    return Measurements(r for r in records if r.mode != mode)


def predictability(records: Measurements, name: str) -> list[Figure]:
    """Curves along the lag, then what ΔNLL at lag 1 is made of."""
    cosine = Look("lag", guides=((INDEPENDENT_COSINE, "independent frames: 0.707"),))
    zero = Look("lag", guides=((0.0, ""),))
    looks = {
        "delta_nll": replace(zero, scale="symlog"),
        "delta_nll_excess": replace(zero, scale="symlog"),
        "direction_cosine": cosine,
        "innovation_cosine": zero,
        "direction_cosine_standardised": cosine,
        "state_r2": zero,
        "increment_r2": zero,
    }
    by_lag = figure(
        f"Predictability by lag. {INTERVALS} Full markers are real speech, hollow ones the frame-shuffled "
        "surrogates; baselines have no marker and are those of real speech. A model has found something where it "
        "leaves both the baselines and its shuffled twins. The dashed line at zero is the increment baseline. "
        "Cosines are of the mean increment E[δ].",
        _along_lag(records, name, looks),
    )
    return by_lag + decomposition(records, name)


def _along_lag(records: Measurements, name: str, looks: Mapping[str, Look]) -> list[Drawn]:
    panels: list[Drawn] = []
    for metric, look in looks.items():
        fed = curves(_told_apart(without(records.select(metric=metric), "analytic")), "lag")
        drawn = fed + analytic(_analytic_of(records, metric), "lag")
        if any(len(curve.records) > 1 for curve in drawn):
            panels.append((line_panel(title_of(metric), f"{name}-{metric}", drawn, look), drawn))
    return panels


def _told_apart(records: Measurements) -> Measurements:
    """Without the surrogates' own baselines, which would double the legend and lie under the shuffled heads."""
    return Measurements(r for r in records if r.data == "real" or r.model not in BASELINES)


def _analytic_of(records: Measurements, metric: str) -> Measurements:
    """The known truth, whether named by its mode alone or by its metric too."""
    return Measurements(r for r in records if r.mode == "analytic" and r.metric in (metric, f"{metric}_analytic"))


def factorisation(records: Measurements, name: str, wanted: float | None = None) -> list[Figure]:
    """Each metric along the steps of a rollout; `wanted` is the threshold on the cosine."""
    goal = ((wanted, f"threshold {wanted:g}"),) if wanted is not None else ()
    base = Look("step")
    still = replace(base, guides=((1.0, ""),))
    looks = {
        "direction_cosine": replace(base, guides=goal),
        "innovation_cosine": replace(base, guides=((0.0, ""),)),
        "magnitude_ratio": replace(base, scale="log", bands=((0.8, 1.25),), guides=((1.0, ""),)),
        "delta_nll": replace(base, scale="symlog", guides=((0.0, ""),)),
        "state_error_vs_still": still,
        "state_error_vs_mean": still,
    }
    return figure(
        f"Rollouts by step. {INTERVALS} The shaded strip of the magnitude ratio is 0.8–1.25; the grey band "
        "of the cosine is the best that a predictor trained directly at that lag or a longer one reaches. "
        "Dashed lines are the baseline, the true magnitude, standing still and the training mean. Cosines are of the "
        "step taken: mean direction at median magnitude, or the mean of the MDN's most probable component. The ceiling "
        "is of E[δ].",
        _along_step(records, name, looks),
    )


def _along_step(records: Measurements, name: str, looks: Mapping[str, Look]) -> list[Drawn]:
    panels: list[Drawn] = []
    for metric, look in looks.items():
        of_metric = records.select(metric=metric)
        free = curves(of_metric.select(mode="free_running"), "step")
        fed = [as_reference(c) for c in curves(of_metric.select(mode="teacher_forced"), "step") if _is_base(c)]
        ceiling = curves(records.select(metric=f"ceiling_{metric}"), "step")
        drawn = ceiling + free + fed
        if drawn:
            panels.append((line_panel(title_of(metric), f"{name}-{metric}", drawn, look), drawn))
    return panels


def _is_base(curve: Curve) -> bool:
    """Unrolled variants have no teacher-forced line of their own: six of them would hide one another."""
    return "_k" not in curve.records[0].model


def injection(records: Measurements, name: str) -> list[Figure]:
    """Each metric for each model, with the four modes as curves; then what one true frame repairs."""
    scales = {
        "direction_cosine": "linear",
        "state_error": "linear",
        "delta_nll": "symlog",
        "magnitude_ratio": "log",
    }
    panels: list[Drawn] = []
    for metric, scale in scales.items():
        of_metric = records.select(metric=metric)
        look = Look("step", scale, marks=(4.5, 8.5, 12.5), limits=common_limits(of_metric, scale))
        for model in sorted({r.model for r in of_metric}, key=model_order):
            drawn = _modes(of_metric.select(model=model))
            title = f"{title_of(metric)}, {words.model(model)}"
            if drawn:
                panels.append((line_panel(title, f"{name}-{metric}-{model}", drawn, look), drawn))
    shown = figure(
        f"Rollouts with the true state injected. {INTERVALS} Dotted uprights are the injections of mode B; "
        "what falls below a thousandth of the largest value leaves a logarithmic panel. "
        "Cosines are of the step taken.",
        panels,
    )
    return shown + recovery(records.select(metric="recovery"), f"{name}-recovery")


def _modes(records: Measurements) -> list[Curve]:
    return [
        Curve(words.mode(mode), style, along(found, "step"))
        for mode, style in MODES.items()
        if len(found := records.select(mode=mode))
    ]


DRAWN: dict[str, Callable[[Measurements, str], list[Figure]]] = {
    "predictability": predictability,
    "magnitude": magnitude,
    "factorisation": factorisation,
    "injection": injection,
    "structure": clusters.structure,
    "archetypes": clusters.archetypes,
    "representation": compared.representation,
    "smoothing": compared.smoothing,
}
