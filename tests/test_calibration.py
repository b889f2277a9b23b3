"""Calibration: intervals, summaries of kept trials, resuming, the command."""

import json

import pytest
from scipy.stats import binomtest

from audio_engram import calibration_plan, cli
from audio_engram.calibration import carry_out, plan_of, summary, wilson
from audio_engram.calibration_plan import PLAN, Row
from audio_engram.config import make_config
from audio_engram.data.worlds import WORLDS, world
from audio_engram.decision import MIN_SPEAKERS, Criterion, Finding
from audio_engram.errors import UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement
from audio_engram.report.calibrated import KNOWN, as_text, write_page
from audio_engram.trials import Kept, Trial, made_with, read_trial, write_trial

NULL, SOMETHING = Row("factorisation", "noise", True), Row("archetypes", "chained", False)


def keep(folder, row, seed, verdict, measurements=(), analytic=()):
    criterion = Criterion(
        experiment=row.experiment, question="?", metric="variance_ratio", relation="below", threshold=0.6, reason=""
    )
    measured = Measurement(experiment=row.experiment, model="m", metric="variance_ratio", value=1.0)
    finding = Finding(criterion=criterion, measured=measured, verdict=verdict, words="", would_change="")
    (folder / "trials").mkdir(exist_ok=True, parents=True)
    write_trial(folder, Trial(row, seed), Kept(list(measurements), [finding], list(analytic)))


@pytest.mark.parametrize(("passes", "n"), [(0, 5), (3, 20), (10, 200), (200, 200)])
def test_wilson_is_scipys(passes, n):
    found = binomtest(passes, n).proportion_ci(method="wilson")
    assert wilson(passes, n) == pytest.approx((found.low, found.high))


def test_ends_that_nothing_lies_beyond_are_exact():
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 100))


def test_what_should_pass_is_asked_less_often():
    null, found = (Row("structure", "noise", null) for null in (True, False))
    assert [null.seeds(n) for n in (1, 2, 9, 200)] == [1, 1, 3, 50]  # of four null worlds
    assert [Row("factorisation", "noise", True).seeds(n) for n in (1, 200)] == [1, 200]  # of one
    assert [found.seeds(n) for n in (1, 2, 9, 200)] == [1, 2, 4, 12]


def test_a_row_has_the_size_of_its_experiment_or_its_own():
    assert Row("structure", "noise", True).size == (40, 4)
    assert Row("archetypes", "noise", True).size == (24, 1)
    assert Row("archetypes", "planes", True).size == (24, 4)
    assert Row("injection", "noise", True).size == (24, 2)
    assert Row("memory", "chained", False).size == (18, 3)


def test_every_trial_is_a_configuration_with_enough_test_speakers():
    for row in PLAN:
        speakers, _ = row.size
        data = row.settings["data"] | {"corpus": f"world:{row.world}:{speakers}"}
        config = make_config(row.settings | {"data": data})
        assert int(speakers * config.data.test) >= MIN_SPEAKERS
        assert config.experiments.resamples >= 1000
        assert config.train.precision == "float32"


def test_what_an_experiment_changes_leaves_the_others_alone():
    shared = {row.experiment: row.settings for row in PLAN if row.experiment not in calibration_plan.OTHER_SETTINGS}
    assert list(shared) == ["predictability", "magnitude", "factorisation", "injection", "archetypes"]
    assert all(settings == calibration_plan.SETTINGS for settings in shared.values())
    sampling = Row("sampling", "noise", True).settings
    assert sampling["train"] == calibration_plan.SETTINGS["train"] | {
        "epochs": 1,
        "teacher_weight": 0.0,
        "patience": 20,
    }
    assert sampling["model"]["width"] == calibration_plan.SETTINGS["model"]["width"]
    null, wide = (Row("correction", name, name == "noise").settings for name in ("noise", "ar"))
    assert wide["model"] == null["model"] | {"min_scale": 1.5}
    assert {**wide, "model": null["model"]} == null


def test_every_row_says_why_its_answer_is_known():
    for row in PLAN:
        assert row.reason.endswith(".")
        assert row.reason.count(". ") == 0
    asked = {row.experiment for row in PLAN}
    assert asked == set(EXPERIMENTS) - {"smoothing", "representation"}
    # Where nothing may pass is known of every experiment; where something should, of all but one.
    assert {row.experiment for row in PLAN if row.null} == asked
    assert asked - {row.experiment for row in PLAN if not row.null} == {"two_stage"}


@pytest.mark.parametrize(("row", "n", "enough"), [(NULL, 72, False), (NULL, 73, True), (SOMETHING, 3, False)])
def test_few_seeds_tell_little(tmp_path, row, n, enough):
    # 0 of 73: [0 %, 5.0 %]; 3 of 3: [44 %, 100 %]; 4 of 4: [51 %, 100 %].
    for seed in range(n):
        keep(tmp_path, row, seed, "fail" if row.null else "pass")
    (passed,), _ = summary(tmp_path, n, [row])
    assert passed.holds
    assert passed.enough == enough
    assert as_text(([passed], [])).endswith("holds" if enough else "holds so far")
    write_page(tmp_path / "page.html", ([passed], []), n)
    assert ("Calibration holds for every" in (tmp_path / "page.html").read_text()) == enough


def test_every_row_names_an_experiment_and_a_world_that_exist():
    for row in PLAN:
        assert row.experiment in EXPERIMENTS
        assert row.world in WORLDS
        assert row.world in KNOWN
    assert len(set(PLAN)) == len(PLAN)


def test_a_null_world_holds_while_its_interval_reaches_down_to_five_per_cent(tmp_path):
    for seed in range(100):
        keep(tmp_path, NULL, seed, "pass" if seed < 9 else "fail")
    (passed,), _ = summary(tmp_path, 100, [NULL])
    assert passed.verdicts == {"pass": 9, "fail": 91}
    assert passed.rate[0] == pytest.approx(0.09)
    assert passed.enough
    assert passed.holds  # 9 of 100: [4.8 %, 16.2 %]
    keep(tmp_path, NULL, 99, "pass")
    (passed,), _ = summary(tmp_path, 100, [NULL])
    assert not passed.holds  # 10 of 100: [5.5 %, 17.4 %]


def test_null_worlds_of_an_experiment_are_counted_together_and_tell_together(tmp_path):
    rows = [row for row in PLAN if row.experiment == "magnitude"]
    for row in rows:
        for seed in range(row.seeds(74)):
            keep(tmp_path, row, seed, "pass" if not row.null or (row.world, seed) == ("noise", 3) else "fail")
    passed, _ = summary(tmp_path, 74, rows)
    assert [(one.row.world, one.n, one.part) for one in passed] == [
        *(("strides", 4, False), ("headings", 37, True), ("noise", 37, True)),
        ("all null worlds", 74, False),
    ]
    assert passed[-1].verdicts == {"fail": 73, "pass": 1}
    assert passed[-1].rate == (1 / 74, *wilson(1, 74))
    assert all(one.enough for one in passed)
    for seed in range(37):
        keep(tmp_path, rows[2], seed, "pass" if seed < 9 else "fail")
    found, _ = summary(tmp_path, 74, rows)
    # 9 of 74: [6.5 %, 21 %], 9 of 37: [13 %, 40 %].
    assert [one.holds for one in found] == [True, True, False, False]


def test_something_must_be_found_in_more_than_half_of_the_seeds(tmp_path):
    for seed in range(4):
        keep(tmp_path, SOMETHING, seed, "pass" if seed < 2 else "undecided")
    (passed,), _ = summary(tmp_path, 4, [SOMETHING])
    assert not passed.holds
    keep(tmp_path, SOMETHING, 3, "pass")
    (passed,), _ = summary(tmp_path, 4, [SOMETHING])
    assert passed.holds


def test_recovery_is_bias_spread_and_coverage(tmp_path):
    for seed, value in enumerate((0.90, 0.92, 0.95)):
        what = {"experiment": "archetypes", "data": "real"}
        told = [
            Measurement(
                model="K = 64", metric="membership_accuracy", value=value, low=value - 0.02, high=value + 0.02, **what
            ),
            Measurement(model="gap", metric="found_k", value=64.0, **what),
            Measurement(model="K = 64", metric="membership_accuracy", value=0.1, split="train", **what),
        ]
        keep(tmp_path, SOMETHING, seed, "pass", told)
    _, (k, accuracy) = summary(tmp_path, 3, [SOMETHING])
    assert (k.truth, k.mean, k.bias, k.coverage) == (64, 64, 0, None)
    assert accuracy.truth == pytest.approx(1 - 0.05 * 63 / 64)
    assert accuracy.mean == pytest.approx(2.77 / 3)
    assert accuracy.spread == pytest.approx(0.0251661, rel=1e-4)
    assert accuracy.coverage == pytest.approx(1 / 3)
    assert accuracy.n == 3


def test_analytic_figures_are_compared_with_the_models(tmp_path):
    row = Row("predictability", "ar", False)
    told = [
        Measurement(experiment="predictability", model=m, metric="delta_nll", value=v, low=v - 1, high=v + 1)
        for m, v in (("mdn", -15.0), ("vmf", -14.0))
    ]
    told += [told[0].model_copy(update={"lag": 2, "value": 0.0})]  # judged elsewhere
    keep(tmp_path, row, 0, "pass", told, [("delta_nll", -15.6), ("innovation_cosine", 0.9)])
    _, recovered = summary(tmp_path, 1, [row])
    assert [(one.figure, one.coverage) for one in recovered] == [("delta_nll, mdn", 1.0), ("delta_nll, vmf", 0.0)]
    assert recovered[0].n == 1


def test_magnitude_is_compared_at_the_lag_where_it_is_judged(tmp_path):
    row = Row("magnitude", "strides", False)
    told = [
        Measurement(experiment="magnitude", model="vmf", metric="magnitude_r2", value=v, low=v - 0.1, high=v, lag=lag)
        for lag, v in ((1, 0.9), (2, 0.8))
    ]
    keep(tmp_path, row, 0, "pass", told, [("magnitude_r2", 0.79)])
    _, (recovered,) = summary(tmp_path, 1, [row])
    assert (recovered.figure, recovered.mean, recovered.coverage) == ("magnitude_r2, vmf", 0.8, 1.0)


@pytest.mark.slow
def test_a_trial_keeps_what_its_world_says_at_the_lag_where_it_is_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration_plan, "SPEAKERS", 16)
    monkeypatch.setattr("audio_engram.data.processes.World.frames", 60)
    monkeypatch.setitem(calibration_plan.SETTINGS["train"], "epochs", 1)
    (tmp_path / "trials").mkdir()
    trial = Trial(Row("magnitude", "strides", False), 0)
    carry_out(tmp_path, trial)
    kept = read_trial(tmp_path, trial)
    known = {a.metric: a.value for a in world("world:strides").analytic((2,))}
    assert kept.analytic == [("magnitude_r2", pytest.approx(known["magnitude_r2"]))]
    (measured,) = [m for m in kept.measurements if (m.model, m.lag, m.metric) == ("vmf", 2, "magnitude_r2")]
    assert measured.n_frames == 6 * 2 * (60 - 8 - 1)  # 6 of 16 speakers, two utterances of 60 frames each


@pytest.mark.slow
@pytest.mark.parametrize(("world", "verdict"), [("walk", "pass"), ("noise", "fail")])
def test_training_on_drawn_frames_unlearns_what_only_true_ones_ask_for(tmp_path, world, verdict):
    """Seeds 0 to 7 of both: eight of eight."""
    (tmp_path / "trials").mkdir()
    trial = Trial(Row("sampling", world, verdict == "fail"), 0)
    carry_out(tmp_path, trial)
    (finding,) = read_trial(tmp_path, trial).findings
    assert finding.verdict == verdict


@pytest.mark.slow
def test_a_trial_is_kept_alone_and_is_the_same_from_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setitem(calibration_plan.OTHER_SIZES, "archetypes", (16, 3))
    monkeypatch.setattr("audio_engram.data.processes.World.frames", 200)
    (tmp_path / "trials").mkdir()
    trial = Trial(Row("archetypes", "correlated", True), 3)
    carry_out(tmp_path, trial)
    path = tmp_path / "trials/archetypes-correlated-0003.json"
    assert [p.name for p in tmp_path.iterdir()] == ["trials"]
    first = path.read_bytes()
    carry_out(tmp_path, trial)
    assert path.read_bytes() == first
    assert read_trial(tmp_path, trial).findings[0].verdict == "fail"


def test_kept_trials_are_not_done_again_and_the_page_tells_who_was_fooled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [row for row in PLAN if row.experiment == "structure"]
    for row in rows:
        for seed in range(row.seeds(8)):
            keep(tmp_path / "out", row, seed, "fail" if row.null else "pass")
    settings = tmp_path / "out/trials/settings.json"
    settings.write_text(made_with())
    words = ["calibrate", "--only", "structure", "--seeds", "8", "--out", "out"]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "calibrate: 12 of 12 trials are there" in told.err  # 2 of each null world, 4 of the other
    assert "holds" in told.out
    assert "DOES NOT HOLD" not in told.out
    page = (tmp_path / "out/calibration.html").read_text()
    assert "Nothing speaks against calibration so far" in page  # of 8 null worlds
    assert "8 null worlds" in page
    assert all(row.reason in page for row in rows)
    facts = json.loads((tmp_path / "out/calibration.json").read_text())
    assert [one["passed"][0] for one in facts["verdicts"]] == [*(float(not row.null) for row in rows), 0.0]
    keep(tmp_path / "out", rows[1], 0, "pass")
    keep(tmp_path / "out", rows[1], 1, "pass")
    found = summary(tmp_path / "out", 8, rows)
    write_page(tmp_path / "page.html", found, 8)
    fooled = "structure on noise, structure on all null worlds"
    assert f"Calibration does not hold for {fooled}." in (tmp_path / "page.html").read_text()
    assert "DOES NOT HOLD" in as_text(found)


def test_bad_calls_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, line in (
        (["--quick", "--seeds", "3"], "--quick: says the number of seeds"),
        (["--seeds", "0"], "--seeds 0: give 1 or more"),
        (["--jobs", "0", "--seeds", "1"], "--jobs 0: give 1 or more"),
        (["--only", "nothing"], "--only nothing: no world calibrates that: use predictability"),
        (["--only", ","], "--only without a name: no world calibrates that: use predictability"),
        (["--only", ""], "--only without a name: no world calibrates that"),
        (["--only", "structure,"], "--only without a name: no world calibrates that"),
    ):
        assert cli.main(["calibrate", *words]) == 2
        assert capsys.readouterr().err.startswith(f"engram: {line}")
    with pytest.raises(UsageError):
        plan_of(["structure", "smoothing"])
    assert list(tmp_path.iterdir()) == []


def test_a_world_can_have_another_number_of_speakers():
    assert world("world:noise:7").speakers == 7
    assert world("world:noise").speakers == 64
    for spec in ("world:noise:0", "world:noise:x", "world:noise:-1", "world:noise:1:2"):
        with pytest.raises(UsageError, match="is no number of speakers: write world:noise:24"):
            world(spec)


def test_correctors_can_be_chosen_wherever_they_are_asked():
    rows = [row for row in PLAN if row.experiment == "correction"]
    assert rows
    # With fewer than four validation speakers a distance has no value, and every verdict is open.
    assert all(row.size[0] * row.settings["data"]["validation"] >= 4 for row in rows)
