"""Memories against their placebos: a null world, the same frames for all, what the verdict rests on, bad input."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.data.worlds import WORLDS
from audio_engram.distributions import DiagonalGaussian, VonMisesFisher
from audio_engram.dynamics.memory import MemoryHead
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.experiments.lengths import check_lengths
from audio_engram.experiments.memory import _Judged, criterion_for, without_memory
from audio_engram.experiments.outcome import show
from audio_engram.experiments.rollouts import baseline_nll
from audio_engram.experiments.same_trajectories import SameTrajectories
from audio_engram.forcing import free_running
from audio_engram.measurements import Measurement, Measurements
from audio_engram.metrics import predictor, score, score_rollouts
from audio_engram.regimes import PLACEBOS, memory_regime, placebos
from audio_engram.report.memories import memory_tables
from audio_engram.runs import Run
from audio_engram.training_loop import History

K = 8
ROLES = ("blend", "concentration")
STRENGTH = 0.3


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        patch.setattr(World, "frames", 150)
        yield


def run_of(folder, corpus="world:correlated:24", memory=None, **experiments):
    wanted = {"names": ["memory"], "memories": list(ROLES), "resamples": 1000, "steps": 4, "max_segments": 300}
    settings = {
        "device": "cpu",
        "data": {"corpus": corpus, "test": 0.4},
        "model": {"width": 16, "context": 4, "memory": {"prototypes": K, "key_width": 4} | (memory or {})},
        "train": {"epochs": 3, "batch_size": 256, "learning_rate": 2e-3, "precision": "float32"},
        "experiments": wanted | {"trajectories": 6, "stretch_seconds": 2.0} | experiments,
    }
    return Run(folder, make_config(settings), log=lambda line: None)


@pytest.fixture(scope="module")
def null(tmp_path_factory):
    run = run_of(tmp_path_factory.mktemp("null"))
    check_lengths(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("audio_engram.experiments.memory"), "STRENGTHS", (STRENGTH,))
        return run, EXPERIMENTS["memory"](run)


@pytest.fixture(scope="module")
def records(null):
    return Measurements(null[1].measurements)


def between(role, placebo):
    return f"memory-{role} - memory-{role}-{placebo}"


def test_there_is_nothing_to_remember_in_correlated_noise(null):
    """Seeds 0 to 9: within 0.024 nats of every placebo, where 0.08 is asked."""
    (finding,) = null[1].findings
    assert finding.verdict == "fail"
    assert finding.criterion.threshold == pytest.approx(-0.01 * null[0].frames().dim)
    assert finding.criterion == criterion_for(null[0])


class Selected(World):
    """Two frames at a time: one by one of eight centres, and a step in the direction that belongs to this centre."""

    name, dim, n = "selected", 32, 8

    def utterance(self, generator, speaker):
        fixed, half = torch.Generator().manual_seed(5), 20
        directions = torch.nn.functional.normalize(torch.randn(self.n, self.dim, generator=fixed), dim=1)
        centres = torch.randn(self.n, self.dim, generator=fixed)
        which = torch.randint(self.n, (half,), generator=generator)
        start = centres[which] + 0.1 * torch.randn(half, self.dim, generator=generator)
        towards = VonMisesFisher(directions[which], torch.full((half,), 60.0)).sample(generator=generator)
        length = (0.3 * torch.randn(half, 1, generator=generator)).exp()
        return torch.stack([start, start + length * towards], 1).flatten(0, 1)


def test_it_passes_where_contexts_select_among_a_few_directions_and_speech_is_scarce(tmp_path, monkeypatch):
    """Seeds 0 to 5: ahead of every placebo each time, by 0.1 to 1.2 nats; 0.32 is asked, which 4 of them reach."""
    monkeypatch.setitem(WORLDS, "selected", Selected)
    config = run_of(tmp_path / "settings", "world:selected:24", {"prototypes": 16, "key_width": 16}).config
    memory = config.model.memory.model_copy(update={"learned": False})
    model = config.model.model_copy(update={"width": 32, "depth": 1, "context": 2, "memory": memory})
    train = config.train.model_copy(
        update={"epochs": 30, "batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.01}
    )
    changed = {"model": model, "train": train}
    run = Run(tmp_path / "run", config.model_copy(update=changed), log=lambda line: None)
    same = SameTrajectories(run, "memory")
    finding = _Judged(same, "blend", same.tried("vmf", run.model("vmf"))).finding()
    assert finding.verdict == "pass"
    assert finding.measured.high < finding.criterion.threshold == pytest.approx(-0.32)


def test_every_placebo_has_as_many_parameters(records):
    for role in ROLES:
        mine = records.one(model=f"memory-{role}", metric="parameters").value
        assert mine > records.one(model="vmf", metric="parameters").value
        for placebo in placebos(role):
            other = records.one(model=f"memory-{role}-{placebo}", metric="parameters").value
            assert other == mine if placebo != "matched" else abs(other - mine) <= 17


def test_the_verdict_rests_on_the_placebo_that_the_memory_is_least_ahead_of(null, records):
    run, (finding,) = null[0], null[1].findings
    behind = {
        role: run.histories[f"regime-memory-{role}"].best
        - min(run.histories[f"regime-memory-{role}-{name}"].best for name in placebos(role))
        for role in ROLES
    }
    role = min(ROLES, key=lambda name: behind[name])
    found = [records.one(model=between(role, name), metric="delta_nll_difference") for name in placebos(role)]
    assert finding.measured in found
    assert finding.measured.high == max(one.high for one in found)
    assert finding.words.startswith(memory_regime(role).words.capitalize())


def test_the_words_carry_the_numbers(null, records):
    (finding,) = null[1].findings
    role = finding.measured.model.split(" - ")[0].removeprefix("memory-")
    for name in placebos(role):
        difference = records.one(model=between(role, name), metric="delta_nll_difference")
        assert f"{PLACEBOS[name]} {show(difference)}" in finding.words
    nearest = finding.measured.model
    for metric in ("delta_nll_rollout_difference", "frechet_latents_times"):
        assert show(records.one(model=nearest, metric=metric)) in finding.words
    assert show(records.one(model=f"memory-{role}", metric="prototypes_at_once")) in finding.words
    assert f"{K} prototypes" in finding.words
    assert "must be below −0.08" in finding.words
    beside = finding.words.partition("Not judged")[2]
    for metric in ("delta_nll_difference", "frechet_latents_times"):
        assert show(records.one(model="residual-memory - vmf", metric=metric)) in beside
    assert "Lower is better in all of these." in finding.words
    assert f"{records.one(model=nearest, metric='frechet_latents_times').n_frames} sampled rollouts" in finding.words


def test_a_difference_is_that_of_the_same_frames(null, records):
    run = null[0]
    windows, ar1 = run.windows("test", 1), predictor(run.baseline("ar1"), False)
    index = windows.with_valid_target()
    nll = [
        score(predictor(run.trained(memory_regime("blend", name)), False), windows, index, ar1).nll
        for name in ("none", "one")
    ]
    expected = run.bootstrap(run.frames().speaker[windows.target[index]]).mean(nll[0] - nll[1])
    found = records.one(model=between("blend", "one"), metric="delta_nll_difference")
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    own, other = (records.one(model=f"memory-blend{name}", metric="delta_nll") for name in ("", "-one"))
    assert own.value - other.value == pytest.approx(found.value, abs=1e-9)
    increment = score(predictor(run.baseline("increment"), False), windows, index, ar1).nll
    assert own.value == pytest.approx(float((nll[0] - increment).mean()))


def test_rollouts_are_counted_from_the_second_step_on(null, records):
    run = null[0]
    windows = run.windows("test", 4)
    index = windows.evenly(300)
    found = []
    for name in ("none", "matched"):
        model, mask = run.trained(memory_regime("concentration", name)), {"D": free_running(4)}
        found.append(score_rollouts(model, windows, index, mask, run.baseline("ar1").last)["D"])
    difference, valid = (found[0].nll - found[1].nll)[:, 1:], found[0].valid[:, 1:]
    told = records.one(model=between("concentration", "matched"), metric="delta_nll_rollout_difference")
    assert told.value == pytest.approx(float(difference[valid].mean()))
    assert (told.mode, told.step) == ("free_running", 4)
    above = (found[0].nll - baseline_nll(run.baseline("increment"), windows, index))[:, 1:][valid]
    own = records.one(model="memory-concentration", metric="delta_nll_rollout")
    assert own.value == pytest.approx(float(above.mean()))
    nearer = records.one(model=between("concentration", "matched"), metric="state_error_difference")
    errors = (found[0].state_error - found[1].state_error)[found[0].valid[:, 3], 3]
    assert nearer.value == pytest.approx(float(errors.mean()))


def test_what_is_read_is_told(records):
    for role in ROLES:
        held = {m.metric: m for m in records.select(model=f"memory-{role}", split="test")}
        assert 1 <= held["prototypes_at_once"].low <= held["prototypes_at_once"].value
        assert held["prototypes_at_once"].value <= held["prototypes_in_use"].value + 1e-6 <= K + 1e-5
        assert 0 <= held["prototypes_apart"].value < 0.5
        assert ("prototype_gate" in held) == (role == "blend")
        assert len(records.select(model=f"memory-{role}", metric="prototypes_in_use", split="train")) == 1
    assert 0 < records.one(metric="prototype_gate").low < 1
    assert not records.select(model="memory-blend-one", metric="prototypes_in_use")


def test_residual_memory_and_anchors_are_held_against_the_model_without_a_memory(records):
    assert records.one(model="residual-memory - vmf", metric="delta_nll_difference").low is not None
    names = f"anchor-{STRENGTH}", f"towards-mean-{STRENGTH}"
    for model in (f"{names[0]} - vmf", f"{names[1]} - vmf", f"{names[0]} - {names[1]}"):
        told = {m.metric for m in records.select(model=model)}
        assert told >= {"state_error_difference", "frechet_latents_times"}
        # A corrector says nothing of true contexts.
        assert "delta_nll_difference" not in told
    assert not records.select(model=names[0], metric="delta_nll")
    # In noise around a mean the true mean is the best guess of what comes, so that a pull towards it is a gain.
    pulled = records.one(model=f"{names[1]} - vmf", metric="state_error_difference")
    assert pulled.high < 0


def test_every_model_has_its_own_checkpoint_and_goes_on_from_it(null, monkeypatch):
    run = null[0]
    names = {f"regime-{memory_regime(role, name).name}" for role in ROLES for name in ("none", *placebos(role))}
    assert {path.stem for path in (run.folder / "checkpoints").glob("*.safetensors")} == names | {"vmf-lag1"}

    def never(*_):
        raise AssertionError("trained again")

    again = Run(run.folder, run.config, log=run.log, source=run.source)
    monkeypatch.setattr("audio_engram.train.teacher_forced_loss", never)
    for regime in (memory_regime(role, name) for role in ROLES for name in ("none", *placebos(role))):
        weights = again.trained(regime).state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in run.trained(regime).state_dict().items())


def test_the_report_has_the_placebos_in_tables(records):
    models, differences, use = memory_tables(records.select(split="test"))
    blended = "memory blended into the direction"
    assert [row[:2] for row in models.rows][:3] == [
        ("no memory", ""),
        (blended, ""),
        (blended, "placebo: shuffled keys"),
    ]
    assert models.columns[2:4] == ("parameters", "ΔNLL")
    first = records.one(model="memory-blend - vmf", metric="delta_nll_difference")
    assert differences.rows[0][:3] == (blended, "no memory", show(first))
    assert [row[0] for row in use.rows] == ["memory blended into the direction", "memory for the concentration"]
    assert show(records.one(metric="prototype_gate")) in use.rows[0]
    for row in (*models.rows, *differences.rows):
        assert not any("memory-" in cell or "_" in cell for cell in row), row


@pytest.fixture(scope="module")
def same(null):
    return SameTrajectories(null[0], "memory")


class Given(torch.nn.Module):
    """White noise as it is; or, with a drift, one that walks away by as much in every dimension and step."""

    def __init__(self, drift=0.0):
        super().__init__()
        self.drift = torch.nn.Parameter(torch.tensor(drift))

    def forward(self, context):
        loc = self.drift.expand_as(context[:, -1]) if self.drift else -context[:, -1]
        return DiagonalGaussian(loc, torch.ones_like(loc))


def test_what_is_exactly_worse_is_so_in_every_figure(same):
    right, wrong = same.tried("right", Given()), same.tried("wrong", Given(2.0))
    assert right.parameters == 1
    told = {m.metric: m for m in same.differences(right, wrong)}
    assert told["delta_nll_difference"].high < -5
    assert told["delta_nll_rollout_difference"].high < 0
    assert told["state_error_difference"].high < 0
    assert told["frechet_latents_times"].high < 0.5
    assert told["delta_nll_difference"].model == "right - wrong"
    back = {m.metric: m for m in same.differences(wrong, right)}
    assert back["delta_nll_difference"].value == pytest.approx(-told["delta_nll_difference"].value)
    nothing = {m.metric: m for m in same.differences(right, right)}
    assert nothing["delta_nll_difference"].value == nothing["state_error_difference"].value == 0
    assert nothing["frechet_latents_times"].value == pytest.approx(1)


def test_sampled_trajectories_have_the_same_draws_for_all(same):
    one, again = same.tried("a", Given()), same.tried("b", Given())
    assert torch.equal(one.traits.latents, again.traits.latents)


@pytest.mark.parametrize("loss", [torch.nan, torch.inf, 1e300])
def test_what_explodes_is_an_enormous_loss_and_not_a_missing_one(same, loss):
    right = same.tried("right", Given())
    nll = right.rolled.nll.clone()
    nll[3:, 2:] = loss
    broken = replace(right, name="broken", rolled=replace(right.rolled, nll=nll))
    for found in (same.records(broken), same.differences(broken, right)):
        (told,) = (m for m in found if m.metric.startswith("delta_nll_rollout"))
        assert 1e8 < told.low < told.high <= 1e9


def judged(same, ends, role="blend"):
    """A memory whose differences have these intervals."""
    one = object.__new__(_Judged)
    one.same, one.role, one.regime = same, role, memory_regime(role)

    def record(metric, model, low, high):
        known = {"experiment": "memory", "n_speakers": 9, "model": model, "metric": metric}
        return Measurement(value=(low + high) / 2, low=low, high=high, **known)

    one.differences = {
        name: [record(metric, name, *interval) for metric in METRICS]
        for name, interval in zip(placebos(role), ends, strict=True)
    }
    one.use = [record(metric, "memory", 1.0, 2.0) for metric in ("prototypes_at_once", "prototypes_in_use")]
    return one


def test_what_the_run_has_tried_would_not_change_it(same):
    blend, other = (judged(same, (BAD,) * len(placebos(role)), role).finding() for role in ROLES)
    assert "that started from clusters of increments" in blend.words
    assert "started" not in other.words
    assert blend.would_change.startswith("8 archetypes to start from (the experiment archetypes before it) or another")
    assert other.would_change.startswith("Another number")
    assert "experiments.memories: alone, magnitude)" in other.would_change


def test_a_memory_says_that_it_started_from_archetypes(same, monkeypatch):
    monkeypatch.setattr(Run, "kept_archetypes", lambda run, count: run.folder / str(count))
    finding = judged(same, (BAD,) * 4).finding()
    assert f"{K} prototypes that started from this run's archetypes." in finding.words
    assert "archetypes" not in finding.would_change


METRICS = ("delta_nll_difference", "delta_nll_rollout_difference", "frechet_latents_times")
GOOD, NARROW, NEAR, BAD = (-3.0, -2.0), (-0.3, -0.09), (-2.0, -0.07), (-0.07, 0.5)


@pytest.mark.parametrize(
    ("ends", "verdict", "binding"),
    [
        ((GOOD, GOOD, NARROW, GOOD), "pass", "one"),
        ((GOOD, NEAR, GOOD, NARROW), "undecided", "random"),
        ((BAD, GOOD, GOOD, GOOD), "fail", "shuffled_keys"),
        ((GOOD, NEAR, GOOD, BAD), "fail", "matched"),
    ],
)
def test_it_passes_beyond_every_placebo_with_its_whole_interval(same, ends, verdict, binding):
    finding = judged(same, ends).finding()
    assert finding.verdict == verdict
    assert finding.measured.model == binding
    assert finding.cause == ("straddles" if verdict == "undecided" else "")


def test_of_several_memories_validation_says_which_is_judged(null, monkeypatch):
    """Never the test speakers: the best of several on them would be the luckiest."""
    run = null[0]
    losses = {"memory-blend": 1.0, "memory-concentration": 5.0}
    losses |= {memory_regime("blend", name).name: 1.5 for name in placebos("blend")}
    losses |= {memory_regime("concentration", name).name: 6.0 for name in placebos("concentration")}
    fake = {f"regime-{name}": History(best=loss) for name, loss in losses.items()}
    one, other = (object.__new__(_Judged) for _ in ROLES)
    for mine, role in ((one, "blend"), (other, "concentration")):
        mine.same, mine.role, mine.regime = SameTrajectories.__new__(SameTrajectories), role, memory_regime(role)
        mine.same.run = run
    monkeypatch.setattr(run, "histories", fake)
    assert (one.preferred, other.preferred) == (-0.5, -1.0)
    fake["regime-memory-concentration-matched"] = replace_best(fake, 4.0)
    assert other.preferred == 1.0


def replace_best(histories, best):
    return replace(histories["regime-memory-concentration-matched"], best=best)


def test_a_configured_memory_leaves_the_model_without_one_as_it_is(tmp_path):
    run = run_of(tmp_path, memory={"direction": "blend"})
    assert isinstance(run.model("vmf").head, MemoryHead)
    assert not isinstance(without_memory(run).head, MemoryHead)


def test_bad_settings_are_one_line_before_anything_is_trained(tmp_path):
    n = 10**6
    for place, names in enumerate((["memory"], ["stability"])):
        run = run_of(tmp_path / str(place), memory={"prototypes": n}, names=names, regimes=["memory-blend-one"])
        with pytest.raises(UsageError, match=r"^model.memory.prototypes = 1000000: the training split has \d+ frames"):
            check_lengths(run)
    run_of(tmp_path / "none", memory={"prototypes": n}, names=["stability"], regimes=["mdn"])
    check_lengths(run_of(tmp_path / "none", memory={"prototypes": n}, names=["stability"], regimes=["mdn"]))
    run = run_of(tmp_path / "short", stretch_seconds=1000.0)
    with pytest.raises(DataError, match=r"lower .*experiments.stretch_seconds"):
        check_lengths(run)
    run = run_of(tmp_path / "steps", steps=1000)
    with pytest.raises(DataError, match=r"lower .*experiments.steps"):
        check_lengths(run)
    assert not any(tmp_path.glob("*/checkpoints/*"))


@pytest.mark.parametrize("roles", [[], ["nosuch"], ["blend", "blend"]])
def test_roles_that_cannot_be_are_one_line(roles):
    with pytest.raises(UsageError, match=r"experiments.memories") as caught:
        make_config({"experiments": {"memories": roles}})
    assert "\n" not in str(caught.value)
