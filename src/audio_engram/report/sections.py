"""What stands in the section of each experiment: its findings, figures and tables."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from audio_engram.archetype_map import ArchetypeMap
from audio_engram.decision import Decision, Finding
from audio_engram.measurements import Measurements
from audio_engram.report import figures, tables, words
from audio_engram.report.clusters import archetype_tables, archetypes_shown, structure_tables
from audio_engram.report.compared import COMPARED, comparison, numbers_behind
from audio_engram.report.corrections import correction
from audio_engram.report.drift_figure import stability
from audio_engram.report.figure import Figure
from audio_engram.report.folder import RunFolder
from audio_engram.report.memories import memory, memory_tables
from audio_engram.report.remedies import anchors, no_trainings, remedies
from audio_engram.report.tables import Table

SPREAD = (
    "delta_nll",
    "delta_nll_median",
    "delta_nll_trimmed",
    "exploded_share",
    "bits_per_dim",
    "nats_per_dim",
)
MAX_GENERIC_ROWS = 60


@dataclass(frozen=True)
class Part:
    """The figures and tables of one codec."""

    codec: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    folded: tuple[Table, ...]


@dataclass(frozen=True)
class Section:
    """One experiment on the page."""

    name: str
    title: str
    question: str
    reading: str
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]


def sections(run: RunFolder) -> list[Section]:
    """A section for each experiment that was measured or judged, in the order of the ladder."""
    names = experiments_of(run.decision, run.measurements)
    found = {name: _section(name, index, run) for index, name in enumerate(names)}
    if run.archetypes is not None and "archetypes" in found:
        found["archetypes"] = _mapped(found["archetypes"], run.archetypes)
    return list(found.values())


def experiments_of(decision: Decision, measured: Measurements) -> list[str]:
    """What was measured or judged, in the order of the ladder."""
    names = {r.experiment for r in measured} | {f.criterion.experiment for f in decision.findings}
    known = list(words.EXPERIMENTS)
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def tables_to_read(name: str, run: RunFolder) -> list[tuple[str, Table]]:
    """An experiment's tables without the list of its measurements, each after its codec where there are several."""
    groups = _groups(name, _held_out(name, run.measurements))
    return [
        (codec if len(groups) > 1 else "", table)
        for codec, records in groups
        for some in _tables(name, records, run)
        for table in some
        if table.columns != tables.COLUMNS_OF_ALL
    ]


def _held_out(name: str, measured: Measurements) -> Measurements:
    return measured.select(experiment=name, split="test")


def _mapped(section: Section, archetypes: ArchetypeMap) -> Section:
    """The section with the figures of the archetypes that are shown after those along K."""
    first, *rest = section.parts or (Part("", (), (), ()),)
    drawn = archetypes_shown(archetypes, section.name)
    return replace(section, parts=(replace(first, figures=(*first.figures, *drawn)), *rest))


def _section(name: str, index: int, run: RunFolder) -> Section:
    told = words.experiment(name)
    findings = _findings(name, run)
    groups = _groups(name, _held_out(name, run.measurements))
    return Section(
        name=f"experiment-{index}",
        title=told.title,
        question=findings[0].criterion.question if findings else told.question,
        reading=told.reading,
        findings=findings,
        parts=tuple(
            Part(
                codec if len(groups) > 1 else "",
                _figures(name, f"e{index}c{place}", some, run),
                *map(tuple, _tables(name, some, run)),
            )
            for place, (codec, some) in enumerate(groups)
        ),
    )


def _findings(name: str, run: RunFolder) -> tuple[Finding, ...]:
    return tuple(f for f in run.decision.findings if f.criterion.experiment == name)


def _codec(records: Measurements) -> str:
    return next((r.codec for r in records), "")


def _groups(name: str, records: Measurements) -> list[tuple[str, Measurements]]:
    """A part for each codec, unless the experiment is about comparing them."""
    if name in COMPARED:
        return [("", records)] if len(records) else []
    return [(codec, records.select(codec=codec)) for codec in sorted({r.codec for r in records})]


def _figures(name: str, prefix: str, records: Measurements, run: RunFolder) -> tuple[Figure, ...]:
    findings = _findings(name, run)
    if name == "stability":
        others = no_trainings(run.measurements, _codec(records))
        judged = {words.first(f.measured.model) for f in _findings("correction", run)} | {"two_stage"}
        return tuple(stability(records, prefix, Measurements(r for r in others if r.model in judged)))
    if name == "factorisation":
        return tuple(figures.factorisation(records, prefix, _threshold(findings, "direction_cosine")))
    if name in JUDGED:
        return tuple(JUDGED[name](records, prefix, findings))
    return tuple(figures.DRAWN[name](records, prefix)) if name in figures.DRAWN else ()


def _tables(name: str, records: Measurements, run: RunFolder) -> tuple[list[Table], list[Table]]:
    """Those that stand open, and those that are folded away."""
    if name in COMPARED:
        return comparison(records, name), numbers_behind(records, name)
    if name == "stability":
        rate = run.provenance.codec.frame_rate
        others = no_trainings(run.measurements, _codec(records))
        open_ones = [*remedies(records, rate, others), *_controls(records), *anchors(records, rate)]
        return open_ones, _generic(records)
    return tables.parts(records), TABLES.get(name, _generic)(records)


def _controls(records: Measurements) -> list[Table]:
    metrics = ("frechet_latents_times", "frechet_increments_times", "delta_nll_difference")
    caption = (
        "Each training against its control and against noise on contexts, on the same speakers: distances over theirs "
        "(below 1 is nearer to speech), and what it costs on true contexts (below 0 is better)."
    )
    return tables.by_model(records, metrics, caption)


def _threshold(findings: tuple[Finding, ...], metric: str) -> float | None:
    return next((f.criterion.threshold for f in findings if f.criterion.metric == metric), None)


def _predictability(records: Measurements) -> list[Table]:
    metrics = (
        "delta_nll",
        "delta_nll_excess",
        "direction_cosine",
        "innovation_cosine",
        "state_r2",
        "increment_r2",
    )
    spread = tables.across(records, SPREAD, "Whether single frames dominate the mean: ΔNLL in nats/frame, four ways.")
    return spread + [table for metric in metrics for table in tables.along(records, metric, "lag")]


def _by_step(*metrics: str) -> Callable[[Measurements], list[Table]]:
    return lambda records: [table for metric in metrics for table in tables.along(records, metric, "step")]


def _magnitude(records: Measurements) -> list[Table]:
    metrics = ("magnitude_r2_of_mean", "magnitude_r2")
    return tables.across(records, metrics, "R² of the log-magnitude. Above zero beats a constant.")


CORRECTION = (
    (
        (
            *("frechet_latents_times", "frechet_increments_times"),
            *("state_error_difference", "sampled_state_error_difference"),
        ),
        "With a corrector less or over without one, on the same speakers. Below 1, and below 0 for the error, is "
        "better.",
    ),
    (
        (
            *("state_error", "frechet_latents_ratio", "frechet_increments_ratio", "magnitude_p50_ratio"),
            *("variance_p50_ratio", "effective_rank_ratio"),
        ),
        "Rollouts by themselves. Ratios are those of the end of sampled rollouts to real stretches: 1 for the same.",
    ),
    (("corrector_broken_share", "corrector_broken_step"), "Correctors that returned what is no number, if any did."),
)


def _correction(records: Measurements) -> list[Table]:
    return [
        table
        for metrics, caption in CORRECTION
        for table in tables.by_name(records, metrics, caption, ("corrector",), lambda name: (words.first(name),))
    ]


def _sampling(records: Measurements) -> list[Table]:
    caption = "On true contexts: against the increment baseline, and against the training it is compared with."
    forced = tables.by_model(records, ("delta_nll", "delta_nll_difference"), caption)
    return [*tables.along(records, "magnitude_ratio", "step"), *forced]


def _injection(records: Measurements) -> list[Table]:
    by_step = ("delta_nll", "direction_cosine", "magnitude_ratio", "state_error", "recovery")
    caption = "Free running (mode D) after its first step, also by trainings on own states, where the run has them."
    free = tables.by_model(records.select(mode="D"), ("delta_nll_rollout", "advantage_kept"), caption)
    return [*free, *_by_step(*by_step)(records)]


def _two_stage(records: Measurements) -> list[Table]:
    by_step = (
        *("frechet_latents_ratio", "frechet_increments_ratio", "frechet_latents_times", "frechet_increments_times"),
        *("magnitude_p50_ratio", "survival"),
    )
    whole = ("parameters", "magnitude_r2", "delta_nll_difference")
    caption = "On held-out frames. R² of log magnitude is that of two stages once all directions are known."
    return [*tables.by_model(records, whole, caption), *_by_step(*by_step)(records)]


def _generic(records: Measurements) -> list[Table]:
    """Experiments without figures of their own show their measurements as they are."""
    if not len(records):
        return []
    table = tables.all_records(Measurements(records[:MAX_GENERIC_ROWS]))
    rest = len(records) - len(table.rows)
    more = f" {rest} more stand in the full table at the end." if rest > 0 else ""
    return [Table(f"The measurements of this experiment.{more}", table.columns, table.rows, table.heads)]


JUDGED: dict[str, Callable[[Measurements, str, tuple[Finding, ...]], list[Figure]]] = {
    "memory": memory,
    "correction": correction,
}
"""Figures that show what was judged, and by which bar."""

TABLES: dict[str, Callable[[Measurements], list[Table]]] = {
    "predictability": _predictability,
    "magnitude": _magnitude,
    "factorisation": _by_step(
        "direction_cosine",
        "ceiling_direction_cosine",
        "innovation_cosine",
        "magnitude_ratio",
        "delta_nll",
        "state_error",
        "state_error_difference",
        "first_nonfinite_step",
    ),
    "two_stage": _two_stage,
    "structure": structure_tables,
    "archetypes": archetype_tables,
    "memory": memory_tables,
    "sampling": _sampling,
    "correction": _correction,
    "injection": _injection,
}
