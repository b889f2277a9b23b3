"""The decision tree of docs/method.md, as far as the experiments at hand reach."""

from audio_engram.decision import MIN_SPEAKERS, Answer, Decision, Finding, Prior, Turn, Verdict

PRIORS = {
    "The factorised head keeps its direction in rollout": (0.60, "factorisation", "direction_cosine"),
    "Reusable direction archetypes exist": (0.50, "archetypes", ""),
    "Memory of prototypes helps": (0.25, "memory", ""),
    "Score correction helps rollouts": (0.30, "correction", ""),
    "The representation makes more than a twofold difference": (0.65, "representation", "dynamics_ratio"),
}

# In the order in which one of several speaks for all.
ANSWERS: dict[Verdict, Answer] = {"pass": "yes", "undecided": "open", "fail": "no", "unattainable": "no"}
SPOKEN: dict[Answer, str] = {"yes": "Yes.", "no": "No.", "open": "Undecided."}
ANSWERED: dict[str, dict[Answer, str]] = {
    "representation": {
        "yes": "Another representation tells more than twice as much in the order of its frames.",
        "no": "No other representation tells twice as much in the order of its frames.",
        "open": "Whether another representation tells twice as much in the order of its frames is undecided.",
    },
    "smoothing": {
        "yes": "Smoothing can make directions more predictable at little cost to the sound.",
        "no": "No smoothing makes directions more predictable at little cost to the sound.",
        "open": "Whether smoothing makes directions more predictable at little cost to the sound is undecided.",
    },
    "structure": {
        "yes": "Coarse clusters of contexts explain the next increment.",
        "no": "Coarse clusters of contexts do not explain the next increment.",
        "open": "Whether coarse clusters of contexts explain the next increment is undecided.",
    },
    "archetypes": {
        "yes": "Reusable directions exist, and contexts foretell them.",
        "no": "There are no reusable directions that contexts foretell.",
        "open": "Whether there are reusable directions that contexts foretell is undecided.",
    },
}
WHY_THEY_DIFFER = (
    "Contexts foretell them to a network that reads every frame of a context; clusters only tell roughly where it lies."
)
MOST_ANSWERS = 2  # in a headline
NOT_ASKED = (
    "The decision tree begins with the experiments predictability and factorisation, which this run did not measure."
)
PREDICTABLE = {
    "pass": "The next increment is predictable beyond regression to the mean.",
    "fail": "Nothing is predictable here beyond regression to the mean.",
    "undecided": "Whether anything is predictable beyond regression to the mean is undecided.",
    "unattainable": "Predictability is out of reach here.",
}
GAPS = {
    "robust": "Free-running models keep most of it.",
    "no advantage": "Models have no advantage to lose in a rollout.",
    "one-step-catastrophic": "Free-running models lose it at the first step on their own states, as regression to the "
    "mean alone would have it.",
    "recoverable drift": "Free-running models drift, and one true frame brings them back.",
    "undecided": "Whether free-running models keep it is undecided.",
    "drift": "Free-running models drift, and one true frame does not bring them back.",
}


def decide(findings: list[Finding], warnings: tuple[str, ...] = (), synthetic: bool = False) -> Decision:
    """Follow the tree with the findings at hand; a question no experiment has answered stays open.

    Hypotheses are of recorded speech: what is `synthetic` neither confirms nor refutes them.
    """
    by_metric = {f.criterion.experiment + "/" + f.criterion.metric: f for f in findings}
    predictable = next((f for f in findings if f.criterion.experiment == "predictability"), None)
    stability = by_metric.get("factorisation/state_error_difference")
    asked = predictable is not None or stability is not None
    return Decision(
        headline=_headline(predictable, findings),
        advice=_advice(predictable, stability) if asked else NOT_ASKED,
        path=(_turn_predictable(predictable), _turn_stability(stability)) if asked else (),
        findings=tuple(findings),
        priors=tuple(_score(*item, [] if synthetic else findings) for item in PRIORS.items()),
        warnings=warnings,
    )


def _turn_predictable(finding: Finding | None) -> Turn:
    question = "Is there anything to predict beyond regression to the mean?"
    return _turn(question, finding, "predictability")


def _turn_stability(finding: Finding | None) -> Turn:
    question = "Does the factorised head make rollouts more stable than the mixture density?"
    return _turn(question, finding, "factorisation")


def _turn(question: str, finding: Finding | None, experiment: str) -> Turn:
    because = finding.words if finding else f"The experiment {experiment} was not run."
    return Turn(question=question, answer=_answer(finding), because=because)


def _answer(finding: Finding | None) -> Answer:
    return ANSWERS[finding.verdict] if finding else "open"


def _headline(predictable: Finding | None, findings: list[Finding]) -> str:
    """What was found first on the tree; without predictability, the answers to what was asked instead."""
    if predictable is None:
        asked = list(dict.fromkeys(f.criterion.experiment for f in findings))
        answers = [_answered([f for f in findings if f.criterion.experiment == name]) for name in asked[:MOST_ANSWERS]]
        return " ".join([*answers, *_why_they_differ(findings)]) or "No criterion was judged."
    first = PREDICTABLE[predictable.verdict]
    gaps = [f for f in findings if f.criterion.experiment == "injection" and f.label]
    if not gaps:
        return first
    if len({f.label for f in gaps}) == 1:
        return f"{first} {GAPS.get(gaps[0].label, gaps[0].label)}"
    return f"{first} On their own states the models differ ({_labels(gaps)})."


def _why_they_differ(findings: list[Finding]) -> list[str]:
    """What two answers that seem to gainsay each other were asked of."""
    verdicts = {f.criterion.experiment: f.verdict for f in findings}
    return [WHY_THEY_DIFFER] * ((verdicts.get("structure"), verdicts.get("archetypes")) == ("fail", "pass"))


def _answered(findings: list[Finding]) -> str:
    """An experiment in a sentence; of several things judged alike, one that passes is enough."""
    of_first = [f for f in findings if f.criterion.question == findings[0].criterion.question]
    if any(f.label for f in of_first):
        return f"{findings[0].criterion.question} {_labels(of_first)}."
    verdict = min((f.verdict for f in of_first), key=list(ANSWERS).index)
    known = ANSWERED.get(findings[0].criterion.experiment, {})
    return known.get(ANSWERS[verdict]) or f"{findings[0].criterion.question} {SPOKEN[ANSWERS[verdict]]}"


def _labels(findings: list[Finding]) -> str:
    return "; ".join(f"{f.measured.model.upper()}: {f.label or f.verdict}" for f in findings)


def _advice(predictable: Finding | None, stability: Finding | None) -> str:
    if _answer(predictable) == "no":
        return (
            "Do not train a generator on these increments yet: change the representation (another tap, frame "
            "rate or codec) first."
        )
    stable = _answer(stability)
    if stable == "yes":
        return "Keep the factorised head. Next question of the tree: do direction archetypes exist?"
    if stable == "no":
        return (
            "The factorised head does not bring stability as it stands. Next: set model.concentration=coupled and "
            "model.magnitude_components=2; if that does not help either, compare representations."
        )
    return _advice_while_open(predictable, stability)


def _advice_while_open(predictable: Finding | None, stability: Finding | None) -> str:
    if stability is not None and stability.cause == "frozen":
        return (
            "State error cannot compare the heads, because one of them stands still. Train on sampled states, or judge "
            "rollouts by whether they are still speech: the report has them to listen to."
        )
    if predictable is None or stability is None:
        missing = "predictability" if predictable is None else "factorisation"
        return f"The tree needs the experiment {missing} as well, which this run did not measure."
    causes = {predictable.cause, stability.cause}
    if "too few speakers" in causes:
        return f"Too few held-out speakers for a verdict: {MIN_SPEAKERS} are the least."
    if "no interval" in causes:
        return "Some rollouts left the finite numbers and have no interval: train longer or at a lower learning rate."
    return "The interval straddles the threshold: add speakers until it does not, then read the tree again."


def _score(hypothesis: str, prior: tuple[float, str, str], findings: list[Finding]) -> Prior:
    probability, experiment, metric = prior
    finding = next(
        (f for f in findings if f.criterion.experiment == experiment and metric in ("", f.criterion.metric)), None
    )
    decided = finding is not None and finding.verdict != "undecided"
    outcome = finding.verdict == "pass" if finding is not None and decided else None
    brier = None if outcome is None else (probability - outcome) ** 2
    return Prior(hypothesis=hypothesis, probability=probability, outcome=outcome, brier=brier)
