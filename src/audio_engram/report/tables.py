"""The small tables beside the figures, and the full one at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audio_engram import numbers
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.series import data_order, model_order

STEPS_SHOWN = (1, 2, 4, 8, 16)
COLUMNS_OF_ALL = (
    "experiment",
    "metric",
    "model",
    "data",
    "mode",
    "lag",
    "step",
    "value [95 % interval]",
    "speakers",
    "rests on",
    "split",
    "codec",
)


@dataclass(frozen=True)
class Table:
    """Text cells under a caption; the first `heads` cells of a row name it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    heads: int = 1


def shown(record: Measurement | None) -> str:
    """Value and interval, or a dash for what was not measured."""
    if record is None:
        return "–"
    if record.value is None and not record.n_frames:
        return "not measured"
    if words.metric(record.metric).whole and record.low is None:
        return "none" if record.value is None else numbers.count(round(record.value))
    return numbers.interval(record.value, record.low, record.high)


def rests_on(record: Measurement) -> str:
    """`1,233 frames`, `24 rollouts`; a dash for what is exact."""
    return numbers.plural(record.n_frames, words.counted(record)) if record.n_frames else "–"


def along(records: Measurements, metric: str, axis: str) -> list[Table]:
    """One metric: series downwards, lags or steps across."""
    found = records.select(metric=metric)
    places = sorted({getattr(r, axis) for r in found})
    if axis == "step" and len(places) > len(STEPS_SHOWN):
        places = [p for p in places if p in STEPS_SHOWN]
    keys = sorted({(r.model, r.data, r.mode) for r in found}, key=_order)
    several_modes = len({mode for _, _, mode in keys}) > 1
    cells = {(r.model, r.data, r.mode, getattr(r, axis)): r for r in found}
    rows = tuple((*_names(key, several_modes), *(shown(cells.get((*key, place))) for place in places)) for key in keys)
    heads = ("model", "fed") if several_modes else ("model",)
    columns = (*heads, *(f"{axis} {place}" for place in places))
    return [Table(_caption(metric, axis), columns, rows, len(heads))] if rows else []


def _caption(metric: str, axis: str) -> str:
    known = words.metric(metric)
    unit = f", {known.unit}" if known.unit else ""
    return f"{known.title}{unit}, by {axis}. {known.meaning}".strip()


def parts(records: Measurements) -> list[Table]:
    """The decomposition of ΔNLL at lag 1: parts and their sum downwards, then ΔNLL on shuffled frames; heads across."""
    of_parts = [r for r in records.select(lag=1, data="real") if r.metric in words.PARTS]
    models = sorted({r.model for r in of_parts}, key=model_order)
    totals = [r for r in records.select(metric="delta_nll", lag=1, mode="teacher_forced") if r.model in models]
    cells = {(r.model, r.data, r.metric): r for r in [*of_parts, *totals]}
    kinds = [("real", part) for part in words.PARTS]
    kinds += [(data, "delta_nll") for data in sorted({"real", *(r.data for r in totals)}, key=data_order)]
    rows = tuple(
        (words.of_data(words.metric(metric).label, data), *(shown(cells.get((m, data, metric))) for m in models))
        for data, metric in kinds
    )
    caption = (
        "The parts of ΔNLL at lag 1, nats/frame, and their sum. Below the sum stands ΔNLL of the same head trained and "
        "tested on shuffled frames, against the increment baseline of those frames: it needs no dynamics."
    )
    return [Table(caption, ("part", *map(words.model, models)), rows)] if models else []


def across(records: Measurements, metrics: Sequence[str], caption: str) -> list[Table]:
    """Several metrics side by side, a row for each model, data and lag that has more than the first."""
    present = [m for m in metrics if len(records.select(metric=m))]
    telling = present[1:] or present
    keys = sorted(
        {(r.model, r.data, r.mode, r.lag) for r in records if r.metric in telling},
        key=lambda k: (k[3], _order(k[:3])),
    )
    cells = {(r.model, r.data, r.mode, r.lag, r.metric): r for r in records}
    rows = tuple(
        (words.series(key[0], key[1]), str(key[3]), *(shown(cells.get((*key, metric))) for metric in present))
        for key in keys
    )
    columns = ("model", "lag", *(words.metric(metric).label for metric in present))
    return [Table(caption, columns, rows, heads=2)] if rows else []


def by_model(
    records: Sequence[Measurement], metrics: Sequence[str], caption: str, rows_are: str = "model"
) -> list[Table]:
    """Metrics side by side, a row for each model in the order of the records, on held-out speakers."""
    return by_name(records, metrics, caption, (rows_are,), lambda name: (words.model(name),))


def by_name(
    records: Sequence[Measurement],
    metrics: Sequence[str],
    caption: str,
    rows_are: tuple[str, ...],
    named: Callable[[str], tuple[str, ...]],
) -> list[Table]:
    """The same where models have their own names, in as many columns as `rows_are`.

    Of several records of a model and metric the last one is shown.
    """
    cells = {(r.model, r.metric): r for r in records if r.metric in metrics}
    present = [metric for metric in metrics if any(metric == known for _, known in cells)]
    rows = tuple(
        (*named(name), *(shown(cells.get((name, metric))) for metric in present))
        for name in dict.fromkeys(name for name, _ in cells)
    )
    columns = (*rows_are, *(words.metric(metric).label for metric in present))
    return [Table(caption, columns, rows, len(rows_are))] if rows else []


def all_records(records: Measurements) -> Table:
    """Every measurement of the run, known or not."""
    rows = tuple(
        (
            *(r.experiment, r.metric, r.model, r.data, r.mode, str(r.lag), str(r.step), shown(r)),
            *(numbers.count(r.n_speakers), rests_on(r), r.split, r.codec),
        )
        for r in records
    )
    return Table("All measurements, as the run wrote them.", COLUMNS_OF_ALL, rows, heads=5)


def _order(key: tuple[str, str, str]) -> tuple[object, ...]:
    return (data_order(key[1]), model_order(key[0]), key[2])


def _names(key: tuple[str, str, str], with_mode: bool) -> tuple[str, ...]:
    name = words.series(key[0], key[1])
    return (name, words.mode(key[2])) if with_mode else (name,)
