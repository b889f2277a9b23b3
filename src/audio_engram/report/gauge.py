"""Where an interval lies against its threshold, as positions in percent of a short line."""

from typing import NamedTuple

from audio_engram.decision import Finding

PAD = 0.12


class Gauge(NamedTuple):
    """Positions from 0 to 100, and the numbers that stand at both ends; the good side passes, and `ceiling` is the
    upper end of what is possible."""

    value: float
    low: float
    high: float
    threshold: float
    good_from: float
    good_to: float
    ends: tuple[float, float]
    ceiling: float | None = None


def gauge(finding: Finding) -> Gauge | None:
    """The gauge of a finding, or None for a value that was not finite."""
    measured, wanted = finding.measured, finding.criterion.threshold
    if measured.value is None:
        return None
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    ceiling = finding.ceiling.high if finding.ceiling else None
    ends = [low, high, wanted, measured.value] + ([] if ceiling is None else [ceiling])
    start, end = min(ends), max(ends)
    room = (end - start) * PAD or 1.0
    start, end = start - room, end + room

    def at(value: float) -> float:
        return round(100 * (value - start) / (end - start), 2)

    above = finding.criterion.relation == "above"
    good = (at(wanted), 100.0) if above else (0.0, at(wanted))
    return Gauge(
        at(measured.value), at(low), at(high), at(wanted), *good, (start, end), None if ceiling is None else at(ceiling)
    )
