"""The decision tree of science.md, section 5, as far as the experiments at hand reach."""

from audio_engram.decision import MIN_SPEAKERS, Decision, Finding, Prior, Turn, Verdict

PRIORS = {
    "The factorised head keeps its direction in rollout": (0.60, "factorisation", "direction_cosine"),
    "Reusable direction archetypes exist": (0.50, "archetypes", ""),
    "Memory of prototypes helps": (0.25, "memory", ""),
    "Score correction helps rollouts": (0.30, "correction", ""),
    "The representation makes more than a twofold difference": (0.65, "representation", ""),
}

NOT_RUN = "was not run."
GAPS = {
    "robust": "Free-running models keep most of it.",
    "no advantage": "Models have no advantage to lose in a rollout.",
    "one-step-catastrophic": "Free-running models lose it at the first step on their own states, as regression to the "
    "mean alone would have it.",
    "recoverable drift": "Free-running models drift, and one true frame brings them back.",
    "undecided": "Whether free-running models keep it is undecided.",
    "drift": "Free-running models drift, and one true frame does not bring them back.",
}


def decide(findings: list[Finding], warnings: tuple[str, ...] = ()) -> Decision:
    """Follow the tree with the findings at hand; a question no experiment has answered stays open."""
    by_metric = {f.criterion.experiment + "/" + f.criterion.metric.split(" ")[0]: f for f in findings}
    predictable = next((f for f in findings if f.criterion.experiment == "predictability"), None)
    stability = by_metric.get("factorisation/state_error_difference")
    path = [_turn_predictable(predictable), _turn_stability(stability)]
    return Decision(
        headline=_headline(predictable, findings),
        advice=_advice(path),
        path=tuple(path),
        findings=tuple(findings),
        priors=tuple(_score(*item, findings) for item in PRIORS.items()),
        warnings=warnings,
    )


def _turn_predictable(finding: Finding | None) -> Turn:
    question = "Is there anything to predict beyond regression to the mean?"
    return _turn(question, finding, "predictability")


def _turn_stability(finding: Finding | None) -> Turn:
    question = "Does the factorised head make rollouts more stable than the mixture density?"
    return _turn(question, finding, "factorisation")


def _turn(question: str, finding: Finding | None, experiment: str) -> Turn:
    if finding is None:
        return Turn(question=question, answer="open", because=f"experiment {experiment} {NOT_RUN}")
    answers: dict[Verdict, str] = {"pass": "yes", "fail": "no", "unattainable": "no", "undecided": "open"}
    return Turn.model_validate({"question": question, "answer": answers[finding.verdict], "because": finding.words})


def _headline(predictable: Finding | None, findings: list[Finding]) -> str:
    first = {
        None: "Predictability was not measured.",
        "pass": "The next increment is predictable beyond regression to the mean.",
        "fail": "Nothing is predictable here beyond regression to the mean.",
        "undecided": "Whether anything is predictable beyond regression to the mean is undecided.",
        "unattainable": "Predictability is out of reach here.",
    }[predictable.verdict if predictable else None]
    gaps = [f for f in findings if f.criterion.experiment == "injection" and f.label]
    if not gaps:
        return first
    labels = {f.label for f in gaps}
    if len(labels) == 1:
        return f"{first} {GAPS.get(gaps[0].label, gaps[0].label)}"
    each = "; ".join(f"{f.measured.model.upper()}: {f.label}" for f in gaps)
    return f"{first} On their own states the models differ ({each})."


def _advice(path: list[Turn]) -> str:
    predictable, stable = (turn.answer for turn in path)
    if predictable == "no":
        return (
            "Do not train a generator on these increments yet: change the representation (another tap, frame "
            "rate or codec) first."
        )
    if stable == "yes":
        return "Keep the factorised head. Next question of the tree: do direction archetypes exist?"
    if stable == "no":
        return (
            "The factorised head does not bring stability as it stands. Next: set model.concentration=coupled and "
            "model.magnitude_components=2; if that does not help either, compare representations."
        )
    if path[1].because.endswith("no stability."):
        return (
            "State error cannot compare the heads, because one of them stands still. Train on sampled states, or judge "
            "rollouts by whether they are still speech: listen to them below."
        )
    if any(turn.because.endswith(NOT_RUN) for turn in path):
        return "The tree asks for experiments that were not run: run `engram run` with all of them."
    if any("(no interval)" in turn.because for turn in path):
        return f"Too few held-out speakers for a verdict: {MIN_SPEAKERS} are the least."
    return "The interval straddles the threshold: add speakers until it does not, then read the tree again."


def _score(hypothesis: str, prior: tuple[float, str, str], findings: list[Finding]) -> Prior:
    probability, experiment, metric = prior
    finding = next((f for f in findings if f.criterion.experiment == experiment and f.criterion.metric == metric), None)
    decided = finding is not None and finding.verdict != "undecided"
    outcome = finding.verdict == "pass" if finding is not None and decided else None
    brier = None if outcome is None else (probability - outcome) ** 2
    return Prior(hypothesis=hypothesis, probability=probability, outcome=outcome, brier=brier)
