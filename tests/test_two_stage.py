"""Directions first, magnitudes after: what is drawn, what density it has, known answers, and trainings that resume."""

from math import sqrt
from pathlib import Path

import pytest
import torch

from audio_engram import checkpoint, training_loop
from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import LogNormal, Polar, VonMisesFisher
from audio_engram.dynamics.directions import DIRECTION, NextDirection, direction_frames, measure_direction_start
from audio_engram.dynamics.heads import Start
from audio_engram.dynamics.magnitudes import MagnitudeModel
from audio_engram.dynamics.model import DynamicsModel, make_model
from audio_engram.errors import UsageError
from audio_engram.train import fit, load_model
from audio_engram.two_stage import TwoStage, equal_sizes, fit_magnitudes, n_parameters
from killed import kill_after
from magnitude_worlds import NOISE, STEPS, entropy, magnitude_model, windows_of

HERE = Path(__file__).resolve().parent
TRAIN = TrainConfig(epochs=11, batch_size=96, learning_rate=5e-3, weight_decay=0.0, precision="float32")
SHORT = TRAIN.model_copy(update={"epochs": 4, "batch_size": 128})


def two_stages(windows, **config):
    of_directions = Windows(direction_frames(windows[0].frames), "train", 3, 1)
    model = make_model(DIRECTION, ModelConfig(context=3, width=8), measure_direction_start(of_directions), 0)
    return TwoStage(model, magnitude_model(windows, **config))


@pytest.fixture(scope="module")
def windows():
    return windows_of(told=True, n=60)


@pytest.fixture(scope="module")
def context(windows):
    return windows[0].gather(torch.arange(6)).context


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Known answers


@pytest.mark.parametrize("told", [True, False])
def test_magnitudes_that_follow_from_directions_are_found_and_others_are_not(told):
    """1,300 held-out magnitudes: the entropy is met to 0.02 (sd of the mean loss), four of which are 0.08.

    Without anything to find, the law of all magnitudes is the best there is.
    """
    windows = windows_of(told)
    model = magnitude_model(windows)
    best = fit_magnitudes(model, windows, TRAIN, 3).best
    spread = sqrt(1.25 / 4 + NOISE**2)
    if told:
        assert best < entropy(spread) - 1.0  # of the 1.74 nats that can be gained
        assert best > entropy(NOISE) - 0.08
    else:
        assert best == pytest.approx(entropy(spread), abs=0.08)
        law = model(*inputs(model, windows[1].gather(torch.arange(0, len(windows[1]), 20))))
        assert float(law.loc.detach().std()) < 0.1 * spread


def inputs(model, segment):
    return segment.context, model.directions(torch.cat([segment.context[:, -1:], segment.future], dim=1))


# Drawing


def test_what_is_drawn_goes_on_from_the_last_frame_along_the_directions(windows, context):
    two = two_stages(windows)
    z = two.sample(context, 7, seeded())
    assert z.shape == (6, 7, 4)
    delta = torch.diff(z, dim=1, prepend=context[:, -1:])
    u = torch.nn.functional.normalize(delta, dim=2)
    again = two.along(context, u, seeded(1))
    torch.testing.assert_close(
        torch.nn.functional.normalize(torch.diff(again, dim=1, prepend=context[:, -1:]), dim=2), u
    )
    assert not torch.allclose(again, z)
    assert torch.equal(two.sample(context, 7, seeded()), z)
    assert not torch.equal(two.sample(context, 7, seeded(1)), z)


def test_the_law_of_what_is_drawn_is_that_of_both_models(windows, context):
    """20,000 draws of one step: each mean is off by 4 standard errors in 6e-5 of seeds."""
    two = two_stages(windows)
    many = context[:1].expand(20_000, -1, -1)
    delta = two.sample(many, 1, seeded())[:, 0] - context[0, -1]
    known = two.magnitude.directions(context[:1])
    loc = two.direction(known).towards
    cosine = torch.nn.functional.cosine_similarity(delta, loc.loc.detach())
    assert near(cosine, loc.mean_resultant_length.detach())
    law = two.magnitude(many, torch.nn.functional.normalize(delta, dim=1).unsqueeze(1))
    score = (delta.norm(dim=1).log() - law.loc[:, 0].detach()) / law.scale[:, 0].detach()
    assert near(score, 0.0)
    assert near(score.square(), 1.0)


def near(values, want):
    return abs(float(values.mean()) - float(want)) < 4 * float(values.std()) / len(values) ** 0.5


def test_what_is_not_finite_stays_in_its_trajectory(windows, context):
    two = two_stages(windows)
    broken = context.clone()
    broken[2] = torch.nan
    z = two.sample(broken, 5, seeded())
    assert z.isfinite().flatten(1).all(1).tolist() == [True, True, False, True, True, True]


# Its density


class Constant(torch.nn.Module):
    """One law for every magnitude."""

    def __init__(self, loc, scale):
        super().__init__()
        self.loc, self.scale = torch.tensor(loc), torch.tensor(scale)

    def directions(self, latents):
        return torch.nn.functional.normalize(latents.diff(dim=1), dim=2)

    def forward(self, context, ahead):
        return LogNormal(self.loc.expand(ahead.shape[:2]), self.scale.expand(ahead.shape[:2]))


class Onwards(torch.nn.Module):
    """The last direction, at one concentration."""

    def forward(self, context):
        last = context[:, -1]
        return NextDirection(VonMisesFisher(last, torch.tensor(3.0).expand(len(last))), last)


def unchecked(direction, magnitude):
    """Of models that are only shaped like those of two stages."""
    two = object.__new__(TwoStage)
    object.__setattr__(two, "direction", direction)
    object.__setattr__(two, "magnitude", magnitude)
    return two


def test_with_one_law_of_magnitudes_it_is_a_polar_density_at_every_step(windows):
    segment = windows[0].gather(torch.arange(6))
    found = unchecked(Onwards(), Constant(0.2, 0.7)).log_prob(segment)
    whole = torch.cat([segment.context, segment.future], dim=1)
    before = torch.nn.functional.normalize(whole.diff(dim=1), dim=2)[:, 2:-1]
    law = LogNormal(torch.full(found.shape, 0.2), torch.full(found.shape, 0.7))
    want = Polar(before, torch.full(found.shape, 3.0), law).log_prob(segment.delta)
    torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-5)


def test_silence_has_no_density_and_harms_nobody(windows):
    two, segment = two_stages(windows), windows[0].gather(torch.arange(6))
    valid = segment.valid.clone()
    valid[2, 3] = False
    future = segment.future.clone()
    future[2, 3] = future[2, 2]
    cut = type(segment)(segment.context, future, valid, segment.speaker, segment.describe)
    found = two.log_prob(cut)
    assert found.isnan().nonzero().tolist() == [[2, 3]]


# Sizes


@pytest.mark.parametrize("backbone", ["mlp", "gru", "transformer"])
@pytest.mark.parametrize(("width", "context", "dim"), [(16, 4, 4), (64, 8, 16), (512, 8, 256)])
def test_both_stages_have_as_many_parameters_as_one(backbone, width, context, dim):
    config = ModelConfig(backbone=backbone, width=width, context=context)
    start = Start(torch.zeros(dim), torch.ones(dim), 1.0, 0.0, 1.0)
    wanted = n_parameters(DynamicsModel("vmf", config, start))
    first, second = equal_sizes(config, dim, wanted)
    two = TwoStage(DynamicsModel(DIRECTION, first, start), MagnitudeModel(second, start))
    assert two.n_parameters == pytest.approx(wanted, rel=0.05)
    assert (first.context, second.context) == (context - 1, context)
    assert n_parameters(two.direction) == pytest.approx(0.75 * wanted, rel=0.2)


def test_what_cannot_be_divided_is_said_in_one_line():
    with pytest.raises(UsageError, match=r"^model.context = 1: holds no direction, .*: use 2 or more$"):
        equal_sizes(ModelConfig(context=1), 4, 1000)
    with pytest.raises(UsageError, match=r"^model.width = 1: too narrow for two stages .*: use more$"):
        equal_sizes(ModelConfig(width=1, context=2), 4, 30)


# Training

KILLED = """
import sys
from pathlib import Path
import torch
from audio_engram import training_loop
from audio_engram.two_stage import fit_magnitudes
from magnitude_worlds import magnitude_model, windows_of
from test_two_stage import SHORT
torch.set_num_threads(1)
training_loop.SAVE_EVERY = 0.0
windows = windows_of(True, 60)
config = SHORT.model_copy(update={"epochs": 8})
fit_magnitudes(magnitude_model(windows), windows, config, 3, Path(sys.argv[1]), lambda line: print(line, flush=True))
"""


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_killed_training_goes_on_to_equal_bytes(tmp_path, windows):
    config = SHORT.model_copy(update={"epochs": 8})
    model, lines = magnitude_model(windows), []
    history = fit_magnitudes(model, windows, config, 3, tmp_path / "whole.safetensors")
    path = tmp_path / "killed.safetensors"
    kill_after("epoch 3/", KILLED, str(path), env={"PYTHONPATH": str(HERE)})
    _, note = checkpoint.load(path)
    assert 2 <= len(note["history"]["epochs"]) < 8
    again = magnitude_model(windows)
    resumed = fit_magnitudes(again, windows, config, 3, path, lines.append)
    assert 0 < len(lines) < 7
    assert resumed == history
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert fit_magnitudes(magnitude_model(windows), windows, config, 3, path, pytest.fail) == history


@pytest.mark.parametrize("change", ["seed", "epochs", "width", "latents"])
def test_a_checkpoint_of_something_else_is_refused_in_one_line(tmp_path, windows, change):
    path = tmp_path / "magnitudes.safetensors"
    once = SHORT.model_copy(update={"epochs": 1})
    fit_magnitudes(magnitude_model(windows), windows, once, 3, path)
    other = magnitude_model(windows, 25 if change == "width" else 24)
    if change == "latents":
        other.data_loc.add_(0.1)
    config = once.model_copy(update={"epochs": 2} if change == "epochs" else {})
    what = {
        "latents": "other latents: use --overwrite",
        "seed": r"another training \(seed = 3 there, 4 here\): delete it",
        "epochs": r"another training \(train\.epochs = 1 there, 2 here\): delete it",
        "width": r"another training \(model\.config\.width = 24 there, 25 here\): delete it",
    }[change]
    with pytest.raises(UsageError, match=rf"^checkpoint \S+: of {what}"):
        fit_magnitudes(other, windows, config, 4 if change == "seed" else 3, path)


def test_an_epoch_holds_as_many_increments_as_there_are(windows, monkeypatch):
    seen, original = [], MagnitudeModel.forward

    def spy(self, context, ahead):
        seen.append((self.training, len(ahead)))
        return original(self, context, ahead)

    monkeypatch.setattr(MagnitudeModel, "forward", spy)
    monkeypatch.setattr(training_loop, "SAVE_EVERY", 1e9)
    fit_magnitudes(magnitude_model(windows), windows, SHORT.model_copy(update={"epochs": 1}), 3)
    trained = [n for training, n in seen if training]
    assert sum(trained) == len(windows[0]) // STEPS
    assert max(trained) == 128 // STEPS


def test_it_stops_early_and_keeps_the_best(windows, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 2.0, 0.0])
    monkeypatch.setattr("audio_engram.two_stage._Training.validate", lambda *_: next(losses))
    config, after = SHORT.model_copy(update={"epochs": 9, "patience": 2}), []
    model = magnitude_model(windows)
    history = fit_magnitudes(model, windows, config, 3, progress=lambda _: after.append(weights(model)))
    assert (len(history.epochs), history.best_epoch) == (4, 2)
    assert history.learning_rate == config.learning_rate / 4
    assert all(torch.equal(v, after[1][k]) for k, v in model.state_dict().items())


def test_a_checkpoint_of_directions_is_not_taken_for_a_model_of_latents(tmp_path, windows):
    frames = direction_frames(windows[0].frames)
    windows = tuple(Windows(frames, split, 2, 1) for split in ("train", "validation"))
    model = make_model("direction", ModelConfig(context=2, width=8), measure_direction_start(windows[0]), 0)
    path = tmp_path / "directions.safetensors"
    fit(model, windows, TrainConfig(epochs=1), 0, path)
    with pytest.raises(UsageError, match=r"holds no dynamics model but direction: give another file"):
        load_model(path)
