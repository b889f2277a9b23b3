"""Correctors beside no corrector: a process whose true score is known, models that are right or wrong, and the grid."""

from importlib import import_module
from math import sqrt

import pytest
import torch

from audio_engram import numbers
from audio_engram.config import make_config
from audio_engram.data.processes import AR, World
from audio_engram.decide import decide
from audio_engram.distributions import DiagonalGaussian
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.correction import NONE, compare, correction
from audio_engram.experiments.correctors import check_correction, denoiser, recipes
from audio_engram.experiments.outcome import show
from audio_engram.experiments.trajectories import find_trajectories
from audio_engram.measurements import Measurements
from audio_engram.runs import Run
from audio_engram.score.correction import Langevin, Tweedie
from audio_engram.sections import CorrectionConfig
from audio_engram.seeds import seed_for

# The package has a function of that name.
MODULE = import_module("audio_engram.experiments.correction")
DIM = 4
STEP = sqrt(1 - AR.radius**2)  # standard deviation of what is new in a frame


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        patch.setattr(World, "frames", 80)
        patch.setattr(AR, "frames", 200)
        patch.setattr(AR, "dim", DIM)
        yield


def run_of(folder, corpus="world:ar:48", log=lambda line: None, score=None, validation=0.3, **settings):
    experiments = {
        "names": ["correction"],
        "steps": 8,
        "max_segments": 300,
        "resamples": 1000,
        "stretch_seconds": 3.0,
        "correction": {"seconds": 8.0} | settings,
    }
    config = {
        "device": "cpu",
        "data": {"corpus": corpus, "test": 0.4, "validation": validation},
        "model": {"width": 8, "components": 1, "context": 2},
        "train": {"epochs": 1, "batch_size": 256, "learning_rate": 2e-3, "precision": "float32"},
        "score": {"width": 8, "depth": 1, "epochs": 1, "batch_size": 256} | (score or {}),
        "experiments": experiments,
    }
    return Run(folder, make_config(config), log=log)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("ar"))


class Process(torch.nn.Module):
    """The process itself in standardised units; `drift` moves what it expects, `wider` widens its draws, and it turns
    so many times as fast."""

    def __init__(self, run, drift=0.0, wider=1.0, turns=1):
        super().__init__()
        self.turn = AR.radius * torch.linalg.matrix_power(AR().matrix() / AR.radius, turns).float()
        self.drift, self.wider = drift, wider
        frames = run.frames()
        self.loc, self.scale = frames.loc, frames.scale

    def expected(self, last):
        raw = last * self.scale + self.loc
        return (raw @ self.turn.T - self.loc) / self.scale

    def forward(self, context):
        last = context[:, -1]
        scale = (self.wider * STEP / self.scale).expand_as(last)
        return DiagonalGaussian(self.expected(last) - last + self.drift, scale)


def truth(process):
    """The posterior mean of a noisy frame given the frame before: the true score of the process."""

    def denoise(noisy, sigma, context):
        prior = (STEP / process.scale).square()
        expected = process.expected(context[:, -1])
        return (sigma**2 * expected + prior * noisy) / (sigma**2 + prior)

    return denoise


def langevin(denoise, sigma, step_size, steps=1):
    return lambda: Langevin(denoise, sigma, step_size, steps, torch.Generator().manual_seed(1))


def judged(run, model, **correctors):
    outcome = compare(run, model, correctors)
    (finding,) = outcome.findings
    return Measurements(outcome.measurements), finding


def test_the_true_score_mends_a_model_that_is_wrong(run):
    denoise = truth(Process(run))
    records, finding = judged(run, Process(run, drift=0.1, wider=3.0), right=lambda: Tweedie(denoise, 0.2))
    assert finding.verdict == "pass"
    times, state = (
        records.one(metric=m, split="test", model=f"right - {NONE}")
        for m in ("frechet_latents_times", "state_error_difference")
    )
    assert finding.measured == times
    assert times.high < 0.5
    assert state.high < 0
    plain = records.one(metric="state_error", model=NONE)
    # Value, direction and bar of either condition, and how many rollouts that is.
    for said in (
        f"after 8 s the {times.n_frames} sampled rollouts are {show(times)} times as far from real stretches with it",
        "(Fréchet; lower is nearer to speech; below 1 passes)",
        f"is {show(plain)} without it and changes by {show(state)} with it (lower is nearer to the truth; ",
        f"below {numbers.threshold(-0.01 * plain.value)} passes).",
        " 64 rollouts were asked for, but no more held-out utterances last ",
    ):
        assert said in finding.words
    # Of sampled rollouts the state error falls too: they are three times too wide.
    assert records.one(metric="sampled_state_error_difference", split="test").high < 0
    # Each figure alone agrees with the difference.
    alone = [records.one(metric="state_error", model=name).value for name in ("right", NONE)]
    assert alone[0] - alone[1] == pytest.approx(state.value)
    assert records.one(metric="corrector_broken_share", model="right", mode="sampled", split="test").value == 0
    assert records.one(metric="corrector_broken_step", model="right", mode="sampled", split="test").value == 0
    # It brings the draws back before they have left real speech for good: at 1, 5 and 8 s.
    lived = {name: records.select(metric="survival", model=name, mode="sampled") for name in ("right", NONE)}
    assert {name: [m.step for m in some] for name, some in lived.items()} == {name: [12, 62, 100] for name in lived}
    assert all(right.low > plain.high for right, plain in zip(lived["right"], lived[NONE], strict=True))


def test_the_true_score_does_a_right_model_little_harm_and_no_good(run):
    """Langevin at a small noise level draws from the process plus that noise: 1 + 0.02² / 0.02, a fiftieth wider."""
    process = Process(run)
    records, finding = judged(run, process, right=langevin(truth(process), 0.02, 0.02**2 / 2))
    assert finding.verdict != "pass"
    times = records.one(metric="frechet_latents_times", split="test")
    assert times.low < 1 < times.high
    assert times.value == pytest.approx(1, abs=0.2)
    state = records.one(metric="state_error_difference", split="test")
    error = records.one(metric="state_error", model=NONE)
    assert abs(state.value) < 0.1 * error.value


def test_next_to_nothing_off_the_state_error_does_not_pass(run):
    """Draws three times too wide are mended, of a mean that is off by 0.01."""
    denoise = truth(Process(run))
    records, finding = judged(run, Process(run, drift=0.01, wider=3.0), right=lambda: Tweedie(denoise, 0.2))
    times, state = (
        records.one(metric=m, split="test", model=f"right - {NONE}")
        for m in ("frechet_latents_times", "state_error_difference")
    )
    assert times.high < 0.1
    assert -0.01 < state.value / records.one(metric="state_error", model=NONE).value < 0
    assert state.high < 0
    assert finding.verdict == "undecided"
    assert finding.measured == state


def to_the_mean(noisy, sigma, context):
    return 0.5 * noisy


def unmoved(noisy, sigma, context):
    return noisy


@pytest.mark.parametrize(
    ("wrong", "make", "judged_by"),
    [
        # Turns twice as fast, so that the mean is nearer to the truth; but there nothing moves.
        ({"turns": 2}, lambda: Tweedie(to_the_mean, 0.2), "frechet_latents_times"),
        # Draws that are too narrow are made as wide as they should be, and so are typical steps.
        ({"wider": 0.2}, langevin(unmoved, 0.2, 0.48 * STEP**2), "state_error_difference"),
        ({"drift": 0.1}, lambda: Tweedie(unmoved, 0.2), "frechet_latents_times"),
    ],
    ids=["collapses", "makes noise", "does nothing"],
)
def test_what_helps_in_one_way_or_none_fails(run, wrong, make, judged_by):
    records, finding = judged(run, Process(run, **wrong), it=make)
    assert (finding.verdict, finding.criterion.metric) == ("fail", judged_by)
    times, state = (
        records.one(metric=m, split="test", model=f"it - {NONE}")
        for m in ("frechet_latents_times", "state_error_difference")
    )
    if "turns" in wrong:
        assert state.high < 0
        assert times.low > 1
    if "wider" in wrong:
        assert times.high < 1
        assert state.low > 0


def test_the_corrector_is_chosen_on_validation_speakers_and_all_are_shown(run):
    model, denoise = Process(run, drift=0.1, wider=3.0), truth(Process(run))
    correctors = {"wrong": lambda: Tweedie(to_the_mean, 0.2), "right": lambda: Tweedie(denoise, 0.2)}
    records, finding = judged(run, model, **correctors)
    assert finding.words.startswith("right, the corrector")
    for split in ("validation", "test"):
        shown = {r.model for r in records.select(split=split, metric="state_error_difference")}
        assert shown == {f"right - {NONE}", f"wrong - {NONE}"}
    n = {s: records.select(split=s, model=f"right - {NONE}")[0].n_speakers for s in ("validation", "test")}
    frames = run.frames()
    assert n == {s: len(frames.speaker[frames.in_split(s)].unique()) for s in n}


def test_too_few_validation_speakers_choose_no_corrector(tmp_path):
    run = run_of(tmp_path, "world:ar:20", validation=0.1)
    model, denoise = Process(run, drift=0.1, wider=3.0), truth(Process(run))
    correctors = {"wrong": lambda: Tweedie(to_the_mean, 0.2), "right": lambda: Tweedie(denoise, 0.2)}
    records, finding = judged(run, model, **correctors)
    assert {r.n_speakers for r in records.select(split="validation", metric="frechet_latents_times")} == {2}
    assert finding.verdict == "undecided"
    assert finding.words.startswith("No corrector could be chosen: ")
    assert "prefer" not in finding.words
    assert decide([finding]).priors[3].why == "undecided: too few validation speakers to choose a corrector by"
    records, finding = judged(run, model, right=correctors["right"])  # of one there is nothing to choose
    assert finding.words.startswith("right, the only corrector: after 8 s")
    assert finding.verdict == "pass"


def test_where_all_break_on_validation_speakers_none_is_preferred(run):
    correctors = {name: lambda: Tweedie(breaking(7), 0.2) for name in ("bad", "worse")}
    _, finding = judged(run, Process(run), **correctors)
    assert finding.words.startswith("bad, the first of the correctors, all of which broke rollouts of validation")
    assert finding.verdict == "fail"


def test_what_langevin_adds_is_drawn_apart_from_the_increments(run, monkeypatch):
    seeds, where = [], "audio_engram.experiments.trajectories.seed_for"
    monkeypatch.setattr(where, lambda *purpose: seeds.append(seed_for(*purpose)) or seeds[-1])
    next(next(find_trajectories(run).batches(Process(run), 4, "correction")))
    corrector = recipes(run.config.experiments.correction)[1].make(run)
    assert seeds
    assert corrector.generator.initial_seed() not in seeds


def breaking(at, row=0):
    """A denoiser that returns NaN for one row, so many calls after it was made."""
    calls = []

    def denoise(noisy, sigma, context):
        calls.append(None)
        moved = noisy.clone()
        if len(calls) == at:
            moved[row] = torch.nan
        return moved

    return denoise


def test_a_corrector_that_returns_no_number_is_reported_with_its_step(run):
    records, finding = judged(run, Process(run), bad=lambda: Tweedie(breaking(7), 0.2))
    for mode in ("free_running", "sampled"):
        what = {"model": "bad", "mode": mode, "split": "test"}
        assert records.one(metric="corrector_broken_step", **what).value == 7
        assert 0 < records.one(metric="corrector_broken_share", **what).value < 0.2
    assert finding.verdict == "fail"
    assert finding.criterion.metric == "corrector_broken_share"
    assert "first at step 7" in finding.words


def test_a_corrector_that_drives_states_so_far_that_the_model_breaks_is_counted(run):
    """What it returns stays finite; the increment that the model makes of it does not."""
    calls = []

    def far(noisy, sigma, context):
        calls.append(len(noisy))
        moved = noisy.clone()
        moved[0] *= 1e30 if len(calls) % 8 == 7 else 1
        return moved

    class Overflows(Process):
        def expected(self, last):
            return super().expected(torch.where(last.abs() > 1e20, torch.nan, last))

    records, finding = judged(run, Overflows(run), bad=lambda: Tweedie(far, 0.2))
    what = {"model": "bad", "mode": "sampled", "split": "test"}
    assert 0 < records.one(metric="corrector_broken_share", **what).value < 0.2
    assert records.one(metric="corrector_broken_step", **what).value > 1
    assert records.one(metric="finite_share", **what).value < 1
    assert records.one(metric="finite_share", **(what | {"model": NONE})).value == 1
    assert records.one(metric="first_nonfinite_step", **(what | {"model": NONE})).value == 0
    assert finding.verdict == "fail"
    assert finding.criterion.metric == "corrector_broken_share"


def test_a_corrector_that_breaks_everything_is_a_measurement_too(run):
    def nothing(noisy, sigma, context):
        return noisy * torch.nan

    denoise = truth(Process(run))
    records, finding = judged(run, Process(run), bad=lambda: Tweedie(nothing, 0.2), good=lambda: Tweedie(denoise, 0.2))
    assert finding.words.startswith("good, the corrector")
    _, alone = judged(run, Process(run), bad=lambda: Tweedie(nothing, 0.2))
    assert alone.verdict == "fail"
    assert records.one(metric="corrector_broken_share", model="bad", mode="sampled", split="test").value == 1
    assert records.one(metric="corrector_broken_step", model="bad", mode="sampled", split="test").value == 1
    assert records.one(metric="frechet_latents_times", model=f"bad - {NONE}", split="test").value is None


def test_every_combination_is_tried_once():
    config = CorrectionConfig(levels=(0.1, 0.5), step_sizes=(0.1, 0.2), steps=(1, 3))
    names = [one.name for one in recipes(config)]
    assert len(names) == len(set(names)) == 2 * 2 * (1 + 2 * 2 * 2)
    assert "Tweedie, σ 0.1" in names
    assert "Langevin 3 × 0.2 σ², σ 0.5, given the context" in names
    assert "Langevin 1 × 0.1 σ² and Tweedie, σ 0.5" in names


def test_the_experiment_trains_its_denoisers_once(tmp_path, monkeypatch):
    # Two of six, one for each denoiser.
    monkeypatch.setattr(MODULE, "recipes", lambda config: recipes(config)[1:4:2])
    grid = {"levels": [0.3], "step_sizes": [0.1], "steps": [1], "seconds": 3.0}
    first = correction(run_of(tmp_path, "world:ar:24", **grid))
    kept = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    assert {"denoiser-conditional.safetensors", "denoiser-unconditional.safetensors"} < set(kept)
    lines = []
    again = run_of(tmp_path, "world:ar:24", lines.append, **grid)
    assert correction(again) == first
    assert not any("epoch" in line for line in lines)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == kept
    assert again.histories["denoiser-conditional"].finished
    assert denoiser(again, True).context == 2
    assert denoiser(again, False).context == 0
    records = Measurements(first.measurements)
    assert len({r.model for r in records.select(metric="state_error_difference", split="test")}) == 2
    # The same step with the true noise level: eps = 0.1 · 0.3².
    made = recipes(again.config.experiments.correction)[1].make(again)
    assert (made.sigma, made.step_size, made.n_steps, made.denoised) == (0.3, pytest.approx(0.009), 1, False)
    assert recipes(again.config.experiments.correction)[2].make(again).denoised


def test_bad_settings_are_one_line_before_anything_is_trained(tmp_path):
    with pytest.raises(UsageError, match=r"^experiments\.correction\.levels: 2: denoisers are trained at 0\.05 to 1: "):
        check_correction(run_of(tmp_path / "a", levels=[0.1, 2.0]))
    with pytest.raises(UsageError, match=r"^experiments\.correction\.regime: mdm: no such regime: use mdn, "):
        check_correction(run_of(tmp_path / "b", regime="mdm"))
    for name in ("mdn-tied-utterance", "mdn-tied-utterance-residuals"):
        with pytest.raises(UsageError, match=f"{name}: reads the utterance, which correctors know nothing of"):
            check_correction(run_of(tmp_path / name, regime=name))
    with pytest.raises(DataError, match=r"^validation split: no two speakers have"):
        check_correction(run_of(tmp_path / "c", "world:ar:3"))
    assert not list(tmp_path.glob("*/checkpoints"))
