"""What all findings of a run come to: headline, advice, the path through the tree, and priors against outcomes."""

from collections.abc import Mapping

from audio_engram.advice import advice, headline
from audio_engram.decision import Cause, Decision, Finding, Prior, Turn
from audio_engram.tree import FIRST, SECOND, TREE, Step, walk

PRIORS = {
    "The factorised head keeps its direction in rollout": (0.60, "factorisation", "direction_cosine"),
    "Reusable direction archetypes exist": (0.50, "archetypes", ""),
    "Memory of prototypes helps": (0.25, "memory", ""),
    "Score correction helps rollouts": (0.30, "correction", ""),
    "The representation makes more than a twofold difference": (0.65, "representation", "dynamics_ratio"),
}
"""Hypotheses on recorded speech: the probability given to each, and the experiment and metric that decide it."""
SYNTHETIC = "This run heard synthetic data"
ARRAYS = "This run was given latents without recordings, and nothing shows that they are of recorded speech"
CAUSES: dict[Cause, str] = {
    "straddles": "the interval straddles the threshold",
    "no interval": "there is no interval",
    "frozen": "a head stands still",
    "ratio to nothing": "the order of the run's own frames may tell nothing",
    "nothing beside": "no other representation at the run's frame rate was measured",
    "none chosen": "too few validation speakers to choose a corrector by",
}


def decide(
    findings: list[Finding],
    warnings: tuple[str, ...] = (),
    no_speech: str = "",
    left_out: Mapping[str, str] | None = None,
) -> Decision:
    """Follow the tree with the findings at hand, as far as they lead; `left_out` as in `tree.walk`.

    `no_speech` says why this is not known to be recorded speech, which alone confirms or refutes hypotheses.
    """
    path = _path(findings, left_out or {})
    return Decision(
        headline=headline(findings),
        advice=advice(path, findings),
        path=tuple(map(_turn, path)),
        findings=tuple(findings),
        priors=tuple(_scored(name, findings, left_out or {}, no_speech) for name in PRIORS),
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
        because = " ".join(filter(None, [step.finding.words, step.finding.caution]))
    else:
        because = f"The experiment {step.node.experiment} "
        because += f"cannot be measured here: {step.left_out}" if step.left_out else "was not run."
    return Turn(question=step.node.question, answer=step.answer, because=because)


def _scored(hypothesis: str, findings: list[Finding], left_out: Mapping[str, str], no_speech: str) -> Prior:
    """The squared distance of the probability to the outcome, or why there is none."""
    probability, experiment, metric = PRIORS[hypothesis]
    mine = [f for f in findings if f.criterion.experiment == experiment]
    finding = next((f for f in mine if metric in ("", f.criterion.metric)), None)
    if no_speech or finding is None:
        outcome, why = None, no_speech or _untested(experiment, bool(mine), left_out)
    elif finding.verdict == "undecided":
        outcome, why = None, ": ".join(filter(None, ["undecided", CAUSES.get(finding.cause, finding.cause)]))
    else:
        outcome, why = finding.verdict == "pass", ""
    brier = None if outcome is None else (probability - outcome) ** 2
    return Prior(hypothesis=hypothesis, probability=probability, outcome=outcome, brier=brier, why=why)


def _untested(experiment: str, judged: bool, left_out: Mapping[str, str]) -> str:
    if experiment in left_out:
        return f"not tested: the experiment {experiment} cannot be measured here: {left_out[experiment]}"
    return f"not tested: the experiment {experiment} " + ("did not judge it" if judged else "was not run")
