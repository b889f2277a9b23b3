"""Verdicts on intervals, and the path through the tree."""

import json
from typing import get_args

import pytest

from audio_engram.advice import ANSWERED, SAYS
from audio_engram.decide import ARRAYS, PRIORS, SYNTHETIC, decide
from audio_engram.decision import Cause, Condition, Criterion, Decision, Finding
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement


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
    assert decision.path[0].answer == answer
    assert decision.path[0].because == f"predictability says {verdict}"
    if answer == "yes":
        assert [turn.answer for turn in decision.path] == ["yes", "yes", "open"]
        assert decision.path[1].because == f"factorisation says {verdict}"


@pytest.mark.parametrize(
    ("predictable", "stable", "advice"),
    [
        ("fail", "pass", "change the representation"),
        ("pass", "pass", "Keep the factorised head"),
        ("pass", "fail", "does not bring stability as it stands"),
        ("pass", "undecided", "add speakers"),
        ("undecided", "pass", "add speakers"),
    ],
)
def test_the_advice_follows_the_path(predictable, stable, advice):
    assert advice in decide([predictability(predictable), stability(stable)]).advice


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("frozen", "one of them stands still"),
        ("too few speakers", "6 are the least"),
        ("no interval", "What would decide has no interval"),
        ("ratio to nothing", "a ratio to nothing has no interval"),
        ("nothing beside", "No other representation"),
        ("straddles", "add speakers until"),
    ],
)
def test_the_advice_follows_what_left_the_stability_undecided(cause, advice):
    assert advice in decide([predictability("pass"), stability("undecided", cause)]).advice


def of(metric, value, n_frames=9):
    return measured(None, None).model_copy(update={"metric": metric, "value": value, "n_frames": n_frames})


@pytest.mark.parametrize("where", ["measured", "conditions"])
@pytest.mark.parametrize(
    ("record", "left"),
    [
        (of("state_error_difference", None), True),
        (of("distortion_ratio", None, n_frames=0), False),  # was not measured
        (of("dynamics_ratio", 1.4), False),
        (of("finite_share", 0.9), True),
        (of("finite_share", 1.0), False),
        (of("first_nonfinite_step", 3.0), True),
        (of("first_nonfinite_step", 0.0), False),
    ],
)
def test_what_left_the_finite_numbers_must_stand_in_a_record(where, record, left):
    known = {"measured": of("dynamics_ratio", 1.4)}
    known[where] = record if where == "measured" else (Condition(criterion=criterion(), measured=record),)
    found = stability("undecided", "no interval").model_copy(update=known)
    assert ("left the finite numbers" in decide([predictability("pass"), found]).advice) == left


@pytest.mark.parametrize(
    ("cause", "record", "said", "why"),
    [
        ("ratio to nothing", of("dynamics_ratio", 1.4), "compare what each representation tells", "may tell nothing"),
        ("nothing beside", of("dynamics_ratio", None, 0), "name one", "at the run's frame rate was measured"),
        ("no interval", of("dynamics_ratio", 1.4), "has no interval", "there is no interval"),  # from older runs
    ],
)
def test_an_open_representation_is_advised_on_by_its_own_cause(cause, record, said, why):
    found = finding("representation", "dynamics_ratio", "undecided", cause=cause)
    decision = decide([predictability("fail"), found.model_copy(update={"measured": record})])
    assert said in decision.advice
    assert not [wrong for wrong in ("finite numbers", "speakers", "straddles") if wrong in decision.advice]
    (prior,) = (p for p in decision.priors if "representation" in p.hypothesis)
    assert prior.why.startswith("undecided: ")
    assert prior.why.endswith(why)


def test_a_predictability_of_too_few_speakers_is_advised_on_as_well():
    few = finding("predictability", "delta_nll_excess", "undecided", cause="too few speakers")
    assert "6 are the least" in decide([few, stability("undecided", "straddles")]).advice


@pytest.mark.parametrize(
    ("found", "missing"), [(predictability("pass"), "factorisation"), (stability("undecided"), "predictability")]
)
def test_advice_names_what_half_a_path_lacks(found, missing):
    decision = decide([found])
    assert f"needs the experiment {missing} as well" in decision.advice
    assert [turn.answer for turn in decision.path].count("open") >= 1
    assert any(f"{missing} was not run" in turn.because for turn in decision.path)


def test_a_tree_that_was_not_asked_is_a_note():
    for decision in (decide([]), decide([representation("fail")])):
        assert decision.path == ()
        assert decision.advice.endswith("which this run did not measure.")
    assert decision.advice.startswith("No other representation of this frame rate that was tried")
    assert decide([]).advice.startswith("The decision tree begins with")
    assert decide([]).headline == "No criterion was judged."


def representation(verdict):
    return finding("representation", "dynamics_ratio", verdict)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("fail", "undecided", "pass"), "Smoothing can make"),
        (("fail", "undecided"), "is undecided."),
        (("fail", "fail"), "No smoothing makes"),
    ],
)
def test_without_predictability_the_headline_is_what_was_found(verdicts, said):
    several = [finding("smoothing", "cosine_gain", verdict) for verdict in verdicts]
    headline = decide([representation("fail"), *several]).headline
    assert headline.startswith("No other representation of this frame rate tells twice as much")
    assert headline.endswith(".")
    assert said in headline


def test_a_headline_answers_at_most_two_questions_also_of_experiments_it_does_not_know():
    unknown = finding("unheard_of", "reuse", "undecided")
    assert decide([unknown]).headline == "? Undecided."
    assert decide([representation("pass"), finding("structure", "v", "fail"), unknown]).headline == (
        "Another representation tells more than twice as much in the order of its frames. "
        "Coarse clusters of contexts do not explain the next increment."
    )
    gaps = [finding("injection", "advantage_kept", "fail", "drift", model) for model in ("mdn", "vmf")]
    assert decide(gaps).headline == "? MDN: drift; vMF × log-normal: drift."


def test_every_experiment_that_is_asked_for_by_itself_has_its_sentences():
    of_the_first_questions = {"predictability", "magnitude", "factorisation", "injection"}
    assert set(ANSWERED) == set(EXPERIMENTS) - of_the_first_questions
    assert all(set(said) == {"yes", "no", "open"} for said in ANSWERED.values())


def test_no_advice_has_marks_of_code():
    advices = [decide([predictability(p), stability("undecided", c)]).advice for p in VERDICTS for c in get_args(Cause)]
    advices += [decide([f]).advice for f in (predictability("pass"), stability("pass"), representation("pass"))]
    assert all("`" not in advice and "below" not in advice for advice in advices)


VERDICTS = ("pass", "fail", "undecided", "unattainable")
CAUSES = ("frozen", "too few speakers", "too few frames", "no interval", "straddles")
"""Those of files that were written before there were others."""


def test_every_cause_is_written_and_read_again(tmp_path):
    assert set(CAUSES) < set(get_args(Cause))
    for cause in get_args(Cause):
        decision = decide([stability("undecided", cause)])
        decision.write(tmp_path / "decision.json")
        assert Decision.read(tmp_path / "decision.json") == decision


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


def gap(model, label="one-step-catastrophic", low=-0.8, high=-0.3, reference=(-0.4, -0.1)):
    """A share of the advantage kept, beside that of AR(1)."""
    of = measured(low, high, model=model)
    beside = {"label": label, "measured": of, "reference": reference and measured(*reference, model="ar1")}
    return finding("injection", "advantage_kept", "fail", model=model).model_copy(update=beside)


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([gap("mdn"), gap("vmf")], "loses as much as MDN and vMF × log-normal."),
        ([gap("mdn"), gap("vmf", low=-2, high=-1)], "loses as much as MDN and less than vMF × log-normal."),
        ([gap("mdn", "drift", 0.1, 0.3)], "loses more than MDN."),
        ([gap("mdn", low=None, high=None)], ""),
        ([gap("mdn", reference=None)], ""),
        ([gap("mdn", reference=(None, None))], ""),
        ([gap("mdn", "robust", 0.6, 0.7)], ""),
    ],
)
def test_a_loss_stands_beside_that_of_regression_to_the_mean(gaps, said):
    text = decide([predictability("pass"), *gaps]).advice
    assert text.startswith(f"Regression to the mean alone (AR(1)) {said} " if said else "The tree needs")
    assert ("AR(1)" in text) == bool(said)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("", "was not tested (--experiments sampling)"),
        ("pass", "Training on drawn states keeps the magnitude at no loss."),
        ("fail", "Training on drawn states does not keep the magnitude"),
    ],
)
def test_no_remedy_is_advised_that_the_run_has_refuted_or_not_tried(verdict, said):
    tried = [finding("sampling", "magnitude_ratio", verdict)] if verdict else []
    advice = decide([predictability("pass"), stability("undecided", "frozen"), *tried]).advice
    assert said in advice
    assert "Train on" not in advice


def test_a_headline_says_why_clusters_of_contexts_fail_where_archetypes_pass():
    text = decide([finding("structure", "variance_ratio", "fail"), finding("archetypes", "tightness", "pass")]).headline
    assert text.startswith("Coarse clusters of contexts do not explain")
    assert "to a network that reads every frame of a context; clusters only tell roughly where it lies." in text
    for verdicts in (("fail", "fail"), ("pass", "pass"), ("undecided", "pass")):
        asked = zip(("structure", "archetypes"), ("variance_ratio", "tightness"), verdicts, strict=True)
        assert "network" not in decide([finding(*one) for one in asked]).headline


@pytest.mark.parametrize(
    ("verdict", "outcome", "brier"), [("pass", True, 0.16), ("fail", False, 0.36), ("undecided", None, None)]
)
def test_priors_are_scored_against_outcomes(verdict, outcome, brier):
    priors = decide([finding("factorisation", "direction_cosine", verdict)]).priors
    assert len(priors) == len(PRIORS)
    assert priors[0].outcome == outcome
    assert priors[0].brier == (None if brier is None else pytest.approx(brier))
    assert all(p.outcome is None and p.brier is None for p in priors[1:])
    assert bool(priors[0].why) == (verdict == "undecided")
    assert priors[2].why == "not tested: the experiment memory was not run"


def test_a_prior_without_a_score_says_why():
    found = [finding("memory", "delta_nll_difference", "undecided", cause="straddles")]
    found += [finding("factorisation", "state_error_difference", "pass")]
    found += [finding("archetypes", "tightness", "undecided", cause="too few speakers")]
    priors = {p.hypothesis: p for p in decide(found, left_out={"representation": "latents have no codec"}).priors}
    assert [p.why for p in priors.values()] == [
        "not tested: the experiment factorisation did not judge it",
        "undecided: too few speakers",
        "undecided: the interval straddles the threshold",
        "not tested: the experiment correction was not run",
        "not tested: the experiment representation cannot be measured here: latents have no codec",
    ]
    assert all(p.outcome is None and p.brier is None for p in priors.values())


@pytest.mark.parametrize("name", ["memory", "correction"])
@pytest.mark.parametrize(
    ("verdict", "said"),
    [("pass", ""), ("fail", "nothing over its placebos: leave it out (|does not bring rollouts nearer to both speech")],
)
def test_advice_on_rollouts_has_the_figure_the_bar_and_no_half_truth(name, verdict, said):
    metric = {"memory": "delta_nll_difference", "correction": "frechet_latents_times"}[name]
    of = criterion("below", -0.25, name, metric)
    m = measured(-0.26, -0.1).model_copy(update={"experiment": name, "metric": metric})
    last = Finding(criterion=of, measured=m, verdict=verdict, words="It: so.", would_change="-")
    rest = [finding("archetypes", "tightness", "pass"), *([finding("memory", "x", "fail")] if name != "memory" else [])]
    advice = decide([predictability("pass"), stability("pass"), *rest, last]).advice
    assert "−0.180 [−0.260, −0.100]; below −0.25 passes)." in advice
    assert {"memory": "change of the NLL, nats", "correction": "real stretches, over that without"}[name] in advice
    assert not said or any(part in advice for part in said.split("|"))
    assert "nearer to speech." not in advice


def test_advice_on_correction_claims_both_conditions():
    assert "speech and to the truth" in SAYS["correction", "yes"]
    assert "both speech and the truth" in SAYS["correction", "no"]


def test_written_and_read_again(tmp_path):
    decision = decide([predictability("pass"), stability("fail")], ("a warning",))
    decision.write(tmp_path / "decision.json")
    assert Decision.read(tmp_path / "decision.json") == decision
    text = str(decision)
    for piece in (decision.headline, decision.advice, "Warning: a warning", "predictability says pass"):
        assert piece in text


def test_what_is_synthetic_scores_no_hypothesis():
    found = [representation("pass")]
    (scored,) = (p for p in decide(found).priors if p.outcome is not None)
    assert scored.brier == pytest.approx(0.35**2)
    for reason in (SYNTHETIC, ARRAYS):
        priors = decide(found, no_speech=reason).priors
        assert all((p.outcome, p.brier, p.why) == (None, None, reason) for p in priors)


def test_a_decision_of_before_priors_had_reasons_is_read(tmp_path):
    decision = decide([representation("pass")])
    old = json.loads(decision.model_dump_json())
    for prior in old["priors"]:
        del prior["why"]
    (tmp_path / "decision.json").write_text(json.dumps(old))
    assert [p.outcome for p in Decision.read(tmp_path / "decision.json").priors] == [p.outcome for p in decision.priors]
