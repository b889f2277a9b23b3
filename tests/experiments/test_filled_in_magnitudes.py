"""The experiment two_stage: what it measures and keeps, a verdict for either side, and what it refuses beforehand."""

import sys
from dataclasses import replace

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.data.windows import Windows
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.lengths import check_lengths
from audio_engram.experiments.outcome import show
from audio_engram.experiments.trajectories import Trajectories, find_trajectories, stretch_frames
from audio_engram.experiments.two_stage import DIFFERENCE, two_stage, two_stages
from audio_engram.measurements import Measurements
from audio_engram.metrics import predictor, score
from audio_engram.report.sections import _two_stage
from audio_engram.runs import Run
from audio_engram.two_stage import TwoStage, n_parameters

module = sys.modules["audio_engram.experiments.two_stage"]  # whose name the function of the same name has taken
SMALL = {
    "device": "cpu",
    "model": {"width": 16, "context": 4},
    "train": {"epochs": 2, "batch_size": 256, "learning_rate": 2e-3, "precision": "float32"},
}


def run_of(folder, model=None, train=None, **experiments):
    wanted = {"names": ["two_stage"], "horizons": [1.0, 5.0, 10.0], "resamples": 1000, "max_segments": 256}
    settings = SMALL | {"data": {"corpus": "world:noise:24", "test": 0.4}, "experiments": wanted | experiments}
    settings |= {"model": SMALL["model"] | (model or {}), "train": SMALL["train"] | (train or {})}
    return Run(folder, make_config(settings), log=lambda line: None)


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 2)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def outcome(run):
    return two_stage(run)


def test_everything_is_told_of_both(run, outcome):
    records = Measurements(outcome.measurements)
    steps = [round(s * run.codec.frame_rate) for s in (1, 5, 10)]
    for name in ("two_stage", "vmf"):
        assert [r.step for r in records.select(model=name, metric="survival")] == steps
        assert [r.step for r in records.select(model=name, metric="frechet_increments_ratio")] == steps[1:]
        assert records.one(model=name, metric="finite_share").value == 1.0
        assert records.one(model=name, metric="magnitude_r2").low is not None
    for space in ("latents", "increments"):
        times = records.select(model=DIFFERENCE, metric=f"frechet_{space}_times")
        assert [r.step for r in times] == steps[1:]
        for one in times:
            ratios = [
                records.one(model=name, metric=f"frechet_{space}_ratio", step=one.step).value
                for name in ("two_stage", "vmf")
            ]
            assert one.value == pytest.approx(ratios[0] / ratios[1], rel=1e-9)
    assert records.one(model="two_stage_true_directions", metric="frechet_latents_ratio").step == stretch_frames(run)
    assert records.one(metric="delta_nll_difference").mode == "teacher_forced"
    (finding,) = outcome.findings
    assert finding.measured == records.one(model=DIFFERENCE, metric="frechet_latents_times", step=steps[-1])


def test_the_page_has_a_table_of_each_figure(outcome):
    found = _two_stage(Measurements(outcome.measurements))
    assert [len(table.rows) for table in found] == [3, 3, 3, 1, 1, 3, 2]
    assert [row[0] for row in found[1].rows] == ["vMF × log-normal", "two stages", "second stage on true directions"]
    assert found[3].rows[0][0] == "two stages − vMF × log-normal"


def test_a_model_that_cannot_see_where_it_is_walks_away_from_noise(outcome):
    """Frames of noise stay near their mean, which only their place foretells."""
    (finding,) = outcome.findings
    assert finding.verdict == "fail"
    assert finding.measured.low > 1


def test_both_are_kept_and_as_large_as_one(run, outcome, tmp_path):
    two, records = two_stages(run), Measurements(outcome.measurements)
    assert two.n_parameters == pytest.approx(n_parameters(run.model("vmf")), rel=0.05)
    assert records.one(model="two_stage", metric="parameters").value == two.n_parameters
    names = {"two-stage-directions", "two-stage-magnitudes"}
    assert names <= set(run.histories)
    assert names <= {path.stem for path in (run.folder / "checkpoints").glob("*.safetensors")}
    lines = []
    again = Run(run.folder, run.config, log=lines.append)
    assert all(
        torch.equal(a, b)
        for a, b in zip(two.magnitude.parameters(), two_stages(again).magnitude.parameters(), strict=True)
    )
    assert not lines  # nothing was trained again


def test_held_out_nats_are_those_of_single_frames(run, outcome):
    """Of one model: windows of many steps give what windows of one give."""
    steps = stretch_frames(run)
    windows = Windows(run.frames(), "test", 4, steps)
    one, two = run.model("vmf"), two_stages(run)
    segment = windows.gather(torch.arange(3))
    nll_one, nll_two, log_m, told, _, speaker = module._frames(one, two, segment)
    alone = Windows(run.frames(), "test", 4, 1)
    place = torch.cat([start + torch.arange(steps) for start in windows.starts[:3]])
    index = torch.searchsorted(alone.starts, place)
    ar1 = predictor(run.baseline("ar1"), reads_utterance=False)
    scores = score(predictor(one, reads_utterance=False), alone, index, ar1)
    torch.testing.assert_close(nll_one, scores.nll, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(log_m, scores.log_m, atol=1e-5, rtol=1e-5)
    assert torch.equal(speaker, scores.speaker)
    torch.testing.assert_close(nll_two, -two.log_prob(segment).flatten())
    assert told.shape == log_m.shape
    whole = windows.gather(windows.evenly(2 * len(run.held_out())))
    nll_one, nll_two, log_m, *told, _ = module._frames(one, two, whole)
    records = Measurements(outcome.measurements)
    found = records.one(metric="delta_nll_difference")
    assert found.value == pytest.approx(float((nll_two - nll_one).detach().mean()), rel=1e-5)
    assert found.n_frames == len(nll_one)
    spread = (log_m - two.magnitude.centre[0]).square().sum()
    for name, expected in zip(("vmf", "two_stage"), told, strict=True):
        left = (log_m - expected.detach()).square().sum()
        value = records.one(model=name, metric="magnitude_r2").value
        assert value == pytest.approx(1 - float(left / spread), rel=1e-4, abs=1e-5)


class Exact(TwoStage):
    """The process itself."""

    def sample(self, context, steps, generator=None):
        return torch.randn(len(context), steps, context.shape[2], generator=generator)


def test_what_is_nearer_to_speech_passes(run, outcome, monkeypatch):
    """Against one model that drifts by a tenth of a deviation every second."""
    trained = two_stages(run)
    monkeypatch.setattr(module, "two_stages", lambda run: Exact(trained.direction, trained.magnitude))
    honest = Trajectories.batches

    def drifting(some, model, steps, name):
        for pieces in honest(some, model, steps, name):
            yield [torch.cat(list(pieces), dim=1) + torch.arange(steps).unsqueeze(1) / 125]

    monkeypatch.setattr(Trajectories, "batches", drifting)
    (finding,) = two_stage(run).findings
    assert finding.verdict == "pass"
    assert finding.measured.high < 1
    some = find_trajectories(run)
    for said in (
        f"In the stretch before 10 s {some.counted} of two stages are {show(finding.measured)} times as far",
        "(Fréchet; lower is nearer; below 1 passes; ",
        "of log magnitude (higher is better)",
        "nats a frame (lower is better).",
    ):
        assert said in finding.words
    assert "stay finite" not in finding.words


def test_two_stages_that_leave_the_numbers_do_not_pass(run, outcome):
    """However near to speech what is left of them may be."""
    some = find_trajectories(run)

    def with_share(share):
        changed = {"frechet_latents_times": {"value": 0.5, "low": 0.4, "high": 0.6, "n_speakers": 9}}
        changed["finite_share"] = {"value": share}
        return [m.model_copy(update=changed.get(m.metric, {})) for m in outcome.measurements]

    assert module._judge(some, with_share(1.0)).verdict == "pass"
    broken = module._judge(some, with_share(0.9))
    assert broken.verdict == "fail"
    assert (broken.criterion.metric, broken.measured.model) == ("finite_share", "two_stage")
    assert "Only 90.0% of them stay finite to the end, and all must." in broken.words


def test_noise_on_contexts_is_as_large_for_directions(tmp_path, monkeypatch):
    """Directions have a deviation of 1 / sqrt(D)."""
    seen = []
    monkeypatch.setattr(module, "fit", lambda model, windows, train, *_: seen.append(train.context_noise))
    run = run_of(tmp_path, train={"context_noise": 1.0})
    config = run.config.model.model_copy(update={"context": 3})
    module._directions(run, config)
    assert seen == [pytest.approx(run.frames().dim ** -0.5)]


def test_bad_settings_are_one_line_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match=r"^experiment two_stage: model.context = 1: .*: use 2 or more$"):
        check_lengths(run_of(tmp_path / "a", model={"context": 1}))
    with pytest.raises(DataError, match=r"lower .*experiments.stretch_seconds"):
        check_lengths(run_of(tmp_path / "b", stretch_seconds=1000.0))
    with pytest.raises(UsageError, match=r"^experiments.horizons: none reaches .* 4.96 s: .*stretch_seconds$"):
        check_lengths(run_of(tmp_path / "c", horizons=[1.0, 2.0]))
    run = run_of(tmp_path / "d")
    short = replace(run.frames(), split=torch.where(run.frames().split == 1, 0, run.frames().split))
    run._cache["frames", "real"] = short  # nobody to validate on
    with pytest.raises(DataError, match=r"^validation split: .*stretch_seconds"):
        check_lengths(run)
