"""Clusters of contexts and of directions, beside their nulls."""

from collections.abc import Sequence
from dataclasses import replace

from audio_engram import numbers
from audio_engram.archetype_map import ArchetypeMap
from audio_engram.cluster_criteria import CONTEXT_NULLS, EXPLAINS, FORETOLD, SMALLEST, TIGHT
from audio_engram.decision import Criterion
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.bars import Across, Row, dot_panel
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure, title_of
from audio_engram.report.lines import Look, line_panel
from audio_engram.report.maps import HEIGHT as MAP_HEIGHT
from audio_engram.report.maps import map_caption, maps
from audio_engram.report.series import Curve, Style
from audio_engram.report.tables import Table, shown

LOOKS = {
    "real": Style("vmf", "s"),
    "shuffled_within": Style("mode-b", "o", filled=False),
    "phase_randomised": Style("mode-c", "^", filled=False),
    "autoregressed": Style("mode-d", "s", filled=False),
    "permuted": Style("muted", "X"),
    "gaussian": Style("mode-c", "^", "dashdot", filled=False),
    "random_pairs": Style("mode-b", "o", "dashed", filled=False),
}
HEARD = {
    "eta_squared_energy_change": Style("mdn", "o"),
    "eta_squared_flux": Style("other-2", "D", "dashed"),
    "eta_squared_pitch_change": Style("other-3", "v", "dotted"),
}
ALONG_K = Look("lag", x_label="number of clusters K")
WORST = -1.0  # of η² in its panel
SLICES = (
    "variance_ratio_high_energy",
    "variance_ratio_middle",
    "variance_ratio_confident_50%",
    "variance_ratio_confident_25%",
    "variance_ratio_confident_10%",
)
KEPT = ("entropy_reduction", "mass_kept", "clusters_kept")
SPEAKERS = tuple(f"variance_ratio_speakers_p{q}" for q in (10, 50, 90))
MEMBERSHIP = (
    ("membership_accuracy", "real"),
    ("membership_linear", "real"),
    ("membership_majority", "real"),
    ("membership_accuracy", "random_pairs"),
)


def structure(records: Measurements, name: str) -> list[Figure]:
    """Variance ratios of every conditioning and null, a panel for each lag."""
    ratios = records.select(metric="variance_ratio", split="test")
    ratios = Measurements(r for r in ratios if r.value is not None)
    curves = [Curve(_of(data), LOOKS[data]._replace(dash="none"), ()) for data in _kinds(ratios)]
    across = Across((_guide(EXPLAINS), (1.0, "nothing")), _reach(ratios))
    drawn: list[Drawn] = []
    for lag in sorted({r.lag for r in ratios}):
        rows = _conditioned(_by_conditioning(ratios.select(lag=lag)))
        drawn.append((dot_panel(f"Variance ratio at lag {lag}", f"{name}-lag{lag}", rows, across), curves))
    caption = (
        "Variance of held-out increments within clusters of contexts over their total variance: at 1 clusters tell "
        f"nothing. {INTERVALS} Structure is what lies below the threshold and below every null. What is not drawn has "
        f"no cluster of {SMALLEST} training frames. How far real frames lie below the nulls stands in the tables."
    )
    return figure(caption, drawn)


def _reach(ratios: Measurements) -> tuple[float, float]:
    """The range that every lag needs, so that panels side by side can be compared."""
    ends = [EXPLAINS.threshold, 1.0, *(v for r in ratios for v in (r.value, r.low, r.high) if v is not None)]
    room = 0.06 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def structure_tables(records: Measurements) -> list[Table]:
    """The ratios on all kinds of data; slices; what is kept."""
    of_test = Measurements(r for r in records if r.split == "test")
    ratios = [(_of(data), "variance_ratio", data) for data in _kinds(of_test.select(metric="variance_ratio"))]
    ratios += [(f"less {_of(data)}", "variance_ratio_excess", data) for data in CONTEXT_NULLS]
    real = [[(words.metric(m).label, m, "real") for m in some] for some in (SLICES, SPEAKERS, ("degradation", *KEPT))]
    captions = (
        "Variance ratio on real data and its nulls, and what real data have less than each null: these decide.",
        "Variance ratio on parts of the held-out frames.",
        "Variance ratio of single held-out speakers.",
        "Against training speakers; nats gained by a Gaussian for each cluster; "
        f"clusters of {SMALLEST} frames and more.",
    )
    return [t for t in map(lambda c, k: _table(of_test, c, k), captions, (ratios, *real)) if len(t.columns) > 2]


def _table(records: Measurements, caption: str, columns: Sequence[tuple[str, str, str]]) -> Table:
    cells = {(r.model, r.lag, r.metric, r.data): r for r in records}
    real = _by_conditioning(records.select(metric="variance_ratio", data="real"))
    keys = sorted({(r.lag, r.model): None for r in real}, key=lambda key: key[0])
    there = [c for c in columns if any((model, lag, c[1], c[2]) in cells for lag, model in keys)]
    rows = tuple(
        (model, str(lag), *(shown(cells.get((model, lag, metric, data))) for _, metric, data in there))
        for lag, model in keys
    )
    return Table(caption, ("clusters of contexts", "lag", *(label for label, _, _ in there)), rows, heads=2)


def archetypes(records: Measurements, name: str) -> list[Figure]:
    """Tightness, membership and meaning along K."""
    along = Measurements(_at_k(r) for r in records if r.model.startswith("K = ") and r.split == "test")
    drawn: list[Drawn] = []
    tight = [_curve(along, "tightness", data, _of(data), LOOKS[data]) for data in ("real", "gaussian", "random_pairs")]
    drawn += _panel("Tightness", f"{name}-tightness", [*null_band(tight[1:]), *tight], _wanted(TIGHT))
    looks = (LOOKS["real"], Style("magnitude", "P", "dotted"), Style("muted", "X"), LOOKS["random_pairs"])
    told = [
        _curve(along, metric, data, words.of_data(words.metric(metric).label, data), look)
        for (metric, data), look in zip(MEMBERSHIP, looks, strict=True)
    ]
    told = [*null_band(told[2:]), *told]
    drawn += _panel("Membership foretold from contexts", f"{name}-membership", told, _wanted(FORETOLD))
    heard = [_curve(along, metric, "real", words.metric(metric).label, look) for metric, look in HEARD.items()]
    drawn += _panel("What is heard, explained (η²)", f"{name}-heard", heard, replace(ALONG_K, limits=_shares(heard)))
    caption = (
        f"Clusters of directions by their number K, on held-out speakers. {INTERVALS} Dashed lines are the thresholds; "
        "an archetype is what lies above the grey band of the nulls: for tightness both of them, for membership random "
        "pairs and the most frequent cluster."
    )
    below = (
        " η² is below 0 where the clusters' training means are worse than one mean for all; intervals may leave its "
        f"panel, and what is below {numbers.threshold(WORST)} does."
    )
    return figure(caption + (below if any(curve.records for curve in heard) else ""), drawn)


def archetypes_shown(found: ArchetypeMap, name: str) -> list[Figure]:
    """Sizes of the clusters of one K, and the maps of their centroids."""
    sizes = {"real": [a.size for a in found.archetypes]} | found.null_sizes
    curves = [_sorted(data, LOOKS[data]._replace(marker=""), some) for data, some in sizes.items() if data in LOOKS]
    k = len(found.archetypes)
    look = Look("step", guides=((1.0, "equal sizes"),), x_label="clusters, largest first", height=MAP_HEIGHT)
    drawn: list[Drawn] = [
        (line_panel(f"Sizes of K = {k} clusters over their mean", f"{name}-sizes", curves, look), curves)
    ]
    caption = (
        f"The archetypes of K = {k}. Sizes: training increments in each cluster, over what each would have if all were "
        f"alike; the largest has {numbers.count(max(sizes['real']))}. "
    )
    return figure((caption + map_caption(found)).strip(), drawn + [(panel, []) for panel in maps(found)])


def _sorted(data: str, style: Style, sizes: Sequence[int]) -> Curve:
    """Cluster sizes in the shape that curves are drawn from; `step` is the rank."""
    mean = max(1, sum(sizes)) / max(1, len(sizes))
    records = (
        Measurement(experiment="archetypes", model="", metric="size", value=size / mean, step=rank)
        for rank, size in enumerate(sorted(sizes, reverse=True), 1)
    )
    return Curve(_of(data), style, tuple(records))


def null_band(nulls: Sequence[Curve]) -> list[Curve]:
    """From the lowest to the highest that nulls reach at each K, with their intervals."""
    by_k: dict[int, list[Measurement]] = {}
    for record in (r for curve in nulls for r in curve.records if r.value is not None):
        by_k.setdefault(record.lag, []).append(record)
    records = tuple(
        max(some, key=lambda r: r.value or 0.0).model_copy(
            update={
                "low": min(v for r in some for v in (r.value, r.low) if v is not None),
                "high": max(v for r in some for v in (r.value, r.high) if v is not None),
            }
        )
        for _, some in sorted(by_k.items())
    )
    return [Curve("band of the nulls", Style("ceiling", "", "none"), records)] if records else []


def archetype_tables(records: Measurements) -> list[Table]:
    """Every K, a table for each group of metrics."""
    groups = (
        (
            "How tight, and how much more than the nulls.",
            (
                ("tightness", "real"),
                ("tightness_full", "real"),
                ("tightness_excess", "gaussian"),
                ("tightness_excess", "random_pairs"),
                ("variance_explained", "real"),
            ),
        ),
        ("What contexts foretell.", (*MEMBERSHIP, ("membership_excess", "random_pairs"))),
        (
            "Sizes, and states first.",
            (("cluster_entropy", "real"), ("empty_clusters", "real"), ("tightness_state_conditioned", "real")),
        ),
        ("What is heard.", tuple((metric, "real") for metric in HEARD)),
    )
    return [table for caption, metrics in groups for table in _by_k(records, caption, metrics)]


def _by_k(records: Measurements, caption: str, metrics: Sequence[tuple[str, str]]) -> list[Table]:
    cells = {(r.model, r.metric, r.data): r for r in records if r.split == "test" and r.model.startswith("K = ")}
    ks = sorted({model for model, _, _ in cells}, key=_k)
    there = [m for m in metrics if any((k, *m) in cells for k in ks)]
    rows = tuple((k, *(shown(cells.get((k, *m))) for m in there)) for k in ks)
    columns = ("clusters", *(words.of_data(title_of(metric), data) for metric, data in there))
    return [Table(caption, columns, rows)] if there else []


def _shares(curves: Sequence[Curve]) -> tuple[float, float]:
    """From the lowest share, but `WORST` at the least, to above the highest: a long interval would hide the rest."""
    values = [0.0, *(r.value for curve in curves for r in curve.records if r.value is not None)]
    room = 0.1 * (max(values) - min(values)) or 0.1
    return max(min(values) - room, WORST), max(values) + room


def _wanted(criterion: Criterion) -> Look:
    return replace(ALONG_K, guides=(_guide(criterion),))


def _guide(criterion: Criterion) -> tuple[float, str]:
    return criterion.threshold, f"wanted: {criterion.threshold:g}"


def _panel(title: str, name: str, curves: Sequence[Curve], look: Look) -> list[Drawn]:
    there = [curve for curve in curves if curve.records]
    legend = tuple((curve.label, curve.style) for curve in there)
    # Its own legend in each panel: what the three tell of is not the same.
    return [(replace(line_panel(title, name, there, look), legend=legend), [])] if there else []


def _curve(records: Measurements, metric: str, data: str, label: str, style: Style) -> Curve:
    return Curve(label, style, tuple(sorted(records.select(metric=metric, data=data), key=lambda r: r.lag)))


def _at_k(record: Measurement) -> Measurement:
    """The number of clusters where lines run along lags."""
    return record.model_copy(update={"lag": _k(record.model)})


def _k(model: str) -> int:
    return int(model.removeprefix("K = "))


def _kinds(records: Measurements) -> list[str]:
    return [data for data in LOOKS if len(records.select(data=data))]


def _by_conditioning(records: Measurements) -> list[Measurement]:
    order = list(dict.fromkeys(r.model for r in records))
    return sorted(records, key=lambda r: (order.index(r.model), list(LOOKS).index(r.data)))


def _of(data: str) -> str:
    return words.DATA[data] or "real"


def _conditioned(records: Sequence[Measurement]) -> list[Row]:
    """A row for each record; the clusters are named once, in the first of their rows."""
    rows, last = [], ""
    for record in records:
        clusters = f"{record.model.replace('k-means', 'k')}, " if record.model != last else ""
        rows.append(Row(f"{clusters}{_of(record.data)}", record, LOOKS[record.data]))
        last = record.model
    return rows
