"""The whole ladder on small worlds whose truth is known, once for each world."""

import json

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import AR, World
from audio_engram.decision import Decision
from audio_engram.errors import UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.experiments.outcome import show
from audio_engram.experiments.predictability import cell
from audio_engram.measurements import Measurement, Measurements
from audio_engram.pipeline import climb
from audio_engram.runs import Run
from audio_engram.statistics import Interval
from audio_engram.tree import BEGINNING

STEPS = 5
SETTINGS = {
    "device": "cpu",
    "model": {"context": 2, "width": 24, "depth": 1, "components": 2},
    "train": {"epochs": 6, "batch_size": 128, "learning_rate": 5e-3, "precision": "float32"},
    "experiments": {
        "names": list(BEGINNING),
        "lags": [1, 2],
        "surrogate_lags": [1, 2],
        "ceiling_lags": [1, 3],
        "steps": STEPS,
        "unrolls": [4],
        "unroll_epochs": 1,
        "resamples": 1000,
        "max_segments": 400,
    },
}


def climbed(name, folder):
    config = make_config(SETTINGS | {"data": {"corpus": f"world:{name}", "test": 0.4}})
    run = Run(folder, config, log=lambda line: None)
    decision = climb(run, "test")
    return run, decision, Measurements.read(folder / "measurements.json")


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "speakers", 24)
        patch.setattr(World, "utterances_per_speaker", 2)
        patch.setattr(World, "frames", 80)
        patch.setattr(AR, "frames", 80)
        yield


@pytest.fixture(scope="module")
def ar(tmp_path_factory, small_worlds):
    return climbed("ar", tmp_path_factory.mktemp("ar"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory, small_worlds):
    return climbed("noise", tmp_path_factory.mktemp("noise"))


@pytest.fixture(params=["ar", "noise"])
def either(request):
    return request.getfixturevalue(request.param)


def verdicts(decision):
    return {f"{f.criterion.experiment}/{f.measured.model}/{f.criterion.metric}": f.verdict for f in decision.findings}


def test_the_folder_is_complete_and_finite(either):
    run, decision, measured = either
    names = {p.name for p in run.folder.iterdir()}
    assert {"config.toml", "latents", "checkpoints", "measurements.json", "decision.json", "report.html"} <= names
    assert Decision.read(run.folder / "decision.json") == decision
    assert json.loads((run.folder / "provenance.json").read_text())["seed"] == 0
    # `Measurements` refuses records with the same key; the keys are therefore unique.
    assert len({m.key for m in measured}) == len(measured) > 200
    assert {m.experiment for m in measured} == set(run.config.experiments.names)
    assert {m.codec for m in measured} == {f"world:{run.world.name} 12.5 Hz"}


def test_every_record_is_in_order(either):
    _, _, measured = either
    for m in measured:
        assert m.value is not None, m.key
        assert m.lag >= 1, m.key
        assert 1 <= m.step <= STEPS, m.key
        if m.low is not None:
            assert m.low <= m.high, m.key
            assert m.n_speakers >= 3, m.key
            assert m.n_frames > 0, m.key
        if m.metric.endswith("cosine") and m.mode != "analytic":
            assert -1 <= m.value <= 1, m.key


def test_parts_of_the_decomposition_add_up(either):
    _, _, measured = either
    for head in ("mdn", "vmf"):
        mine = measured.select(experiment="predictability", model=head, lag=1, data="real")
        whole = mine.one(metric="delta_nll").value
        parts = [m.value for m in mine if m.metric.startswith("part_")]
        assert len(parts) == 4
        assert sum(parts) == pytest.approx(whole, abs=1e-6)


def test_excess_is_the_distance_to_the_best_baseline(either):
    _, _, measured = either
    here = measured.select(experiment="predictability", data="real", metric="delta_nll", mode="teacher_forced")
    for lag in (1, 2):
        best = min(m.value for m in here.select(lag=lag) if m.model not in ("mdn", "vmf"))
        for head in ("mdn", "vmf"):
            excess = measured.one(metric="delta_nll_excess", model=head, lag=lag, data="real")
            assert excess.value == pytest.approx(here.one(model=head, lag=lag).value - best, abs=1e-6)


def test_baselines_lie_where_the_theory_says(either):
    # About 1,500 test frames of 10 speakers; means of nats have a deviation near 0.15, cosines near 0.01.
    _, _, measured = either
    found = measured.select(experiment="predictability", model="ar1", data="real")
    for known in measured.select(model="ar1", mode="analytic"):
        name = known.metric.removesuffix("_analytic")
        value = found.one(metric=name, lag=known.lag, mode="teacher_forced").value
        assert value == pytest.approx(known.value, abs=0.06 if "cosine" in name else 0.8), known.key


def test_noise_looks_predictable_and_is_not(noise):
    _, decision, measured = noise
    found = measured.select(experiment="predictability", lag=1, data="real", mode="teacher_forced")
    truth = measured.one(model="truth", metric="delta_nll_analytic", lag=1).value
    for name in ("state", "ar1", "mdn"):
        assert found.one(model=name, metric="delta_nll").value == pytest.approx(truth, abs=2.5)
        assert found.one(model=name, metric="direction_cosine").value == pytest.approx(0.70, abs=0.03)
    # The excess of what has nothing to find is no gain.
    for head in ("mdn", "vmf"):
        assert found.one(model=head, metric="delta_nll_excess").high > -0.3
    assert "pass" not in [v for k, v in verdicts(decision).items() if not k.startswith("factorisation/vmf - mdn")]


def test_the_magnitude_of_noise_is_not_predictable_at_lag_two(noise):
    _, decision, measured = noise
    finding = next(f for f in decision.findings if f.criterion.experiment == "magnitude")
    assert finding.measured.lag == 2
    assert finding.verdict != "pass"
    found = measured.select(experiment="magnitude", metric="magnitude_r2", lag=2, data="real")
    for model in ("vmf", "magnitude", "magnitude_utterance"):
        assert show(found.one(model=model)) in finding.words
    assert "tterance" not in finding.would_change  # which have been tried
    assert measured.one(experiment="magnitude", metric="magnitude_r2", model="vmf", lag=2, data="real").value < 0.02


def test_the_order_of_the_frames_of_ar_is_found(ar):
    _, decision, measured = ar
    found = measured.select(experiment="predictability", lag=1, data="real", mode="teacher_forced")
    truth = measured.one(model="truth", metric="delta_nll_excess_analytic", lag=1).value
    for head in ("mdn", "vmf"):
        assert found.one(model=head, metric="delta_nll_excess").high < 0
        assert found.one(model=head, metric="part_dynamics").high < 0
        # No model beats the truth by more than the error of sampling.
        assert found.one(model=head, metric="delta_nll_excess").value > truth - 1.0
    verdict = {k: v for k, v in verdicts(decision).items() if k.startswith("predictability")}
    assert list(verdict.values()) == ["pass"]
    assert "beyond regression to the mean" in decision.headline


def test_true_frames_repair_what_free_running_loses(ar):
    _, _, measured = ar
    for head in ("mdn", "vmf"):
        mine = measured.select(experiment="injection", model=head, metric="state_error")
        for step in range(1, STEPS + 1):
            a, b, d = (mine.one(mode=mode, step=step).value for mode in "ABD")
            if step == 1:
                assert a == pytest.approx(d, rel=1e-5)
            else:
                assert a < d
            if step <= 4:
                assert b == pytest.approx(d, rel=1e-5)
            else:  # a true frame came after step 4
                assert b < d
        c = measured.select(experiment="injection", model=head, metric="delta_nll", mode="C")
        a = measured.select(experiment="injection", model=head, metric="delta_nll", mode="A")
        for step in (1, 2):
            assert c.one(step=step).value == pytest.approx(a.one(step=step).value, rel=1e-4, abs=1e-4)


def test_a_gap_stands_beside_that_of_regression_to_the_mean_and_what_unrolled_training_gave(either):
    _, decision, measured = either
    mine = measured.select(experiment="injection")
    trivial = mine.one(model="ar1", metric="advantage_kept")
    assert {m.model for m in mine.select(metric="delta_nll_rollout")} == {"ar1", "mdn", "vmf", "mdn_k4", "vmf_k4"}
    for finding in (f for f in decision.findings if f.criterion.experiment == "injection"):
        head = finding.measured.model
        assert finding.reference == trivial
        # Of AR(1) itself a true frame brings back everything, and its label has no part in that it is a baseline.
        assert f"AR(1) keeps {show(trivial)} and would be called " in finding.words
        assert "no advantage by" not in finding.words
        assert f"a true frame brings back {show(mine.one(model=head, metric='recovery', step=4))}" in finding.words
        assert f"steps 2 to {STEPS} of " in finding.words
        unrolled = mine.one(model=f"{head}_k4", metric="delta_nll_rollout", mode="D")
        assert show(unrolled) in finding.would_change
        assert show(mine.one(model=head, metric="delta_nll_rollout", mode="D")) in finding.would_change


def test_teacher_forcing_means_the_same_in_both_rollout_experiments(either):
    _, _, measured = either
    for head in ("mdn", "vmf"):
        for step in range(1, STEPS + 1):
            for name in ("delta_nll", "direction_cosine", "state_error"):
                one = measured.one(
                    experiment="factorisation", model=head, metric=name, mode="teacher_forced", step=step
                )
                other = measured.one(experiment="injection", model=head, metric=name, mode="A", step=step)
                assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-4)


def test_the_ceiling_errs_on_the_generous_side(either):
    # Every step is bounded by the longest lag up to it or by a longer one, by a head or by a baseline.
    run, _, measured = either
    ends = {}
    for lag in (1, 3):
        scored = cell(run, lag, "real")
        candidates = [scored.scores[name] for name in ("mdn", "vmf", "ar1", "increment")]
        ends[lag] = max(scored.bootstrap.mean(one.cosine).high for one in candidates)
    ceiling = measured.select(model="ceiling", metric="ceiling_direction_cosine")
    assert [m.step for m in ceiling] == [1, 2, 3, 4, 5]
    generous = max(ends.values())
    assert [m.high for m in ceiling] == pytest.approx([generous, generous, *[ends[3]] * 3])


def test_resuming_changes_nothing(ar):
    run, _, measured = ar
    before = (run.folder / "measurements.json").read_bytes()
    lines = []
    again = Run(run.folder, run.config, log=lines.append)
    outcome = EXPERIMENTS["predictability"](again)
    assert not [line for line in lines if line.startswith("train")]
    kept = [m for m in measured if m.experiment == "predictability"]
    assert outcome.measurements == kept
    assert (run.folder / "measurements.json").read_bytes() == before


def test_a_folder_belongs_to_one_configuration(ar):
    run, _, _ = ar
    other = run.config.model_copy(update={"seed": 1})
    with pytest.raises(UsageError, match=r"another configuration \(seed = 0 there, seed = 1 here\)"):
        Run(run.folder, other)
    with pytest.raises(UsageError, match="holds a run already"):
        Run(run.folder, run.config, resume=False)


def test_splits_share_no_speaker_and_statistics_are_of_training(either):
    run, _, _ = either
    frames = run.frames()
    sets = [set(frames.speaker[frames.in_split(s)].tolist()) for s in ("train", "validation", "test")]
    assert len(set.union(*sets)) == sum(map(len, sets)) == 24
    train = frames.z[frames.in_split("train")]
    torch.testing.assert_close(train.mean(0), torch.zeros(frames.dim), atol=1e-4, rtol=0)


def test_a_value_that_is_not_finite_is_recorded_as_none(ar):
    run, _, _ = ar
    record = run.measure(Interval(float("inf"), None, None, 5, 3), experiment="x", model="y", metric="z")
    assert isinstance(record, Measurement)
    assert record.value is None


def test_unknown_names_are_refused(tmp_path):
    config = make_config(SETTINGS | {"data": {"corpus": "world:noise"}})
    bad = config.model_copy(update={"experiments": config.experiments.model_copy(update={"names": ("magic",)})})
    run = Run(tmp_path / "run", bad, log=lambda line: None)
    with pytest.raises(UsageError, match="magic: no such experiment: use predictability,"):
        climb(run)
    with pytest.raises(UsageError, match="data shuffled_around: no such surrogate"):
        run.frames("shuffled_around")
