"""Representations side by side: a table with a row for each, and predictability against the stability of rollouts."""

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.bars import Row, dot_panel
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.scatter import Point, scatter_panel
from audio_engram.report.series import model_order, style_of
from audio_engram.report.tables import Table, shown

COMPARED = {
    "representation": (
        (
            "dynamics_per_second",
            "dynamics_ratio",
            "delta_nll_per_second",
            "delta_nll_excess_per_second",
            "direction_cosine",
        ),
        ("innovation_cosine", "advantage_kept", "state_error_vs_mean", "magnitude_ratio", "nll_per_second"),
    ),
    "smoothing": (("direction_cosine", "innovation_cosine", "cosine_gain", "spectral_distance", "distortion_ratio"),),
}
HEADS = ("mdn", "vmf")


def comparison(records: Measurements, name: str) -> list[Table]:
    """Representations downwards with their models, metrics across; several tables where one would be too wide."""
    keys = sorted({(r.model, r.data) for r in records if r.model != "ceiling"}, key=lambda k: (k[1], model_order(k[0])))
    order = list(dict.fromkeys(r.codec for r in records))
    cells = {(r.codec, r.model, r.data, r.metric): r for r in records}
    found = []
    for metrics in COMPARED[name]:
        rows = tuple(
            (codec, words.series(model, data), *(shown(cells.get((codec, model, data, m))) for m in metrics))
            for codec in order
            for model, data in keys
            if any((codec, model, data, m) in cells for m in metrics)
        )
        columns = ("representation", "model", *(title_of(m) for m in metrics))
        found.append(Table("Representations side by side, with 95 % intervals over speakers.", columns, rows, heads=2))
    return found


def representation(records: Measurements, name: str) -> list[Figure]:
    """Predictability against stability, one point for each representation and head; then dynamics a second."""
    order = list(dict.fromkeys(r.codec for r in records))
    points = [
        Point(str(place + 1), x[0], y[0], style_of(head))
        for place, codec in enumerate(order)
        for head in HEADS
        if len(x := records.select(codec=codec, model=head, metric="dynamics_per_second")) == 1
        and len(y := records.select(codec=codec, model=head, metric="advantage_kept")) == 1
    ]
    if not points:
        return []
    panel = scatter_panel(
        "Predictability against the stability of rollouts",
        f"{name}-scatter",
        points,
        (title_of("dynamics_per_second"), title_of("advantage_kept")),
    )
    numbered = "; ".join(f"{place + 1} {codec}" for place, codec in enumerate(order))
    caption = (
        f"What the order of frames tells in a second (left is more) against the share of the advantage that free "
        f"running keeps (up is more stable). {INTERVALS} Circles are the MDN, squares the vMF. {numbered}."
    )
    return figure(caption, [(panel, [])]) + dots(records, "dynamics_per_second", name)


def smoothing(records: Measurements, name: str) -> list[Figure]:
    """Cosines of every way to smooth, real and shuffled, and what the sound loses."""
    return [
        one
        for metric in ("direction_cosine", "distortion_ratio")
        for one in dots(Measurements(r for r in records if r.model != "ar1"), metric, name)
    ]


def dots(records: Measurements, metric: str, name: str) -> list[Figure]:
    """A metric of every representation, one row each."""
    rows = [Row(_label(r), r, style_of(r.model, r.data)) for r in records.select(metric=metric)]
    panels: list[Drawn] = [(dot_panel(title_of(metric), f"{name}-{metric}", rows), [])] if rows else []
    meaning = words.metric(metric).meaning
    return figure(f"{meaning} {INTERVALS}", panels)


def _label(record: Measurement) -> str:
    """Short enough to stand beside its dot."""
    data = {"shuffled_within": ", shuffled"}.get(record.data, "")
    model = "" if record.model == "codec" else f", {record.model.upper() if record.model == 'mdn' else 'vMF'}"
    return f"{record.codec.replace(' Hz', '').replace(' · ', ' ')}{model}{data}"
