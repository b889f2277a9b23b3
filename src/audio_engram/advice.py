"""What the findings say in a line, and what to do about it, in plain words."""

from audio_engram import numbers
from audio_engram.decision import ANSWERS, MIN_SPEAKERS, Answer, Cause, Finding
from audio_engram.measurements import Measurement
from audio_engram.spoken import spoken
from audio_engram.tree import FIRST, SECOND, TREE, Step

SPOKEN: dict[Answer, str] = {"yes": "Yes.", "no": "No.", "open": "Undecided."}
ANSWERED: dict[str, dict[Answer, str]] = {
    "representation": {
        "yes": "Another representation tells more than twice as much in the order of its frames.",
        "no": "No other representation of this frame rate tells twice as much in the order of its frames.",
        "open": "Whether another representation of this frame rate tells twice as much in the order of its frames is "
        "undecided.",
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
    "stability": {
        "yes": "Sampled rollouts stay like speech at no loss of likelihood.",
        "no": "No training keeps sampled rollouts like speech at no loss of likelihood.",
        "open": "Whether sampled rollouts stay like speech at no loss of likelihood is undecided.",
    },
    "memory": {
        "yes": "A memory of directions gains more than its placebos.",
        "no": "A memory of directions gains no more than its placebos.",
        "open": "Whether a memory of directions gains more than its placebos is undecided.",
    },
    "correction": {
        "yes": "A learned score brings rollouts nearer to speech and to the truth.",
        "no": "A learned score does not bring rollouts nearer to both speech and the truth.",
        "open": "Whether a learned score brings rollouts nearer to speech and to the truth is undecided.",
    },
    "sampling": {
        "yes": "Training on drawn states keeps the magnitude at no loss.",
        "no": "Training on drawn states does not keep the magnitude without a loss.",
        "open": "Whether training on drawn states keeps the magnitude at no loss is undecided.",
    },
    "two_stage": {
        "yes": "Magnitudes can be filled in after all directions.",
        "no": "Magnitudes cannot be filled in after all directions.",
        "open": "Whether magnitudes can be filled in after all directions is undecided.",
    },
}
WHY_THEY_DIFFER = (
    "Contexts foretell them to a network that reads every frame of a context; clusters only tell roughly where it lies."
)
MOST_ANSWERS = 2  # in a headline
NOT_ASKED = (
    "The decision tree begins with the experiments predictability and factorisation, which this run did not measure."
)
LOST = ("one-step-catastrophic", "recoverable drift", "drift")
PREDICTABLE = {
    "pass": "The next increment is predictable beyond regression to the mean.",
    "fail": "Nothing is predictable here beyond regression to the mean.",
    "undecided": "Whether anything is predictable beyond regression to the mean is undecided.",
    "unattainable": "Predictability is out of reach here.",
}
GAPS = {
    "robust": "Free-running models keep most of it.",
    "no advantage": "Models have no advantage to lose in a rollout.",
    "one-step-catastrophic": "Free-running models lose it at the first step on their own states.",
    "recoverable drift": "Free-running models drift, and one true frame brings them back.",
    "undecided": "Whether free-running models keep it is undecided.",
    "drift": "Free-running models drift, and one true frame does not bring them back.",
}
SAYS: dict[tuple[str, Answer], str] = {
    (FIRST, "no"): "Do not train a generator on these increments yet: change the representation (another tap, frame "
    "rate or codec) first.",
    (SECOND, "yes"): "Keep the factorised head.",
    (SECOND, "no"): "The factorised head does not bring stability as it stands.",
    ("coupled", "yes"): "Use it with model.concentration=coupled and model.magnitude_components=2.",
    ("coupled", "no"): "Nor does it with κ(m) and a mixture of log-normals: keep the mixture density.",
    ("archetypes", "yes"): "Reusable directions exist.",
    ("archetypes", "no"): "There are no directions to look up: leave a memory out.",
    ("memory", "yes"): "A memory of them is worth its parameters.",
    ("memory", "no"): "A memory of them gains nothing over its placebos: leave it out.",
    ("correction", "yes"): "Correct rollouts by a score: it brings them nearer to speech and to the truth.",
    ("correction", "no"): "Score correction does not bring rollouts nearer to both speech and the truth.",
    ("smoothing", "yes"): "Smooth the latents before you model them.",
    ("smoothing", "no"): "Smoothing does not help.",
    ("sampling", "yes"): "Train on drawn states: it keeps the magnitude.",
    ("sampling", "no"): "Training on drawn states does not keep the magnitude without a loss.",
    ("representation", "yes"): "Model another representation: the order of its frames tells more than twice as much.",
    ("representation", "no"): "No other representation of this frame rate that was tried makes a twofold difference.",
    ("speech", "yes"): "Sampled rollouts stay like speech with this training: {}.",
    ("speech", "no"): "With no training that was tried do sampled rollouts stay like speech at no loss of "
    "likelihood; {} meets the most conditions.",
    ("speech", "open"): "Whether sampled rollouts stay like speech is open; {} meets the most conditions.",
}
WITH_FIGURE = ("memory", "correction", "sampling", "speech")
DECIDED_BY = {
    "frechet_latents_ratio": "distance to real stretches, over that among these:",
    "frechet_latents_times": "distance to real stretches, over that without:",
    "state_error_difference": "change of the state error:",
    "corrector_broken_share": "rollouts that it breaks:",
    "finite_share": "rollouts that stay finite:",
    "magnitude_ratio": "length of increments, over the true one:",
    "magnitude_p50_ratio": "length of increments, over the real one:",
    "delta_nll_difference": "change of the NLL, nats a frame:",
    "excess_share": "share of the best teacher-forced excess:",
}
"""The metrics that decide on rollouts, in plain words."""
CLOSES: dict[Cause, str] = {
    "too few speakers": f"Too few held-out speakers for a verdict: {MIN_SPEAKERS} are the least.",
    "ratio to nothing": "In the run's own representation the order of frames may tell nothing, and a ratio to nothing "
    "has no interval: compare what each representation tells in nats a second.",
    "nothing beside": "No other representation at the run's own frame rate was measured: name one "
    "(experiments.representations).",
    "none chosen": "Too few validation speakers have utterances long enough to choose a corrector by: add speakers.",
}
WHOLE = {"finite_share": 1.0, "first_nonfinite_step": 0.0}  # of rollouts that stay finite
NOT_FINITE = (
    "Some predictions or rollouts left the finite numbers and have no interval: train longer or at a lower learning "
    "rate."
)
NO_INTERVAL = "What would decide has no interval, and nothing can be judged by it."


def headline(findings: list[Finding]) -> str:
    """What was found first on the tree; without predictability, the answers to what was asked instead."""
    predictable = next((f for f in findings if f.criterion.experiment == "predictability"), None)
    if predictable is None:
        asked = list(dict.fromkeys(f.criterion.experiment for f in findings))
        answers = [_answered([f for f in findings if f.criterion.experiment == name]) for name in asked[:MOST_ANSWERS]]
        return " ".join([*answers, *_why_they_differ(findings)]) or "No criterion was judged."
    first = PREDICTABLE[predictable.verdict]
    gaps = _gaps(findings)
    if not gaps:
        return first
    if len({f.label for f in gaps}) == 1:
        return f"{first} {GAPS.get(gaps[0].label, gaps[0].label)}"
    return f"{first} On their own states the models differ ({_labels(gaps)})."


def _gaps(findings: list[Finding]) -> list[Finding]:
    return [f for f in findings if f.criterion.experiment == "injection" and f.label]


def _beside_regression(gaps: list[Finding]) -> list[str]:
    """Whether AR(1) loses as much, as far as the intervals tell."""
    found: dict[str, list[str]] = {}
    for gap in gaps:
        if gap.label in LOST and (how := _against(gap.measured, gap.reference)):
            found.setdefault(how, []).append(spoken(gap.measured.model))
    told = [f"{how} {' and '.join(models)}" for how, models in found.items()]
    return [f"Regression to the mean alone (AR(1)) loses {' and '.join(told)}."] if told else []


def _against(kept: Measurement, trivial: Measurement | None) -> str:
    """What AR(1) loses against a model, by the shares that both keep; nothing where there are no intervals."""
    if trivial is None or kept.low is None or kept.high is None or trivial.low is None or trivial.high is None:
        return ""
    if kept.high < trivial.low:
        return "less than"
    return "more than" if trivial.high < kept.low else "as much as"


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
    return "; ".join(f"{spoken(f.measured.model)}: {f.label or f.verdict}" for f in findings)


def advice(path: list[Step], findings: list[Finding]) -> str:
    """What to hold losses against, what the path comes to, question by question, and what to ask next."""
    return " ".join([*_beside_regression(_gaps(findings)), _of_path(path, findings)])


def _of_path(path: list[Step], findings: list[Finding]) -> str:
    """Without a path what was found comes to."""
    if not path:
        found = [Step(name, node.finding(findings)) for name, node in TREE.items()]
        return " ".join([*_come_to(found, findings), NOT_ASKED])
    missing = [step.node.experiment for step in path if step.finding is None and step.name in (FIRST, SECOND)]
    if missing:
        return f"The tree needs the experiment {missing[0]} as well, which this run did not measure."
    said = _come_to(path, findings)
    last = path[-1]
    if last.finding is None and not last.left_out:
        said.append(f"Next: {last.node.question} (--experiments {last.node.experiment})")
    return " ".join(said)


def _come_to(steps: list[Step], findings: list[Finding]) -> list[str]:
    """What the answers come to, and what would close the questions that are open."""
    said = [_said(step, step.finding) for step in steps if step.finding is not None]
    still_open = {step.name: step.finding for step in steps if step.finding and step.answer == "open"}
    return [*filter(None, said), *_while_open(still_open, findings)]


def _said(step: Step, finding: Finding) -> str:
    """What an answer comes to; of those on rollouts with the figure that decided, and what would have passed."""
    sentence = SAYS.get((step.name, step.answer), "").format(finding.words.partition(":")[0])
    if not sentence or step.name not in WITH_FIGURE:
        return sentence
    m = finding.measured
    figure = f"{DECIDED_BY.get(m.metric, m.metric)} {numbers.interval(m.value, m.low, m.high)}"
    said = f"{sentence.removesuffix('.')} ({figure}; {finding.criterion.bar})."
    return " ".join(filter(None, [said, finding.caution]))


def _while_open(found: dict[str, Finding], findings: list[Finding]) -> list[str]:
    """What would close the questions that are open."""
    causes = {one.cause for one in found.values()}
    of_heads = [found[name].cause for name in (SECOND, "coupled") if name in found]
    said = []
    if "frozen" in of_heads:
        said.append(
            "State error cannot compare the heads, because one of them stands still. Judge rollouts by whether they "
            f"are still speech: the report has them to listen to. {_drawn_states(findings)}"
        )
    said += [sentence for cause, sentence in CLOSES.items() if cause in causes]
    without = [one for one in found.values() if one.cause == "no interval"]
    if without:
        said.append(NOT_FINITE if any(map(_not_finite, without)) else NO_INTERVAL)
    if found and not said:
        said.append("The interval straddles the threshold: add speakers until it does not.")
    return said


def _not_finite(finding: Finding) -> bool:
    """Whether a record of the finding shows that something left the finite numbers."""
    records = [finding.measured, *(one.measured for one in finding.conditions)]
    # What has no frames was not measured.
    return any(WHOLE.get(m.metric, m.value) != m.value or (m.value is None and m.n_frames > 0) for m in records)


def _drawn_states(findings: list[Finding]) -> str:
    """What this run found of training on drawn states, which might move a head that stands still; or that it was not
    asked."""
    tried = [f for f in findings if f.criterion.experiment == "sampling"]
    if tried:
        return _answered(tried)
    return "Whether training on drawn states would keep it moving was not tested (--experiments sampling)."
