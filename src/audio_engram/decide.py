"""What all findings of a run come to: headline, advice, the path through the tree, and priors against outcomes."""

from collections.abc import Mapping

from audio_engram.advice import advice, headline
from audio_engram.decision import Decision, Finding, Prior, Turn
from audio_engram.tree import FIRST, SECOND, TREE, Step, walk

PRIORS = {
    "The factorised head keeps its direction in rollout": (0.60, "factorisation", "direction_cosine"),
    "Reusable direction archetypes exist": (0.50, "archetypes", ""),
    "Memory of prototypes helps": (0.25, "memory", ""),
    "Score correction helps rollouts": (0.30, "correction", ""),
    "The representation makes more than a twofold difference": (0.65, "representation", "dynamics_ratio"),
}


def decide(
    findings: list[Finding],
    warnings: tuple[str, ...] = (),
    synthetic: bool = False,
    left_out: Mapping[str, str] | None = None,
) -> Decision:
    """Follow the tree with the findings at hand, as far as they lead; `left_out` as in `tree.walk`.

    Hypotheses are of recorded speech: what is `synthetic` neither confirms nor refutes them.
    """
    path = _path(findings, left_out or {})
    return Decision(
        headline=headline(findings),
        advice=advice(path),
        path=tuple(map(_turn, path)),
        findings=tuple(findings),
        priors=tuple(_score(*item, [] if synthetic else findings) for item in PRIORS.items()),
        warnings=warnings,
    )


def _path(findings: list[Finding], left_out: Mapping[str, str]) -> list[Step]:
    """From the first question; without an answer to it from the second, and without one to either there is none."""
    first, second = (TREE[name].finding(findings) for name in (FIRST, SECOND))
    if first is not None:
        return walk(findings, left_out)
    return [Step(FIRST, None), *walk(findings, left_out, SECOND)] if second is not None else []


def _turn(step: Step) -> Turn:
    if step.finding is not None:
        because = step.finding.words
    else:
        because = f"The experiment {step.node.experiment} "
        because += f"cannot be measured here: {step.left_out}" if step.left_out else "was not run."
    return Turn(question=step.node.question, answer=step.answer, because=because)


def _score(hypothesis: str, prior: tuple[float, str, str], findings: list[Finding]) -> Prior:
    probability, experiment, metric = prior
    finding = next(
        (f for f in findings if f.criterion.experiment == experiment and metric in ("", f.criterion.metric)), None
    )
    decided = finding is not None and finding.verdict != "undecided"
    outcome = finding.verdict == "pass" if finding is not None and decided else None
    brier = None if outcome is None else (probability - outcome) ** 2
    return Prior(hypothesis=hypothesis, probability=probability, outcome=outcome, brier=brier)
