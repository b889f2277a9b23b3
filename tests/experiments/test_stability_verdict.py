"""Which training is judged, and what is said of it, of the nearest, and of what is no rollout."""

import pytest

from audio_engram.decide import decide
from audio_engram.decision import Finding
from audio_engram.experiments.stability_verdict import CRITERION, Horizon, Judged, judge, recordings_diverge
from audio_engram.measurements import Measurement
from audio_engram.regimes import regime


def of_metric(model, metric, value, low=None, high=None, step=250):
    what = {"experiment": "stability", "model": model, "metric": metric, "step": step}
    return Measurement(**what, value=value, low=low, high=high, n_speakers=50, n_frames=24)


def judged(name, distance, share, finite=1.0):
    """What a regime came to: its distance, the share that it keeps of the best excess, and of finite rollouts."""
    found = {"frechet_latents_ratio": distance, "excess_share": share, "magnitude_p50_ratio": (1.0, 0.9, 1.1)}
    found |= {"survival": (0.4, 0.2, 0.6), "delta_nll_excess": (-5, -6, -4), "finite_share": (finite,)}
    return Judged(regime(name), [of_metric(name, metric, *values) for metric, values in found.items()], AT)


AT = Horizon(250, 12.5, "Judged are the 24 sampled rollouts.", dim=16)


def test_the_best_verdict_is_judged_before_the_nearest():
    open_one, near = judged("mdn", (1.4, 1.1, 1.9), (1, 1, 1.1)), judged("vmf", (1, 0.9, 1.1), (0.1, 0, 0.2))
    for order in ((open_one, near), (near, open_one)):
        finding = judge(AT, order, [])
        assert (finding.measured.model, finding.verdict) == ("mdn", "undecided")
    far = judged("mdn-tied", (1.3, 1.1, 1.9), (1, 1, 1.1))
    assert judge(AT, [open_one, far], []).measured.model == "mdn-tied"  # of two that are open the nearer
    fewer = judged("mdn-noise", (1.2, 1.1, 1.9), (1, 0.9, 1.1))
    assert judge(AT, [fewer, open_one], []).measured.model == "mdn"  # of these the one that meets more
    passes = judged("mdn-noise", (1.45, 1.41, 1.49), (1, 1, 1.1))
    assert judge(AT, [open_one, near, far, passes], []).verdict == "pass"


def test_the_finding_says_what_is_missed_and_what_the_nearer_training_misses():
    mine, near = judged("mdn", (1.4, 1.1, 1.9), (1, 1, 1.1)), judged("vmf", (1.2, 0.9, 1.8), (0.1, 0, 0.2))
    words = judge(AT, [mine, near], []).words
    assert words == (
        "MDN: in the stretch before 20 s 3 of 4 conditions hold; the distance to real stretches is 1.40 [1.10, 1.90] "
        "times that among these (below 1.5 passes). Nearest is vMF × log-normal (1.20 [0.90, 1.80]), but its "
        "teacher-forced excess is 0.100 [0.000, 0.200] times the best (above 0.95 passes)."
    )
    assert "Nearest" not in judge(AT, [mine], []).words
    passes = judge(AT, [judged("mdn", (1.2, 1.1, 1.3), (1, 1, 1.1))], []).words
    assert "all of 4 conditions hold; the distance to real stretches is 1.20" in passes


def test_what_is_left_of_rollouts_that_broke_is_not_the_nearest():
    broken = judged("vmf", (1.0, 0.9, 1.1), (1, 1, 1.1), finite=0.4)
    mine = judged("mdn", (1.8, 1.6, 1.9), (1, 1, 1.1))
    for order in ((mine, broken), (broken, mine)):
        words = judge(AT, order, []).words
        assert words.startswith("MDN: ")
        assert "Nearest" not in words
        nearer = "By its finite frames vMF × log-normal is nearer (1.00 [0.90, 1.10]), but only 0.400 of its rollouts"
        assert nearer in words
    farther = judged("vmf", (1.9, 1.8, 2.0), (1, 1, 1.1), finite=0.4)
    assert "finite frames" not in judge(AT, [mine, farther], []).words
    alone = judge(AT, [broken], [])
    assert "only 0.400 of its rollouts stay finite" in alone.words
    assert "finite frames" not in alone.words
    assert len(alone.conditions) == 5


@pytest.mark.parametrize(("nats", "verdict"), [((0.1, 0.09, 0.11), "pass"), ((400.0, 390.0, 410.0), "fail")])
def test_where_there_is_no_share_to_keep_likelihood_is_judged_all_the_same(nats, verdict):
    one = judged("mdn-noise", (1.2, 1.1, 1.3), (1, 1, 1.1))
    kept = [m for m in one.measurements if m.metric != "excess_share"]
    worse = of_metric("mdn-noise - mdn", "delta_nll_difference", *nats)
    finding = judge(AT, [Judged(one.regime, [*kept, worse], AT)], [])
    assert finding.verdict == verdict  # below 0.01 nats in each of 16 dimensions
    assert len(finding.conditions) == 4
    if verdict == "fail":
        assert finding.measured == worse
        assert "its NLL on true contexts less the best is 400 [390, 410] nats a frame (below 0.16" in finding.words


def test_the_best_of_several_that_passes_may_be_the_luckiest():
    passes, other = judged("mdn", (1.2, 1.1, 1.3), (1, 1, 1.1)), judged("vmf", (2, 1.9, 2.1), (1, 1, 1.1))
    assert judge(AT, [passes], []).caution == ""
    told = judge(AT, [passes, other], []).caution
    assert told.startswith("It is the best of 2 trainings on the speakers that judge it")
    assert told.endswith("up to 5% of runs.")
    assert judge(AT, [other, judged("mdn", (2, 1.9, 2.1), (1, 1, 1.1))], []).caution == ""


def test_a_likelihood_that_few_of_the_draws_keep_is_told_as_that():
    name = "mdn-tied-utterance-residuals-most"
    told = judge(AT, [judged(name, (1.2, 1.1, 1.3), (1, 1, 1.1))], []).caution
    assert told == (
        "90% of its draws are stored residuals: whatever these are like, the others hold the likelihood to within 2.3 "
        "nats."
    )
    assert judge(AT, [judged("mdn-residuals", (1.2, 1.1, 1.3), (1, 1, 1.1))], []).caution == ""


def test_what_it_must_beat_stands_beside():
    times = [of_metric(f"mdn-tied - {other}", "frechet_latents_times", 0.5, 0.4, 0.6) for other in ("mdn", "mdn-noise")]
    others = [of_metric("mdn-tied-noise - mdn-tied", "frechet_latents_times", 0.9, 0.8, 1.0)]
    more = judge(AT, [judged("mdn-tied", (1.2, 1.1, 1.3), (1, 1, 1.1))], [*times, *others]).more
    assert more.endswith(
        " Its distance over that of other trainings (below 1 is nearer): MDN 0.500 [0.400, 0.600]; "
        "MDN, noise on contexts 0.500 [0.400, 0.600]."
    )


@pytest.mark.parametrize(("high", "passes"), [(1.4, True), (1.6, False)])
def test_whether_frames_in_random_order_would_pass_is_told_wherever_the_verdict_is(high, passes):
    both = ("frechet_latents_ratio", "frechet_increments_ratio")
    shuffled = [of_metric("shuffled frames", metric, 1.3, 1.2, high) for metric in both]
    sound = [of_metric(name, "speech_share", 0.2, 0.1, 0.3) for name in ("mdn", "original")]
    finding = judge(AT, [judged("mdn", (1.4, 1.1, 1.9), (1, 1, 1.1))], [*shuffled, *sound])
    assert (", and would pass (" in finding.caution) == passes
    assert "Of its decoded sound 0.200 [0.100, 0.300] is speech, of recordings 0.200" in finding.caution
    decision = decide([*map(failed, ("predictability", "representation")), finding])
    assert finding.caution in decision.advice
    assert decision.path[-1].because == f"{finding.words} {finding.caution}"
    assert finding.more not in decision.path[-1].because


def failed(experiment):
    """A finding of an experiment that the tree asks for first."""
    one = of_metric("mdn", "x", 1.0, 0.9, 1.1).model_copy(update={"experiment": experiment})
    criterion = CRITERION.model_copy(update={"experiment": experiment, "metric": "x"})
    return Finding(criterion=criterion, measured=one, verdict="fail", words="It: so.", would_change="-")


@pytest.mark.parametrize(("real", "warned"), [(0.89, True), (0.9, False), (1.0, False)])
def test_survival_that_recordings_do_not_have_is_warned_of(real, warned):
    too_long = of_metric("real", "survival", None).model_copy(update={"n_frames": 0})
    early = of_metric("real", "survival", real, 0.5, 1.0, step=62)
    told = recordings_diverge(AT, [early, too_long])
    assert bool(told) == warned
    assert not warned or "0.890 [0.500, 1.000] have not diverged by 5 s" in told[0]
    late = of_metric("real", "survival", 0.1, 0.0, 0.2, step=750)
    assert recordings_diverge(AT, [early, late]) == told  # 60 s are not judged
    assert recordings_diverge(AT, [too_long]) == []
