"""What an experiment gives back, and the sentences that experiments share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audio_engram import numbers
from audio_engram.decision import Finding
from audio_engram.measurements import Measurement


@dataclass
class Outcome:
    """Measurements and findings of one experiment, and what must be known before believing them."""

    measurements: list[Measurement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def show(measured: Measurement) -> str:
    """`−7.25 [−7.90, −6.61]`, as sentences show it."""
    alone = measured.value is not None and (measured.low is None or measured.high is None)
    shown = numbers.interval(measured.value, measured.low, measured.high)
    return f"{shown} (no interval)" if alone else shown


def looking_ahead(titles: Sequence[str]) -> list[str]:
    """The warning on latents that see frames after their own; none where none do."""
    if not titles:
        return []
    verb, whose = ("see", "their") if len(titles) > 1 else ("sees", "its")
    *others, last = titles
    named = f"{', '.join(others)} and {last}" if others else last
    return [f"{named} {verb} frames after {whose} own, which eases prediction."]
