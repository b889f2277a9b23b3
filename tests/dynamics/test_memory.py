"""The memory head: its contract as a model, what it reads for a given alpha, and the limits of its gate."""

import numpy as np
import pytest
import torch
from memory_toys import B, D, K, configured, contexts, directions, lively, started

from audio_engram.config import Config, ModelConfig, TrainConfig, make_config, read_config
from audio_engram.data.windows import Windows
from audio_engram.distributions import Polar
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import PolarHead, measure_start
from audio_engram.dynamics.memory import MemoryHead
from audio_engram.dynamics.model import make_model
from audio_engram.dynamics.prototypes import with_prototypes
from audio_engram.errors import UsageError
from audio_engram.forcing import free_running
from audio_engram.rollout import rollout
from audio_engram.train import describe, fit, load_model
from toys import ar_frames

EVERY = {"concentration": True, "magnitude": True}
VARIANTS = {
    "blend": configured(),
    "alone": configured(direction="alone"),
    "kappa": configured(direction="none", concentration=True),
    "magnitude": configured(direction="none", magnitude=True),
    "every role": configured(**EVERY),
    "coupled": configured(**EVERY).model_copy(update={"concentration": "coupled", "magnitude_components": 2}),
    "frozen": configured(learned=False),
    "gru": configured().model_copy(update={"backbone": "gru"}),
    "shuffled keys": configured(placebo="shuffled_keys", **EVERY),
    "random": configured(placebo="random", **EVERY),
    "one": configured(placebo="one", **EVERY),
    "matched": configured(placebo="matched", **EVERY),
}
UNUSED = {
    "alone": {"head.last"},
    "frozen": {"head.memory.directions"},
    "one": {"head.memory.keys", "head.memory.log_sharpness"},
}


@pytest.fixture(params=VARIANTS)
def made(request):
    return lively(VARIANTS[request.param]), request.param


def delta(n=B):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def addressed(k, **memory):
    """A model that reads prototype k alone, whatever the context."""
    config = configured(key_width=K, sharpness=1000.0, **memory)
    model = lively(config)
    with torch.no_grad():
        model.head.memory.log_sharpness.zero_()
        model.head.memory.keys.copy_(3 * torch.eye(K, dtype=torch.float64))
        model.head.linear.weight[-K:] = 0.0
        model.head.linear.bias[-K:] = torch.eye(K, dtype=torch.float64)[k]
    return model


def gated(logit, **roles):
    """A blending model whose gate is the same in every context."""
    model = lively(configured(**roles))
    gate = len(model.head.linear.bias) - 1 - model.config.memory.key_width
    with torch.no_grad():
        model.head.linear.weight[gate], model.head.linear.bias[gate] = 0.0, logit
    return model


def test_shapes_and_density(made):
    model, _ = made
    distribution = model(contexts().double())
    assert isinstance(distribution, Polar)
    assert distribution.batch_shape == (B,)
    assert distribution.event_shape == (D,)
    log_prob = distribution.log_prob(delta())
    assert log_prob.dtype == torch.float64
    assert log_prob.isfinite().all()
    torch.testing.assert_close(distribution.direction.norm(dim=1), torch.ones(B, dtype=torch.float64))
    rolled = rollout(model, contexts().double(), free_running(5))
    assert rolled.latents.isfinite().all()


def test_gradients_reach_every_parameter_that_is_used(made):
    model, name = made
    (-model(contexts().double()).log_prob(delta()).mean()).backward()
    for key, parameter in model.named_parameters():
        if key in UNUSED.get(name, ()):
            assert parameter.grad is None, key
        else:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", VARIANTS)
def test_a_seed_gives_one_model(name):
    torch.manual_seed(99)  # of no consequence
    one, again, other = (make_model("vmf", VARIANTS[name], started(), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    drawn = {key for key in one if key.endswith(("keys", "directions"))}
    assert all(not torch.equal(one[key], other[key]) for key in drawn | {"head.linear.weight"})
    assert drawn or name == "matched"


def test_weights_survive_the_state_dict(made):
    model, name = made
    other = make_model("vmf", VARIANTS[name], started(), seed=7).double()
    other.load_state_dict(model.state_dict())
    context = contexts().double()
    with torch.no_grad():
        assert torch.equal(model(context).log_prob(delta()), other(context).log_prob(delta()))


@pytest.mark.parametrize("name", ["every role", "coupled", "frozen", "matched", "one"])
def test_a_checkpoint_is_enough_to_build_the_model_again(name, tmp_path):
    frames, config = ar_frames(dim=D), VARIANTS[name]
    windows = tuple(Windows(frames, split, config.context, 1) for split in ("train", "validation"))
    start = with_prototypes(
        measure_start(windows[0], fit_baseline("ar1", windows[0])), config, windows[0], directions()
    )
    model = make_model("vmf", config, start, seed=0)
    path = tmp_path / "memory.safetensors"
    fit(model, windows, TrainConfig(epochs=1, batch_size=64, precision="float32"), 0, path)
    loaded = load_model(path)
    assert describe(loaded) == describe(model)
    with torch.no_grad():
        assert torch.equal(model(contexts()).log_prob(delta()), loaded(contexts()).log_prob(delta()))
    if name == "frozen":
        assert torch.equal(loaded.head.memory.directions, directions())
    elif name != "matched":
        assert not torch.equal(loaded.head.memory.directions, start.prototypes)


@pytest.mark.parametrize("k", range(K))
def test_with_one_prototype_addressed_its_direction_and_offsets_are_read(k):
    model = addressed(k, direction="alone", **EVERY)
    head, memory = model.head, model.head.memory
    context = contexts().double()
    raw = model.outputs(context)
    assert torch.equal(head.weights(raw, context[:, -1]), torch.eye(K, dtype=torch.float64)[k].expand(B, K))
    distribution = model(context)
    unit = memory.directions[k] / memory.directions[k].norm()
    torch.testing.assert_close(distribution.direction, unit.expand(B, D))
    with torch.no_grad():
        kappa, loc, log_scale = raw[:, [D, D + 2, D + 3]].double().T  # without the memory
        kappa = head.log_concentration + kappa + memory.concentrations[k, 0]
        loc = head.centre[0] + loc + memory.magnitudes[k, 0]
        log_scale = head.centre[1] + log_scale + memory.magnitudes[k, 1]
    torch.testing.assert_close(distribution.concentration.log(), kappa)
    torch.testing.assert_close(distribution.magnitude.loc, loc)
    torch.testing.assert_close(distribution.magnitude.scale.log(), log_scale)


def test_alpha_is_the_softmax_of_sharpened_cosines_and_the_direction_their_mean():
    model = lively(configured(direction="alone"))
    memory, context = model.head.memory, contexts().double()
    with torch.no_grad():
        raw = model.outputs(context)
        alpha, direction = model.head.weights(raw, context[:, -1]).numpy(), model(context).direction.numpy()
        query, keys, table = raw[:, -3:].double().numpy(), memory.keys.numpy(), memory.directions.numpy()
        beta = 10.0 * np.exp(memory.log_sharpness.item())
    cosine = (query @ keys.T) / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(keys, axis=1)
    expected = np.exp(beta * cosine) / np.exp(beta * cosine).sum(1, keepdims=True)
    np.testing.assert_allclose(alpha, expected, rtol=1e-9)
    towards = expected @ (table / np.linalg.norm(table, axis=1, keepdims=True))
    np.testing.assert_allclose(direction, towards / np.linalg.norm(towards, axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize(("offset", "beta"), [(0.0, 10.0), (1.0, 27.18281828), (99.0, 1000.0), (-99.0, 0.1)])
def test_sharpness_is_learned_within_limits(offset, beta):
    memory = lively(configured()).head.memory
    with torch.no_grad():
        memory.log_sharpness.fill_(offset)
    assert memory.sharpness.item() == pytest.approx(beta)


def test_a_closed_gate_is_the_head_without_a_memory():
    model = gated(-1e4)
    plain = make_model("vmf", configured(direction="none"), started(), seed=4).double()
    state = {key: value for key, value in model.state_dict().items() if ".memory." not in key}
    for name in ("head.linear.weight", "head.linear.bias"):
        state[name] = state[name][: plain.head.n_outputs]
    plain.load_state_dict(state)
    context = contexts().double()
    torch.testing.assert_close(model(context).log_prob(delta()), plain(context).log_prob(delta()), rtol=1e-12, atol=0)


def test_an_open_gate_is_the_memory_alone():
    model = gated(1e4, **EVERY)
    alone = make_model("vmf", configured(direction="alone", **EVERY), started(), seed=4).double()
    alone.load_state_dict(model.state_dict())
    context = contexts().double()
    torch.testing.assert_close(model(context).log_prob(delta()), alone(context).log_prob(delta()), rtol=1e-12, atol=0)


def test_between_the_limits_the_gate_blends():
    model, context = gated(2.0), contexts().double()  # 2 makes up for where it starts: one half
    ends = [gated(logit)(context).direction for logit in (-1e4, 1e4)]
    expected = torch.nn.functional.normalize(ends[0] + ends[1], dim=1)
    torch.testing.assert_close(model(context).direction, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(model.head.gate(model.outputs(context)), torch.full((B,), 0.5))


def test_a_blending_head_starts_an_eighth_of_the_way_from_the_autoregression_to_the_memory():
    model = make_model("vmf", configured(), started(directions()), seed=0)
    with torch.no_grad():
        model.head.linear.weight.zero_()
    context = contexts()
    regressed = torch.nn.functional.normalize(started().last * context[:, -1], dim=1)
    # Without a query all prototypes count alike.
    memory = torch.nn.functional.normalize(directions().mean(0), dim=0)
    expected = torch.nn.functional.normalize(regressed + 0.11920292 * (memory - regressed), dim=1)
    torch.testing.assert_close(model(context).direction, expected)


def test_prototypes_are_directions_of_standardised_increments():
    # Not in units of the AR(1) residual, as the parametric direction is.
    model = addressed(2, direction="alone")
    with torch.no_grad():
        model.head.memory.directions.copy_(directions())
    assert not torch.equal(model.head.scale, torch.ones_like(model.head.scale))
    torch.testing.assert_close(model(contexts().double()).direction, directions()[2].double().expand(B, D))


def test_half_precision_is_for_training_alone():
    config = configured(**EVERY).model_copy(update={"dropout": 0.0})
    model = make_model("vmf", config, started(directions()), seed=0)
    exact = model(contexts()).direction
    model.precision = torch.bfloat16
    model.train()
    rough = model(contexts()).direction
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
    assert torch.equal(model.eval()(contexts()).direction, exact)


def test_another_number_of_prototypes_is_refused():
    with pytest.raises(UsageError, match=r"prototypes = 4 in 6 dimensions: given are 5 in 6: give as many"):
        make_model("vmf", configured(), started(directions(K + 1)), seed=0)


def test_off_unless_asked():
    model = make_model("vmf", ModelConfig(context=3, width=16), started(directions()), seed=0)
    assert type(model.head) is PolarHead
    assert not any("memory" in key for key in model.state_dict())
    assert "memory" not in describe(model)["config"]
    assert "memory" not in Config().toml()
    for kind in ("mdn", "magnitude"):
        assert not isinstance(make_model(kind, configured(), started(), seed=0).head, MemoryHead)


def test_settings_of_a_memory_survive_the_file(tmp_path):
    for settings in (("model.memory.direction=blend", "model.memory.placebo=one"), ("model.memory.prototypes=3",)):
        config = read_config(settings=settings)
        path = tmp_path / "config.toml"
        path.write_text(config.toml())
        assert read_config(path) == config
        assert config != Config()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("model.memory.placebo=one",), r"model\.memory\.placebo = 'one': .*of a memory that has no role"),
        (("model.memory.prototypes=0",), r"model\.memory\.prototypes = 0"),
        (("model.memory.sharpness=0",), r"model\.memory\.sharpness = 0"),
        (("model.memory.role=1",), r"model\.memory\.role: no such key: did you mean"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_config(settings=settings)
    assert "\n" not in str(caught.value)


def test_a_placebo_of_every_role_is_taken():
    for role in ({"direction": "alone"}, {"concentration": True}, {"magnitude": True}):
        config = make_config({"model": {"memory": {**role, "placebo": "random"}}})
        assert config.model.memory.on
