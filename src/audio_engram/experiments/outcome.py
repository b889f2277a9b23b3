"""What an experiment gives back, and the sentences that experiments share."""

from dataclasses import dataclass, field

from audio_engram.decision import Finding
from audio_engram.measurements import Measurement


@dataclass
class Outcome:
    """Measurements and findings of one experiment."""

    measurements: list[Measurement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def show(measured: Measurement) -> str:
    """`-7.25 [-7.90, -6.61]`."""
    if measured.value is None:
        return "not finite"
    if measured.low is None or measured.high is None:
        return f"{measured.value:.3g} (no interval)"
    return f"{measured.value:.3g} [{measured.low:.3g}, {measured.high:.3g}]"
