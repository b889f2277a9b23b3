"""From measured values to verdicts, and from verdicts to a path through the tree (docs/method.md)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from audio_engram import numbers
from audio_engram.data.publish import publish_text
from audio_engram.measurements import Measurement

Verdict = Literal["pass", "fail", "undecided", "unattainable"]
Answer = Literal["yes", "no", "open"]
# In the order in which one of several speaks for all.
ANSWERS: dict[Verdict, Answer] = {"pass": "yes", "undecided": "open", "fail": "no", "unattainable": "no"}
# Of an undecided verdict. Those that no interval tells are given by experiments.
Cause = Literal[
    "",
    "too few speakers",
    "too few frames",
    "no interval",
    "straddles",
    "frozen",
    "ratio to nothing",
    "nothing beside",
    "none chosen",
]
MIN_SPEAKERS = 6  # with fewer, 95 % intervals of 3 to 5 speakers cover 75 to 90 %


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Criterion(_Frozen):
    """A threshold with its reason: `metric` must lie `below` or `above` it."""

    experiment: str
    question: str
    metric: str
    relation: Literal["below", "above"]
    threshold: float
    reason: str

    @property
    def bar(self) -> str:
        """`below 1.5 passes`."""
        return f"{self.wanted} passes"

    @property
    def wanted(self) -> str:
        """`below 1.5`."""
        return f"{self.relation} {numbers.threshold(self.threshold)}"

    def judge(self, measured: Measurement, ceiling: Measurement | None = None) -> Verdict:
        """The verdict on an interval: all of it on the good side, all on the bad side, or across the threshold.

        A `ceiling` (what any model could reach) whose upper end misses the threshold makes the verdict
        `unattainable` unless it was passed all the same; only criteria `above` a threshold have one.
        """
        verdict = self._judge(measured)
        beyond = ceiling is not None and ceiling.high is not None and ceiling.high < self.threshold
        return "unattainable" if beyond and verdict != "pass" else verdict

    def cause(self, measured: Measurement, ceiling: Measurement | None = None) -> Cause:
        """Why `judge` leaves the verdict undecided; empty if it does not."""
        if self.judge(measured, ceiling) != "undecided":
            return ""
        if measured.n_speakers < MIN_SPEAKERS:
            return "too few speakers"
        return "no interval" if measured.low is None or measured.high is None else "straddles"

    def _judge(self, measured: Measurement) -> Verdict:
        if measured.low is None or measured.high is None or measured.n_speakers < MIN_SPEAKERS:
            return "undecided"
        sign = 1.0 if self.relation == "above" else -1.0
        ends = sorted((sign * (measured.low - self.threshold), sign * (measured.high - self.threshold)))
        if ends[0] > 0:
            return "pass"
        return "fail" if ends[1] <= 0 else "undecided"


class Condition(_Frozen):
    """One of several that must all hold, and what it is judged by."""

    criterion: Criterion
    measured: Measurement

    @property
    def verdict(self) -> Verdict:
        """Whether it holds."""
        return self.criterion.judge(self.measured)


class Finding(_Frozen):
    """A measured value beside its criterion, with the verdict in a word and in a sentence.

    `cause` is what leaves the verdict undecided, for those who read on from it; `reference` the same figure of what has
    learned nothing. Of several `conditions` the decisive one is the criterion. `caution` must be said wherever the
    verdict is; `more` is what no verdict rests on.
    """

    criterion: Criterion
    measured: Measurement
    verdict: Verdict
    cause: Cause = ""
    label: str = ""
    words: str
    would_change: str
    ceiling: Measurement | None = None
    reference: Measurement | None = None
    conditions: tuple[Condition, ...] = ()
    caution: str = ""
    more: str = ""


def decisive(conditions: Sequence[tuple[Criterion, Measurement]]) -> tuple[Criterion, Measurement]:
    """Of conditions that must all hold, the one that decides: the first that fails, else the first left open, else
    the first."""
    verdicts = [criterion.judge(measured) for criterion, measured in conditions]
    for verdict in ("fail", "undecided", "unattainable"):
        if verdict in verdicts:
            return conditions[verdicts.index(verdict)]
    return conditions[0]


class Turn(_Frozen):
    """One question of the tree with the answer taken and why."""

    question: str
    answer: Answer
    because: str


class Prior(_Frozen):
    """A hypothesis with the probability given to it beforehand, and its Brier score once there is an outcome; or `why`
    there is none."""

    hypothesis: str
    probability: float
    outcome: bool | None
    brier: float | None
    why: str = ""


class Decision(_Frozen):
    """The path through the tree and what follows from it."""

    headline: str
    advice: str
    path: tuple[Turn, ...]
    findings: tuple[Finding, ...]
    priors: tuple[Prior, ...]
    warnings: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write `decision.json`, atomically."""
        publish_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Decision":
        """Read what `write` wrote."""
        return cls.model_validate_json(path.read_text())

    def __str__(self) -> str:
        lines = [self.headline, ""]
        lines += [f"  {f.verdict:12} {f.criterion.experiment:15} {f.words}" for f in self.findings]
        path = [f"  {t.question} {t.answer}: {t.because}" for t in self.path]
        lines += ["", *path, *([""] if path else []), self.advice]
        return "\n".join(lines + [f"Warning: {w}" for w in self.warnings])
