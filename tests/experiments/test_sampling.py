"""Training on samples against means and true contexts: a world that any training knows, and models that are spoiled."""

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import AR, World
from audio_engram.distributions import DiagonalGaussian
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.lengths import check_lengths
from audio_engram.experiments.outcome import show
from audio_engram.experiments.sampling import sampling, unrolled_regimes
from audio_engram.measurements import Measurements
from audio_engram.regimes import REGIMES
from audio_engram.runs import Run

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        patch.setattr(World, "frames", 60)
        patch.setattr(AR, "frames", 60)
        patch.setattr(AR, "dim", 4)
        yield


def run_of(folder, *regimes, corpus="world:ar:48"):
    experiments = {"names": ["sampling"], "steps": STEPS, "resamples": 1000, "unroll_epochs": 1, "max_segments": 500}
    config = {
        "device": "cpu",
        "data": {"corpus": corpus, "test": 0.4},
        "model": {"width": 8, "components": 2, "context": 2, "dropout": 0.0},
        "train": {"epochs": 3, "batch_size": 128, "learning_rate": 2e-3, "precision": "float32"},
        "experiments": experiments | ({"sampling_regimes": list(regimes)} if regimes else {}),
    }
    return Run(folder, make_config(config), log=lambda line: None)


class Process(torch.nn.Module):
    """The process in standardised units; `shorter` shrinks its increments, `off` moves what it expects."""

    def __init__(self, run, shorter=1.0, off=0.0):
        super().__init__()
        self.turn, self.shorter, self.off = AR().matrix().float(), shorter, off
        self.frames = run.frames()

    def forward(self, context):
        last, frames = context[:, -1], self.frames
        expected = ((last * frames.scale + frames.loc) @ self.turn.T - frames.loc) / frames.scale
        scale = (1 - AR.radius**2) ** 0.5 / frames.scale
        return DiagonalGaussian(
            self.shorter * (expected - last) + self.off, (self.shorter * scale).expand_as(last).contiguous()
        )


def judged(folder, monkeypatch, **models):
    """The experiment with models of these regimes in the place of trained ones."""
    run = run_of(folder, "mdn-mean", "mdn-sampled")
    made = {name.replace("_", "-"): model(run) for name, model in models.items()}
    monkeypatch.setattr(run, "trained", lambda one: made[one.name])
    outcome = sampling(run)
    (finding,) = outcome.findings
    return Measurements(outcome.measurements), finding


def test_the_process_itself_keeps_its_magnitude_and_loses_nothing(tmp_path, monkeypatch):
    records, finding = judged(tmp_path, monkeypatch, mdn=Process, mdn_mean=Process, mdn_sampled=Process)
    assert finding.verdict == "pass"
    for s in range(1, STEPS + 1):
        for name in ("mdn", "mdn-mean", "mdn-sampled"):
            one = records.one(metric="magnitude_ratio", model=name, mode="sampled", step=s)
            assert one.value == pytest.approx(1, abs=0.05)
            # What is expected is shorter than what happens: of z_t alone, |A - 1|² of |A - 1|² + 1 - r².
            mean = records.one(metric="magnitude_ratio", model=name, mode="mean", step=s)
            assert 0.5 < mean.value < 0.97
    assert records.one(metric="delta_nll_difference", model="mdn-sampled - mdn").value == 0
    last = records.one(metric="magnitude_ratio", model="mdn-sampled", mode="sampled", step=STEPS)
    drawn = f"at step 4 of {last.n_frames} rollouts that draw every increment, "
    assert f"{drawn}their length over that of the true ones is {show(last)} (1 is right;" in finding.words
    assert "(1 is right; 0.8 to 1.25 passes; " in finding.words
    nll = records.one(metric="delta_nll", model="mdn-sampled")
    assert (nll.mode, nll.value) == ("teacher_forced", pytest.approx(AR().analytic((1,))[0].value, rel=0.1))


@pytest.mark.parametrize(
    ("wrong", "metric"),
    [
        ({"shorter": 0.5}, "magnitude_ratio"),
        ({"shorter": 2.0}, "magnitude_ratio"),
        ({"off": 0.1}, "delta_nll_difference"),
    ],
)
def test_what_freezes_races_or_forgets_fails(tmp_path, monkeypatch, wrong, metric):
    spoiled = {"mdn_sampled": lambda run: Process(run, **wrong)}
    records, finding = judged(tmp_path, monkeypatch, mdn=Process, mdn_mean=Process, **spoiled)
    assert finding.verdict == "fail"
    assert finding.criterion.metric == metric
    if metric == "delta_nll_difference":
        loss = records.one(metric=metric, model="mdn-sampled - mdn")
        assert finding.measured == loss
        # (off / σ)² / 2 nats in each of four dimensions, σ² = 1 - r².
        assert loss.value == pytest.approx(4 * 0.5 * 0.1**2 / (1 - AR.radius**2), rel=0.15)
        assert records.one(metric=metric, model="mdn-sampled - mdn-mean").value == pytest.approx(loss.value)
        assert finding.criterion.threshold == pytest.approx(0.04)
        told = f"less that of teacher forcing is {show(loss)} nats a frame (lower is better; below 0.04 passes, since"
        assert told in finding.words


def test_every_regime_stands_beside_what_it_started_from(tmp_path):
    run = run_of(tmp_path, "mdn-mean", "mdn-sampled", "vmf-mean", "vmf-sampled")
    outcome = sampling(run)
    records = Measurements(outcome.measurements)
    names = {r.model for r in records.select(metric="magnitude_ratio")}
    assert names == {"mdn", "vmf", "mdn-mean", "mdn-sampled", "vmf-mean", "vmf-sampled"}
    assert {r.mode for r in records.select(metric="magnitude_ratio")} == {"sampled", "mean"}
    differences = {r.model for r in records.select(metric="delta_nll_difference")}
    assert differences == {
        *("mdn-mean - mdn", "mdn-sampled - mdn", "mdn-sampled - mdn-mean"),
        *("vmf-mean - vmf", "vmf-sampled - vmf", "vmf-sampled - vmf-mean"),
    }
    assert [f.words.partition(":")[0] for f in outcome.findings] == [
        REGIMES[name].words for name in ("mdn-sampled", "vmf-sampled")
    ]
    assert all("after teacher forcing alone" in f.words for f in outcome.findings)
    assert all(
        f"after {REGIMES[c].words}" in f.words for f, c in zip(outcome.findings, ("mdn-mean", "vmf-mean"), strict=True)
    )


def test_the_defaults_are_regimes_on_own_states(tmp_path):
    assert [one.name for one in unrolled_regimes(run_of(tmp_path).config)] == [
        "mdn-mean",
        "mdn-sampled",
        "vmf-mean",
        "vmf-sampled",
    ]


def test_bad_settings_are_one_line_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match=r"^experiments\.sampling_regimes: mdn-smpled: no such regime: use mdn, "):
        check_lengths(run_of(tmp_path / "a", "mdn-smpled"))
    with pytest.raises(UsageError, match=r"sampling_regimes: mdn-noise: trains on true contexts alone: use mdn-mean, "):
        check_lengths(run_of(tmp_path / "b", "mdn-noise"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AR, "frames", 12)
        with pytest.raises(DataError, match=r"16 steps for experiments\.sampling_regimes"):
            check_lengths(run_of(tmp_path / "c", "mdn-sampled"))
    assert not list(tmp_path.glob("*/checkpoints"))
