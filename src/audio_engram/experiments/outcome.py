"""What an experiment gives back, and the sentences that experiments share."""

from dataclasses import dataclass, field

from audio_engram.decision import Finding
from audio_engram.measurements import Measurement

MINUS = "\N{MINUS SIGN}"
NAMES = {"mdn": "MDN", "vmf": "vMF × log-normal"}


@dataclass
class Outcome:
    """Measurements and findings of one experiment, and what must be known before believing them."""

    measurements: list[Measurement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def show(measured: Measurement) -> str:
    """`−7.25 [−7.90, −6.61]`, as sentences show it."""
    if measured.value is None:
        return "not finite"
    if measured.low is None or measured.high is None:
        return f"{_three(measured.value)} (no interval)"
    return f"{_three(measured.value)} [{_three(measured.low)}, {_three(measured.high)}]"


def _three(value: float) -> str:
    """Three significant digits, zeros included: −68.0, 3.30, −270."""
    return f"{value:#.3g}".rstrip(".").replace("-", MINUS)


def spoken(model: str) -> str:
    """A model's name in a sentence: `vmf_k16` is `vMF × log-normal (unrolled, K = 16)`."""
    head, _, unroll = model.partition("_k")
    name = NAMES.get(head, head)
    return f"{name} (unrolled, K = {unroll})" if unroll else name
