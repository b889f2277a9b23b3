"""Verdicts on intervals, and the path through the tree."""

import pytest

from audio_engram.decision import Criterion, Decision, Finding
from audio_engram.measurements import Measurement
from audio_engram.tree import PRIORS, decide


def criterion(relation="above", threshold=0.6, experiment="factorisation", metric="direction_cosine"):
    return Criterion(
        experiment=experiment, question="?", metric=metric, relation=relation, threshold=threshold, reason="."
    )


def measured(low, high, n_speakers=10, model="vmf"):
    value = None if low is None or high is None else (low + high) / 2
    return Measurement(
        experiment="factorisation",
        model=model,
        metric="direction_cosine",
        value=value,
        low=low,
        high=high,
        n_speakers=n_speakers,
    )


@pytest.mark.parametrize(
    ("relation", "low", "high", "verdict"),
    [
        ("above", 0.61, 0.7, "pass"),
        ("above", 0.5, 0.59, "fail"),
        ("above", 0.5, 0.6, "fail"),
        ("above", 0.6, 0.7, "undecided"),
        ("above", 0.5, 0.7, "undecided"),
        ("below", 0.5, 0.59, "pass"),
        ("below", 0.61, 0.7, "fail"),
        ("below", 0.6, 0.7, "fail"),
        ("below", 0.5, 0.6, "undecided"),
        ("below", 0.5, 0.7, "undecided"),
        ("above", None, None, "undecided"),
        ("below", None, None, "undecided"),
    ],
)
def test_the_whole_interval_decides(relation, low, high, verdict):
    assert criterion(relation).judge(measured(low, high)) == verdict


@pytest.mark.parametrize(("n_speakers", "verdict"), [(1, "undecided"), (5, "undecided"), (6, "pass")])
def test_few_speakers_decide_nothing(n_speakers, verdict):
    assert criterion().judge(measured(0.7, 0.8, n_speakers)) == verdict


@pytest.mark.parametrize(
    ("ceiling", "low", "high", "verdict"),
    [
        (measured(0.3, 0.5), 0.0, 0.1, "unattainable"),
        (measured(0.3, 0.5), None, None, "unattainable"),
        (measured(0.3, 0.6), 0.0, 0.1, "fail"),
        (measured(0.3, 0.7), 0.0, 0.1, "fail"),
        (measured(0.7, 0.8), 0.65, 0.7, "pass"),
        (measured(None, None), 0.0, 0.1, "fail"),
        (None, 0.0, 0.1, "fail"),
    ],
)
def test_what_nobody_can_reach_is_not_failed(ceiling, low, high, verdict):
    assert criterion().judge(measured(low, high), ceiling) == verdict


@pytest.mark.parametrize(
    ("low", "high", "n_speakers", "cause"),
    [
        (0.61, 0.7, 10, ""),
        (0.5, 0.6, 10, ""),
        (0.5, 0.7, 10, "straddles"),
        (None, None, 10, "no interval"),
        (0.7, 0.8, 5, "too few speakers"),
        (None, None, 1, "too few speakers"),
    ],
)
def test_an_undecided_verdict_has_its_cause(low, high, n_speakers, cause):
    assert criterion().cause(measured(low, high, n_speakers)) == cause
    assert criterion().cause(measured(low, high, n_speakers), ceiling=measured(0.3, 0.5)) == ""


def finding(experiment, metric, verdict, label="", model="vmf", cause=""):
    return Finding(
        criterion=criterion(experiment=experiment, metric=metric),
        measured=measured(0.1, 0.2, model=model),
        verdict=verdict,
        cause=cause,
        label=label,
        words=f"{experiment} says {verdict}",
        would_change="-",
    )


def predictability(verdict):
    return finding("predictability", "delta_nll_excess", verdict)


def stability(verdict, cause=""):
    return finding("factorisation", "state_error_difference", verdict, cause=cause)


@pytest.mark.parametrize(
    ("verdict", "answer"), [("pass", "yes"), ("fail", "no"), ("unattainable", "no"), ("undecided", "open")]
)
def test_answers_follow_verdicts(verdict, answer):
    decision = decide([predictability(verdict), stability(verdict)])
    assert [turn.answer for turn in decision.path] == [answer, answer]
    assert decision.path[0].because == f"predictability says {verdict}"
    assert decision.path[1].because == f"factorisation says {verdict}"


@pytest.mark.parametrize(
    ("predictable", "stable", "advice"),
    [
        ("fail", "pass", "change the representation"),
        ("pass", "pass", "Keep the factorised head"),
        ("pass", "fail", "model.concentration=coupled"),
        ("pass", "undecided", "add speakers"),
        ("undecided", "pass", "Keep the factorised head"),
    ],
)
def test_the_advice_follows_the_path(predictable, stable, advice):
    assert advice in decide([predictability(predictable), stability(stable)]).advice


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("frozen", "one of them stands still"),
        ("too few speakers", "6 are the least"),
        ("no interval", "left the finite numbers"),
        ("straddles", "add speakers until"),
    ],
)
def test_the_advice_follows_what_left_the_stability_undecided(cause, advice):
    assert advice in decide([predictability("pass"), stability("undecided", cause)]).advice


def test_a_predictability_of_too_few_speakers_is_advised_on_as_well():
    few = finding("predictability", "delta_nll_excess", "undecided", cause="too few speakers")
    assert "6 are the least" in decide([few, stability("undecided", "straddles")]).advice


def test_advice_asks_for_experiments_that_were_not_run():
    assert "not run" in decide([]).advice
    assert "not run" in decide([predictability("pass")]).advice


def test_a_question_not_asked_stays_open():
    decision = decide([])
    assert [turn.answer for turn in decision.path] == ["open", "open"]
    assert "predictability was not run" in decision.path[0].because
    assert decision.headline == "Predictability was not measured."
    assert decide([predictability("pass")]).path[1].answer == "open"


def test_advice_does_not_speak_of_intervals_that_were_not_measured():
    assert "interval" not in decide([predictability("pass")]).advice
    assert "interval" not in decide([]).advice


def test_headlines():
    same = [finding("injection", "advantage_kept", "fail", "drift", model) for model in ("mdn", "vmf")]
    text = decide([predictability("pass"), *same]).headline
    assert text.startswith("The next increment is predictable beyond regression to the mean.")
    assert text.count("drift") == 1
    unlike = [same[0], finding("injection", "advantage_kept", "pass", "robust")]
    text = decide([predictability("fail"), *unlike]).headline
    assert text.startswith("Nothing is predictable")
    assert "drift" in text
    assert "robust" in text


@pytest.mark.parametrize(
    ("verdict", "outcome", "brier"), [("pass", True, 0.16), ("fail", False, 0.36), ("undecided", None, None)]
)
def test_priors_are_scored_against_outcomes(verdict, outcome, brier):
    priors = decide([finding("factorisation", "direction_cosine", verdict)]).priors
    assert len(priors) == len(PRIORS)
    assert priors[0].outcome == outcome
    assert priors[0].brier == (None if brier is None else pytest.approx(brier))
    assert all(p.outcome is None and p.brier is None for p in priors[1:])


def test_written_and_read_again(tmp_path):
    decision = decide([predictability("pass"), stability("fail")], ("a warning",))
    decision.write(tmp_path / "decision.json")
    assert Decision.read(tmp_path / "decision.json") == decision
    text = str(decision)
    for piece in (decision.headline, decision.advice, "Warning: a warning", "predictability says pass"):
        assert piece in text
