"""Memories and their placebos as trainings of a run: what each starts from, and what all have in common."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from audio_engram import models
from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.data.windows import Windows
from audio_engram.dynamics.memory import MatchedHead, MemoryHead
from audio_engram.errors import DataError, UsageError
from audio_engram.regimes import MEMORIES, PLACEBOS, ROLES, memory_regime, placebos, regime
from audio_engram.runs import Run
from toys import make_frames, walk

K = 6
SMALL = {
    "device": "cpu",
    "data": {"corpus": "world:ar:8", "test": 0.4},
    "model": {"width": 16, "context": 2, "memory": {"prototypes": K, "key_width": 5, "sharpness": 7.0}},
    "train": {"epochs": 1, "batch_size": 256, "precision": "float32"},
}


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 1)
        yield


def run_of(folder, **memory):
    model = SMALL["model"] | {"memory": SMALL["model"]["memory"] | memory}
    return Run(folder, make_config(SMALL | {"model": model}), log=lambda line: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("run"))


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", MEMORIES)
def test_every_memory_is_trained_in_its_role_and_keeps_the_configured_sizes(run, name):
    model, (role, _, placebo) = run.trained(regime(name)), name.removeprefix("memory-").partition("-")
    memory = model.config.memory
    if placebo != "matched":
        assert {key: getattr(memory, key) for key in ROLES[role][1]} == ROLES[role][1]
    assert (memory.direction != "none") + memory.concentration + memory.magnitude == 1
    assert memory.placebo == (placebo or "none")
    assert (memory.prototypes, memory.key_width, memory.sharpness) == (K, 5, 7.0)
    assert isinstance(model.head, MatchedHead if placebo == "matched" else MemoryHead)
    assert abs(count(model) - count(run.trained(regime(f"memory-{role}")))) <= (17 if placebo == "matched" else 0)
    trained = run.training_of(regime(name)).name
    assert (run.folder / "checkpoints" / f"regime-{trained}.safetensors").exists()


def test_a_role_has_every_placebo_that_differs_from_it():
    assert placebos("blend") == placebos("alone") == list(PLACEBOS)
    for role in ("concentration", "magnitude"):
        assert placebos(role) == ["shuffled_keys", "one", "matched"]
    assert len(MEMORIES) == 18


def test_the_default_regimes_have_no_memory():
    assert not set(make_config({}).experiments.regimes) & set(MEMORIES)


def test_a_memory_of_no_such_name_is_one_line():
    for name in ("memory-blend-matched2", "memory-magnitude-random", "memory"):
        with pytest.raises(UsageError, match=rf"{name}: no such regime: use mdn, .* or memory-blend\|alone"):
            regime(name)


def untrained(run, name, monkeypatch):
    """The model as it would start."""
    with monkeypatch.context() as patch:
        patch.setattr(models, "fit", lambda *_: models.History(finished=True))
        return Run(run.folder, run.config, log=run.log, source=run.source).trained(regime(name))


def test_all_start_from_the_same_clusters_but_random_prototypes(run, monkeypatch):
    start = run.prototypes(K)
    delta = run.windows("train", 1).increments(run.windows("train", 1).with_valid_target())
    cosine = torch.nn.functional.normalize(delta, dim=1) @ start.T
    assert start.shape == (K, run.frames().dim)
    nearest = cosine.max(1).values.mean()
    heads = {name: untrained(run, name, monkeypatch).head for name in MEMORIES if "matched" not in name}
    for name, head in heads.items():
        if not hasattr(head.memory, "directions"):
            continue
        given = head.memory.directions.detach()
        if name.endswith("random"):
            assert (torch.nn.functional.normalize(delta, dim=1) @ given.T).max(1).values.mean() < 0.9 * nearest
        elif name.endswith("-one"):
            assert torch.equal(given, start[:1].expand_as(given))
        else:
            assert torch.equal(given, start)
    weights = {name: head.linear.weight for name, head in heads.items()}
    assert all(torch.equal(one, weights["memory-blend"]) for one in weights.values())


def test_archetypes_that_the_run_has_kept_are_what_a_memory_starts_from(tmp_path, monkeypatch):
    run = run_of(tmp_path)
    rows = torch.nn.functional.normalize(torch.randn(K, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    (tmp_path / "prototypes").mkdir()
    save_file({"directions": rows, "scale": run.frames().scale}, tmp_path / "prototypes" / f"k{K}.safetensors")
    assert torch.equal(run.prototypes(K), rows)
    assert torch.equal(untrained(run, "memory-alone", monkeypatch).head.memory.directions.detach(), rows)
    save_file({"directions": 2 * rows}, tmp_path / "prototypes" / f"k{K + 1}.safetensors")
    with pytest.raises(DataError, match="damaged"):
        run.prototypes(K + 1)


def test_clusters_point_where_increments_do():
    frames = make_frames([walk(40, 4, seed=i, dtype=torch.float32) for i in range(2)], ["train", "test"])
    start = models._clustered(Windows(frames, "train", 2, 1), 3, seed=0)
    torch.testing.assert_close(start.norm(dim=1), torch.ones(3))
    assert (start[:, 0] > 0.1).all()  # every step of such a walk goes on by 1 in its first coordinate


def test_memory_and_placebos_see_the_same_examples(run, monkeypatch, tmp_path):
    seeds = {}
    again = Run(tmp_path, run.config, log=run.log, source=run.source)
    real = models.fit

    def noted(model, windows, train, seed, path, progress):
        seeds[path.stem] = seed
        return real(model, windows, train, seed, path, progress)

    monkeypatch.setattr(models, "fit", noted)
    for name in ("memory-blend", "memory-blend-one", "memory-magnitude-matched", "vmf-noise"):
        again.trained(regime(name))
    alike = {seed for name, seed in seeds.items() if name.startswith("regime-memory")}
    assert len(seeds) == 4
    assert len(alike) == 1
    assert alike != {seeds["regime-vmf-noise"]}


def fitted_alone(run, name):
    """The weights of a regime, trained in its own role whatever stands for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "training_of", lambda self, one: one)
        return run.trained(regime(name))


def test_layers_that_are_as_wide_are_one_training_to_the_last_bit(run, tmp_path):
    """K = 6 at width 16: a layer of 6 in place of directions, of 4 in place of either kind of scales."""
    first = {"alone": "blend", "magnitude": "concentration"}
    apart = Run(tmp_path, run.config, log=run.log, source=run.source)
    for role in ROLES:
        name = f"memory-{role}-matched"
        assert run.training_of(regime(name)) == regime(f"memory-{first.get(role, role)}-matched")
        mine, own = run.trained(regime(name)), fitted_alone(apart, name)
        assert own.config.memory.direction == ROLES[role][1].get("direction", "none")
        weights = own.state_dict()
        assert weights.keys() == mine.state_dict().keys()
        assert all(torch.equal(value, weights[key]) for key, value in mine.state_dict().items())
        assert (name == run.training_of(regime(name)).name) == (f"regime-{name}" in run.histories)
    layers = {run.trained(regime(f"memory-{role}-matched")).head.linear.wide.out_features for role in ROLES}
    assert layers == {6, 4}


def test_what_is_no_layer_in_a_memorys_place_is_trained_in_its_own_role(run):
    changed = replace(regime("memory-alone-matched"), stream="another")
    for one in (changed, *map(regime, ("memory-alone", "memory-alone-one", "memory-magnitude-shuffled_keys", "mdn"))):
        assert run.training_of(one) is one


def test_roles_whose_layers_are_not_as_wide_are_trained_apart(tmp_path):
    run = run_of(tmp_path, prototypes=60)
    assert run.training_of(regime("memory-magnitude-matched")).name == "memory-magnitude-matched"


def test_a_memory_is_taken_from_its_checkpoint(run, monkeypatch):
    def never(*_):
        raise AssertionError("trained again")

    trained = run.trained(regime("memory-blend"))
    again = Run(run.folder, run.config, log=run.log, source=run.source)
    monkeypatch.setattr("audio_engram.train.teacher_forced_loss", never)
    taken = again.trained(regime("memory-blend")).state_dict()
    assert all(torch.equal(value, taken[key]) for key, value in trained.state_dict().items())


def test_a_configured_memory_is_that_of_every_vmf_head(tmp_path):
    run = run_of(tmp_path, direction="blend", concentration=True)
    assert isinstance(run.model("vmf").head, MemoryHead)
    assert not hasattr(run.model("mdn").head, "memory")
    # A regime's memory has the regime's role and no other.
    assert not run.trained(memory_regime("alone")).config.memory.concentration


def test_more_prototypes_than_increments_are_one_line(tmp_path):
    run = run_of(tmp_path, prototypes=10**6)
    n = len(run.windows("train", 1).with_valid_target())
    for name in ("memory-blend", "memory-blend-random", "memory-magnitude", "memory-blend-matched"):
        message = f"model.memory.prototypes = 1000000: the training split has {n} frames for it: use at most that"
        with pytest.raises(UsageError, match=message):
            run.trained(regime(name))
    assert not any((tmp_path / "checkpoints").glob("*"))


def test_roles_and_placebos_are_those_of_the_configuration():
    for one in MEMORIES.values():
        make_config({"model": {"memory": one.memory}})
