"""Representations side by side: tables with a row for each, and predictability against the stability of rollouts."""

import re
from dataclasses import replace

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.bars import Across, Row, dot_panel
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.scatter import Point, scatter_panel
from audio_engram.report.series import Curve, Style, data_order, model_order, style_of
from audio_engram.report.tables import Table, shown

COMPARED = {
    "representation": (
        *("dynamics_per_second", "delta_nll_per_second", "delta_nll_excess_per_second", "nll_per_second"),
        *("direction_cosine", "innovation_cosine", "advantage_kept", "state_error_vs_mean", "magnitude_ratio"),
    ),
    "smoothing": ("innovation_cosine",),
}
HEADS = ("mdn", "vmf")
NEGATIVE = (
    "Dynamics are a ΔNLL: negative is better, and a ratio of 2 means twice as far below zero as the run's own "
    "representation, which stands first."
)
LEAST = -1.0  # of the advantage kept: what is worse stands at the edge of the figure with its value
SMOOTHED = (
    ("cosine, vMF", "direction_cosine", "vmf", "real"),
    ("cosine, shuffled", "direction_cosine", "vmf", "shuffled_within"),
    ("cosine, AR(1)", "direction_cosine", "ar1", "real"),
    ("gain in cosine", "cosine_gain", "vmf", "real"),
)
HEARD = (
    ("log-spectral distance (dB)", "spectral_distance", "codec", "real"),
    ("distortion ratio", "distortion_ratio", "codec", "real"),
)


def comparison(records: Measurements, name: str) -> list[Table]:
    """What the verdict rests on, one row for each representation."""
    if name == "representation":
        return _chosen(records)
    found = [_wide(records, "Direction cosines, and the gain beyond what shuffled frames gain.", SMOOTHED)]
    found.append(_wide(records, "What the decoder makes of it, against the recording.", HEARD))
    return [table for table in found if table.rows]


def numbers_behind(records: Measurements, name: str) -> list[Table]:
    """One table for each metric: representations downwards, models across."""
    found = []
    for metric in COMPARED[name]:
        of_metric = records.select(metric=metric)
        keys = sorted({(r.model, r.data) for r in of_metric}, key=lambda k: (data_order(k[1]), model_order(k[0])))
        columns = tuple((words.series(model, data), metric, model, data) for model, data in keys)
        caption = f"{title_of(metric)}. {words.metric(metric).meaning}".strip()
        found += [_wide(of_metric, caption, columns)] if columns else []
    return found


def _chosen(records: Measurements) -> list[Table]:
    """Dynamics, their ratio and the advantage kept, of the head that validation prefers in each representation."""
    heads = {r.codec: r.model for r in records.select(metric="dynamics_ratio")}
    metrics = ("dynamics_per_second", "dynamics_ratio", "advantage_kept")
    cells = {(r.codec, r.model, r.metric): r for r in records}
    judged = _judged(_order(records))
    rows = tuple(
        (
            codec,
            words.model(heads[codec]),
            judged[codec],
            *(shown(cells.get((codec, heads[codec], metric))) for metric in metrics),
        )
        for codec in _order(records)
        if codec in heads
    )
    columns = ("representation", "model", "judged", *(title_of(metric) for metric in metrics))
    caption = f"Each representation by the head that its validation speakers prefer. {NEGATIVE}"
    return [Table(caption, columns, rows, heads=3)] if rows else []


def _judged(codecs: list[str]) -> dict[str, str]:
    """Whether the verdict asks a representation: the others are held against the first, where frame rates are alike."""
    rates = {codec: rate for rate, some in _by_rate(codecs).items() for codec in some}
    own = codecs[0] if codecs else ""
    said = {codec: "yes" if rate == rates[own] else "no: other frame rate" for codec, rate in rates.items()}
    return said | {own: "the run's own"}


def _wide(records: Measurements, caption: str, columns: tuple[tuple[str, str, str, str], ...]) -> Table:
    cells = {(r.codec, r.metric, r.model, r.data): r for r in records}
    rows = tuple(
        (codec, *(shown(cells.get((codec, metric, model, data))) for _, metric, model, data in columns))
        for codec in _order(records)
        if any((codec, metric, model, data) in cells for _, metric, model, data in columns)
    )
    return Table(caption, ("representation", *(title for title, *_ in columns)), rows)


def _order(records: Measurements) -> list[str]:
    """Representations as they were measured, the run's own first."""
    return list(dict.fromkeys(r.codec for r in records))


def representation(records: Measurements, name: str) -> list[Figure]:
    """Predictability against stability, a panel for each frame rate; then dynamics a second."""
    codecs = _order(records)
    number = {codec: str(place + 1) for place, codec in enumerate(codecs)}
    by_rate = _by_rate(codecs)
    drawn: list[Drawn] = []
    kept = [r for r in records.select(metric="advantage_kept") if r.model in HEADS]
    for place, (rate, some) in enumerate(by_rate.items()):
        points = [point for codec in some for head in HEADS for point in _point(records, codec, head, number[codec])]
        if points:
            panel = scatter_panel(
                f"Predictability against the stability of rollouts{', ' + rate if rate else ''}",
                f"{name}-scatter{place}",
                points,
                (title_of("dynamics_per_second"), title_of("advantage_kept")),
                _limits(kept),
            )
            named = tuple((number[codec], codec) for codec in some)
            drawn.append((replace(panel, key=named), [Curve(words.model(h), _mark(h), ()) for h in HEADS]))
    caption = (
        "What the order of frames tells in a second (left is more) against the share of the advantage that free "
        f"running keeps (up is more stable; arrows are further down, as told below). {INTERVALS} One panel for "
        "each frame rate, because only equal rates compare."
    )
    return figure(caption, drawn) + dots(records, "dynamics_per_second", name)


def _point(records: Measurements, codec: str, head: str, label: str) -> list[Point]:
    x = records.select(codec=codec, model=head, metric="dynamics_per_second")
    y = records.select(codec=codec, model=head, metric="advantage_kept")
    return [Point(label, x[0], y[0], style_of(head))] if len(x) == len(y) == 1 else []


def _mark(head: str) -> Style:
    return style_of(head)._replace(dash="none")


def _limits(kept: list[Measurement]) -> tuple[float, float]:
    """From the lowest value, but `LEAST` at the least, to above all intervals and 0, the same in every panel."""
    values = [r.value for r in kept if r.value is not None] or [0.0]
    ends = [r.high for r in kept if r.high is not None]
    return max(min(values) - 0.1, LEAST), max([0.0, *values, *ends]) + 0.1


def _by_rate(codecs: list[str]) -> dict[str, list[str]]:
    """Representations by their frame rate, which stands in their title."""
    found: dict[str, list[str]] = {}
    for codec in codecs:
        rate = re.search(r"[\d.]+ Hz", codec)
        found.setdefault(rate[0] if rate else "", []).append(codec)
    return found


def smoothing(records: Measurements, name: str) -> list[Figure]:
    """Cosines of every way to smooth, real and shuffled, and what the sound loses."""
    return [
        one
        for metric in ("direction_cosine", "distortion_ratio")
        for one in dots(Measurements(r for r in records if r.model != "ar1"), metric, name)
    ]


def dots(records: Measurements, metric: str, name: str) -> list[Figure]:
    """A metric of every representation, one row each and a panel for each frame rate."""
    of_metric, title = records.select(metric=metric), title_of(metric)
    by_rate = _by_rate(_order(of_metric))
    panels: list[Drawn] = []
    for place, (rate, codecs) in enumerate(by_rate.items()):
        rows = [Row(_label(r), r, style_of(r.model, r.data)) for r in of_metric if r.codec in codecs]
        named = f"{title}, {rate}" if len(by_rate) > 1 else title
        panels.append((dot_panel(named, f"{name}-{metric}{place}", rows, Across(any_size=True)), []))
    return figure(f"{words.metric(metric).meaning} {INTERVALS}", panels)


def _label(record: Measurement) -> str:
    """Short enough to stand beside its dot."""
    data = {"shuffled_within": ", shuffled"}.get(record.data, "")
    model = "" if record.model == "codec" else f", {record.model.upper() if record.model == 'mdn' else 'vMF'}"
    return f"{re.sub(r' [0-9.]+ Hz', '', record.codec).replace(' · ', ' ')}{model}{data}"
