"""Correctors of rollouts: what each does to the distance from speech and to that from the truth."""

from collections.abc import Sequence
from dataclasses import replace

from audio_engram.decision import Finding
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import words
from audio_engram.report.figure import INTERVALS, Drawn, Figure, figure
from audio_engram.report.scatter import Plane, Point, ratio_panel
from audio_engram.report.series import Curve, Style

NONE = "uncorrected"
FARTHEST = 3.0  # times more or less than uncorrected: what lies beyond stands below the panel
ROOM = 1.08  # around the values
LEAST = 0.99, 1.0  # state error and distance that the verdict asks for; the report does not load the experiment
CONTEXT = ", given the context"
KINDS = {
    "Tweedie": Style("mdn", "o", "none"),
    "Langevin": Style("vmf", "s", "none"),
    "Langevin and Tweedie": Style("mode-d", "D", "none"),
    "another": Style("other-1", "X", "none"),
}
AXES = "State error over uncorrected", "Distance over uncorrected"


def correction(records: Measurements, name: str, findings: tuple[Finding, ...] = ()) -> list[Figure]:
    """Every corrector by both ratios that the verdict rests on: a panel for each kind of denoiser."""
    judged = words.first(findings[0].measured.model) if findings else ""
    points = _points(records)
    near = [pair for p in points if (pair := _near(p))]
    plane = Plane(AXES, LEAST, _limits([x for x, _ in near]), _limits([y for _, y in near]))
    panels: list[Drawn] = []
    for place, (title, given) in enumerate((("Denoiser of frames alone", False), ("Denoiser given the context", True))):
        some = [p for p in points if p.x.model.endswith(CONTEXT) == given]
        if some:
            panel = ratio_panel(title, f"{name}-correction{place}", some, plane)
            key = tuple((p.label, _named(p.x.model) + (" (judged)" if p.x.model == judged else "")) for p in some)
            kinds = dict.fromkeys(_kind(p.x.model) for p in some)
            panels.append((replace(panel, key=key), [Curve(kind, KINDS[kind], ()) for kind in kinds]))
    return figure(
        "Rollouts with each corrector over rollouts without, on the same speakers: the state error of free-running "
        "rollouts by the typical step (left is nearer to the truth), and the Fréchet distance of sampled ones to real "
        "stretches (down is nearer to speech). The cross at 1 and 1 is no corrector. To pass, the whole interval must "
        "lie in the shaded corner both ways. Pulling everything to the mean leads left and up, noise down and right. "
        f"Both axes are logarithmic. {INTERVALS}",
        panels,
    )


def _points(records: Measurements) -> list[Point]:
    """Correctors by their numbers, with what both ratios need."""
    plain = next((r.value for r in records.select(metric="state_error", model=NONE)), None)
    errors = {words.first(r.model): r for r in records.select(metric="state_error_difference")}
    found: list[Point] = []
    for distance in records.select(metric="frechet_latents_times"):
        name = words.first(distance.model)
        if plain and name in errors:
            ratio = _over(errors[name], plain).model_copy(update={"model": name})
            found.append(Point(str(len(found) + 1), ratio, distance, KINDS[_kind(name)]))
    return found


def _over(difference: Measurement, plain: float) -> Measurement:
    """A difference to what has this value, as a ratio: in the same way the verdict takes it."""
    ends = {end: getattr(difference, end) for end in ("value", "low", "high")}
    return difference.model_copy(update={end: 1 + v / plain for end, v in ends.items() if v is not None})


def _near(point: Point) -> tuple[float, float] | None:
    """Its ratios, where both are of a size that leaves room for all others."""
    x, y = point.x.value, point.y.value
    if x is None or y is None:
        return None
    return (x, y) if all(1 / FARTHEST <= v <= FARTHEST for v in (x, y)) else None


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """A range around these and 1."""
    return min([1.0, *values]) / ROOM, max([1.0, *values]) * ROOM


def _named(corrector: str) -> str:
    return corrector.removesuffix(CONTEXT)


def _kind(corrector: str) -> str:
    first, _, second = _named(corrector).partition(",")[0].partition(" and ")
    kind = " and ".join(filter(None, (first.partition(" ")[0], second)))
    return kind if kind in KINDS else "another"
