"""Trainings against drift side by side: how long their rollouts live, how far they are from speech, what they cost."""

from collections.abc import Iterable, Sequence

from audio_engram import numbers
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.corrections import NONE as UNCORRECTED
from audio_engram.report.tables import Table, shown

JUDGED_AT = 20.0  # seconds; the report does not load the experiment that judges
DISTANCES = (
    *("frechet_latents_ratio", "frechet_increments_ratio", "variance_between_ratio", "magnitude_p50_ratio"),
    "cycle_error_ratio",
)
TRUE_DIRECTIONS = "two_stage_true_directions"  # no rollout
SOUND = ("speech_share", "dnsmos", "speaker_similarity")
COLUMNS = ("delta_nll_excess", "excess_share", "survival", "finite_share", *SOUND, *DISTANCES)
Cells = dict[tuple[str, str], Measurement]
"""Of a model and a metric."""
NOTHING = Measurements([])


def remedies(records: Measurements, frame_rate: float | None, others: Measurements = NOTHING) -> list[Table]:
    """Every training where it is judged: what it costs in likelihood, and what it gains; the longest-lived first.

    `others` are remedies that are no training, which have rows beside them.
    """
    named = [*trainings(records), *dict.fromkeys(r.model for r in others)]
    cells = _at([*records, *others], named, _judged_step(records, frame_rate))
    ordered = sorted(named, key=lambda model: _merit(cells, model))
    caption = (
        "Trainings by the survival of their rollouts, then by their teacher-forced excess, which is that of "
        "Predictability at lag 1: MDN and vMF × log-normal are the same models there. Distances, variance, magnitude "
        "and cycle error are times real."
    )
    if len(others):
        caption += " Correctors and two stages follow the same utterances; a corrector leaves likelihood as it is."
    if any(_broken(cells, model) for model in named):
        caption += (
            " Of rollouts that leave the finite numbers only what comes before is in them: brackets say how many never "
            "leave them, and such a figure may look better than it is."
        )
    else:
        cells = {key: r for key, r in cells.items() if key[1] != "finite_share"}
    present = [metric for metric in COLUMNS if any(metric == known for _, known in cells)]
    heads = [_head([cells[key] for key in cells if key[1] == metric], frame_rate) for metric in present]
    rows = tuple((words.model(model), *(_cell(cells, model, metric) for metric in present)) for model in ordered)
    return [Table(caption, ("remedy" if len(others) else "training", *heads), rows)] if rows else []


def no_trainings(measured: Measurements, codec: str) -> Measurements:
    """Sampled rollouts that a corrector follows, and those of two stages."""
    own = {"correction": UNCORRECTED, "two_stage": "vmf"}  # what either is held against has its row by itself
    return Measurements(
        r
        for r in measured.select(codec=codec, mode="sampled", split="test")
        if r.experiment in own and r.model != own[r.experiment] and r.metric in COLUMNS and r.model != TRUE_DIRECTIONS
    )


def anchors(records: Measurements, frame_rate: float | None) -> list[Table]:
    """What real, ill-treated and one-step stretches have by the same figures."""
    tried = set(trainings(records))
    # Of recordings survival is known by their latents and speech by their sound: they have one row.
    others = [
        r.model_copy(update={"model": "real"}) if r.model == "original" else r
        for r in sorted(records, key=lambda r: (_place(r.model), r.step))
        if r.model not in tried
    ]
    end = _judged_step(records, frame_rate)
    named = list(dict.fromkeys(r.model for r in others if r.metric in COLUMNS))
    cells = _at([r for r in others if r.value is not None or r.n_frames], named, end)
    present = [m for m in COLUMNS if m != "finite_share" and any(r.metric == m for r in others)]
    caption = (
        "What the same figures are of stretches that are no rollout: recordings, draws from true contexts (one step "
        "each), and true frames well and ill-treated. Survival of recordings is by the last horizon that they reach."
    )
    unmeasured = {(r.model, r.metric): r for r in others}
    rows = tuple(
        (words.model(model), *(_at_last(cells, unmeasured, (model, metric), frame_rate) for metric in present))
        for model in named
    )
    return [Table(caption, ("stretches", *(words.metric(m).label for m in present)), rows)] if rows else []


def trainings(records: Measurements) -> list[str]:
    """The models with a teacher-forced likelihood, in the order in which they were tried."""
    return list(dict.fromkeys(r.model for r in records.select(metric="delta_nll_excess")))


def first_broken(records: Measurements, model: str) -> int:
    """The first step at which one of a training's rollouts is not finite; 0 where none is."""
    return max((round(r.value or 0) for r in records.select(model=model, metric="first_nonfinite_step")), default=0)


def _judged_step(records: Measurements, frame_rate: float | None) -> int:
    """The last horizon of distances up to 20 s, or the first there is; the last of all where seconds are not known."""
    tried = trainings(records)
    ends = sorted({r.step for r in records if r.model in tried and r.metric in (*DISTANCES[:1], "survival")})
    limit = round(JUDGED_AT * frame_rate) if frame_rate else max(ends, default=1)
    return max((end for end in ends if end <= limit), default=min(ends, default=1))


def _at(records: Iterable[Measurement], models: Sequence[str], end: int) -> Cells:
    """Of several records of a model and metric the last one up to a step, or the first after it."""
    of_models = [r for r in records if r.model in models and r.metric in COLUMNS]
    found: Cells = {}
    for record in sorted(of_models, key=lambda r: (r.step > end, -r.step if r.step <= end else r.step)):
        found.setdefault((record.model, record.metric), record)
    return found


def _merit(cells: Cells, model: str) -> tuple[float, float]:
    lived, cost = (cells.get((model, metric)) for metric in ("survival", "delta_nll_excess"))
    return (-(_value(lived)), _value(cost))


def _value(record: Measurement | None) -> float:
    return record.value if record is not None and record.value is not None else 0.0


def _broken(cells: Cells, model: str) -> str:
    """`10 of 24`, the rollouts that stay finite; empty where all do."""
    finite = cells.get((model, "finite_share"))
    if finite is None or finite.value is None or finite.value == 1.0:
        return ""
    return _counted(finite)


def _counted(share: Measurement) -> str:
    return f"{round(_value(share) * share.n_frames)} of {numbers.count(share.n_frames)}"


def _cell(cells: Cells, model: str, metric: str) -> str:
    record = cells.get((model, metric))
    if record is None or metric not in (*DISTANCES, "finite_share"):
        return shown(record)
    if metric == "finite_share":
        return _counted(record)
    broken = _broken(cells, model)
    return f"{shown(record)} ({broken})" if broken else shown(record)


def _head(records: Sequence[Measurement], frame_rate: float | None) -> str:
    """A metric with its horizon; what is measured on true contexts has none."""
    label, step = words.metric(records[0].metric).label, max(r.step for r in records)
    return f"{label}, {_horizon(step, frame_rate)}" if step > 1 else label


def _horizon(step: int, frame_rate: float | None) -> str:
    """`20 s`, or its step where seconds are not known."""
    return f"{step / frame_rate:.2g} s" if frame_rate else f"step {step}"


def _at_last(cells: Cells, unmeasured: Cells, key: tuple[str, str], frame_rate: float | None) -> str:
    """Of survival when it was; a stretch is as long as it is."""
    record = cells.get(key)
    text = shown(record or unmeasured.get(key))
    return f"{text} by {_horizon(record.step, frame_rate)}" if record and key[1] == "survival" else text


def _place(model: str) -> int:
    order = list(words.ANCHORS)
    return order.index(model) if model in order else len(order)
