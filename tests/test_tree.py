"""The tree: every path ends, nothing is asked twice, and what is not shown counts as no."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.decide import PRIORS, decide
from audio_engram.decision import Criterion, Finding
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement
from audio_engram.tree import BEGINNING, FIRST, TREE, walk, wanted

VERDICTS = ("pass", "fail", "undecided", "unattainable")


def found(name, verdict):
    """What answers a node."""
    node = TREE[name]
    metric = node.metric or "value"
    criterion = Criterion(
        experiment=node.experiment, question="?", metric=metric, relation="above", threshold=0.0, reason="."
    )
    measured = Measurement(experiment=node.experiment, model=node.model or "mdn", metric=metric, value=0.0)
    cause = "straddles" if verdict == "undecided" else ""
    words = f"{name}: {verdict}"
    return Finding(criterion=criterion, measured=measured, verdict=verdict, cause=cause, words=words, would_change="-")


def path(verdicts, left_out=()):
    findings = [found(name, verdict) for name, verdict in verdicts.items()]
    return [step.name for step in walk(findings, dict.fromkeys(left_out, "too short"))]


ALL_NO = dict.fromkeys(TREE, "fail")


@pytest.mark.parametrize(
    ("passing", "names"),
    [
        (("predictable", "factorised", "archetypes", "memory"), "predictable factorised archetypes memory speech"),
        (("predictable", "factorised", "archetypes", "correction"), "… memory correction speech"),
        (("predictable", "factorised", "archetypes"), "… memory correction smoothing speech"),
        (("predictable", "factorised"), "predictable factorised archetypes sampling speech"),
        (("predictable", "coupled"), "predictable factorised coupled archetypes sampling speech"),
        (("predictable",), "predictable factorised coupled representation speech"),
        ((), "predictable representation speech"),
    ],
)
def test_the_paths_of_the_method(passing, names):
    taken = path(ALL_NO | dict.fromkeys(passing, "pass"))
    tail = names.removeprefix("… ").split()
    assert taken[-len(tail) :] == tail
    assert names.startswith("…") or taken == tail


@given(st.fixed_dictionaries({name: st.sampled_from(VERDICTS) for name in TREE}))
def test_what_is_open_leads_where_no_leads(verdicts):
    closed = {name: "pass" if verdict == "pass" else "fail" for name, verdict in verdicts.items()}
    assert path(verdicts) == path(closed)
    assert path(verdicts)[-1] == "speech"


@given(st.fixed_dictionaries({name: st.sampled_from(VERDICTS) for name in TREE}), st.sets(st.sampled_from(list(TREE))))
def test_asking_one_after_another_ends_and_asks_nothing_twice(verdicts, impossible):
    impossible = {TREE[name].experiment for name in impossible} - set(BEGINNING)
    findings = [found(name, v) for name, v in verdicts.items() if TREE[name].experiment in BEGINNING]
    left_out, asked = {}, []
    while name := wanted(findings, left_out):
        assert name not in asked
        asked.append(name)
        if name in impossible:
            left_out[name] = "too short"
        else:
            findings += [found(one, v) for one, v in verdicts.items() if TREE[one].experiment == name]
    decision = decide(findings, left_out=left_out)
    assert [turn.question for turn in decision.path][-1] == TREE["speech"].question
    said = {turn.because for turn in decision.path}
    assert all(f"The experiment {name} cannot be measured here: too short" in said for name in left_out)


def test_the_path_stops_at_what_was_not_measured_and_the_advice_names_it():
    decision = decide([found("predictable", "pass"), found("factorised", "pass")])
    assert [turn.answer for turn in decision.path] == ["yes", "yes", "open"]
    assert decision.path[-1].because == "The experiment archetypes was not run."
    assert decision.advice.endswith("Next: Do reusable directions exist? (--experiments archetypes)")


def test_the_training_that_stays_like_speech_is_named():
    for verdict, words in (("pass", "stay like speech"), ("fail", "no training"), ("undecided", "is open")):
        speech = found("speech", verdict).model_copy(update={"words": "MDN, noise: 1.2 times as far."})
        advice = decide([found("predictable", "fail"), found("representation", "fail"), speech]).advice
        assert words in advice
        named = "MDN, noise" if verdict == "pass" else "MDN, noise meets the most conditions"
        assert f"{named} (value 0; above 0 passes)." in advice
        assert "1.2" not in advice


def test_of_several_answers_one_that_passes_is_enough():
    several = [found("correction", verdict) for verdict in ("fail", "pass", "undecided")]
    findings = [found(name, "pass") for name in ("predictable", "factorised", "archetypes")]
    steps = walk([*findings, found("memory", "fail"), *several], {})
    assert [step.answer for step in steps if step.name == "correction"] == ["yes"]


def test_every_question_is_one_of_an_experiment_and_every_branch_leads_somewhere():
    assert FIRST in TREE
    for node in TREE.values():
        assert node.experiment in EXPERIMENTS
        assert {node.yes, node.no} <= {*TREE, ""}
    assert {experiment for _, experiment, _ in PRIORS.values()} <= set(EXPERIMENTS)
