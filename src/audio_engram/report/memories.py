"""Memories beside their placebos: tables grouped by the role of the memory, and what each gains over every placebo."""

from audio_engram.decision import Finding
from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import PLACEBOS, ROLES, memory_regime, placebos
from audio_engram.report import words
from audio_engram.report.bars import Across, Row, dot_panel
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure
from audio_engram.report.series import Style
from audio_engram.report.tables import Table, by_model, by_name
from audio_engram.spoken import begun

DIFFERENCE = "delta_nll_difference"
PLAIN = "no memory"
SHORT = PLACEBOS | {"matched": "a further layer"}
ROWS = {
    **dict.fromkeys(("vmf", "vmf-without-memory"), (PLAIN, "")),
    **{memory_regime(role).name: (ROLES[role][0], "") for role in ROLES},
    **{
        memory_regime(role, name).name: (ROLES[role][0], f"placebo: {SHORT[name]}")
        for role in ROLES
        for name in placebos(role)
    },
}
"""The memory that a model has, and what stands in its place."""
ALONE = (
    ("parameters", "delta_nll", "delta_nll_rollout", "frechet_latents_ratio", "magnitude_p50_ratio"),
    "Memories, their placebos, and correctors of the model without a memory. Ratios are those of sampled rollouts "
    "to real stretches: 1 for the same.",
)
COMPARED = (
    (DIFFERENCE, "delta_nll_rollout_difference", "state_error_difference", "frechet_latents_times"),
    "The first less the second, on the same frames. Negative is better, and below 1 for distances.",
)
READ = (
    ("prototypes_in_use", "prototypes_at_once", "prototypes_apart", "prototype_gate"),
    "What held-out contexts read.",
)
PLACEBO, UNJUDGED = Style("mdn", "o"), Style("mdn", "o", filled=False)


def memory_tables(records: Measurements) -> list[Table]:
    """Every model by itself, every difference, and what is read."""
    alone = Measurements(r for r in records if " - " not in r.model)
    differences = Measurements(r for r in records if " - " in r.model)
    return [
        *by_name(alone, *ALONE, ("memory", "in its place"), _row),
        *by_name(differences, *COMPARED, ("memory", "less"), _pair),
        *by_model(alone, *READ),
    ]


def _row(model: str) -> tuple[str, str]:
    return ROWS.get(model, (words.model(model), ""))


def _pair(models: str) -> tuple[str, str]:
    """The first of two, and what it is held against: a placebo without the memory that it is one of."""
    (first, placebo), (second, other) = map(_row, models.split(" - ", 1))
    return (f"{first}, {placebo}" if placebo else first), other or second


def memory(records: Measurements, name: str, findings: tuple[Finding, ...] = ()) -> list[Figure]:
    """What each memory gains on true contexts, a panel for each role, beside what the verdict asks for."""
    finding = next((f for f in findings if f.criterion.metric == DIFFERENCE), None)
    across = _across(finding)
    groups: dict[str, list[Measurement]] = {}
    for record in records.select(metric=DIFFERENCE):
        groups.setdefault(words.first(record.model), []).append(record)
    judged = words.first(finding.measured.model) if finding else ""
    panels: list[Drawn] = []
    for place, (first, found) in enumerate(groups.items()):
        rows = [_dot(r) for r in sorted(found, key=_has_no_placebo)]
        title = begun(_row(first)[0]) + (" (judged)" if first == judged else "")
        panels.append((dot_panel(title, f"{name}-memory{place}", rows, across), []))
    wanted = f" Wanted is {finding.criterion.wanted}, against every placebo." if finding else ""
    return figure(
        "NLL of held-out frames with a memory less that of what it is held against, in nats a frame: left of 0 the "
        f"memory is better.{wanted} Full marks are placebos, which have as many parameters and the same training; "
        "hollow ones are the model without a memory, which has not, so that no verdict rests on it. The residual "
        f"memory has no placebo. Each panel has its own axis. {INTERVALS}",
        panels,
    )


def _across(finding: Finding | None) -> Across:
    """Lines at 0 and at the bar, within which no difference is told apart by size."""
    if finding is None:
        return Across(any_size=True)
    bar = finding.criterion.threshold
    return Across(((0.0, ""), (bar, f"wanted: {finding.criterion.wanted}")), any_size=True, finest=abs(bar))


def _has_no_placebo(record: Measurement) -> bool:
    return not _pair(record.model)[1].startswith("placebo: ")


def _dot(record: Measurement) -> Row:
    against = _pair(record.model)[1]
    return Row(against.removeprefix("placebo: "), record, UNJUDGED if _has_no_placebo(record) else PLACEBO)
