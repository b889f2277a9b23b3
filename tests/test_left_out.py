"""Batches whose rollouts leave the finite numbers: left out and counted where models train on their own states."""

import pytest
import torch

from audio_engram.errors import NumericalError
from audio_engram.report.folder import Epoch
from audio_engram.report.trainings import training
from audio_engram.train import TrainConfig, _Training, fit
from toys import training_toy

FORCED = TrainConfig(epochs=2, batch_size=32, learning_rate=5e-3, precision="float32")
UNROLLED = FORCED.model_copy(update={"unroll": 4, "batch_size": 16})
ADVERSE = UNROLLED.model_copy(update={"step": "sample", "adversary": 0.5})


def spoiled(monkeypatch, which):
    """The losses of the batches with these numbers, from 0, are not finite."""
    seen, loss = [], _Training.loss

    def other(self, segment, generator):
        value = loss(self, segment, generator)
        seen.append(len(seen))
        return value * torch.inf if seen[-1] in which else value

    monkeypatch.setattr(_Training, "loss", other)
    return seen


@pytest.mark.parametrize("config", [UNROLLED, ADVERSE])
def test_a_batch_that_leaves_the_finite_numbers_is_left_out_and_counted(monkeypatch, config):
    model, windows = training_toy("mdn", config)
    spoiled(monkeypatch, {1, 2})
    said = []
    history = fit(model, windows, config, 3, progress=said.append)
    first, second = history.epochs
    assert first["left_out"] == 2
    assert "left_out" not in second
    assert said[0].endswith("(2 batches not finite, left out)")
    assert all(p.isfinite().all() for p in model.parameters())
    assert torch.tensor([first["train"], second["validation"]]).isfinite().all()


@pytest.mark.parametrize(
    ("head", "estimator"), [("vmf", "marginal"), ("mdn", "marginal"), ("mdn", "gumbel"), ("mdn", "reinforce")]
)
def test_draws_after_a_state_that_is_not_finite_do_not_end_the_training(head, estimator):
    config = UNROLLED.model_copy(update={"step": "sample", "estimator": estimator})
    model, windows = training_toy(head, config)
    loop = _Training(model, config, 3)
    first, second = (next(loop.batches(windows[0], torch.Generator().manual_seed(seed))) for seed in range(2))
    first.context[3, -1] = torch.inf
    assert not loop.step(first, torch.Generator()).isfinite()
    assert loop.step(second, torch.Generator()).isfinite()


def test_it_teaches_nothing(monkeypatch):
    plain, windows = training_toy("mdn", UNROLLED)
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    loop = _Training(plain, UNROLLED, 3)
    spoiled(monkeypatch, {0})
    segment = next(loop.batches(windows[0], torch.Generator().manual_seed(0)))
    assert loop.step(segment, torch.Generator()).isnan()
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())
    assert loop.step(segment, torch.Generator()).isfinite()
    assert not all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())


def test_in_a_later_epoch_it_ends_the_training_with_the_best_epoch_until_then(monkeypatch, tmp_path):
    config = UNROLLED.model_copy(update={"epochs": 5})
    short, windows = training_toy("mdn", config)
    loop = _Training(short, config, 3)
    loop.epoch(*windows)
    batches = len(list(loop.batches(windows[0], torch.Generator().manual_seed(0))))
    model, windows = training_toy("mdn", config)
    seen, said = spoiled(monkeypatch, range(batches, 10**6)), []
    monkeypatch.setattr(_Training, "validate", lambda self, windows: float(len(self.history.epochs)))
    history = fit(model, windows, config, 3, path=tmp_path / "one.safetensors", progress=said.append)
    assert len(seen) == 2 * batches
    assert (history.broken, history.finished, history.best_epoch) == (True, True, 1)
    assert history.epochs[1]["left_out"] == batches
    assert history.epochs[1]["train"] is None
    assert (
        f"train not finite validation 1.000 ({batches} batches not finite, left out); ends here, epoch 1 stays"
        in said[1]
    )
    assert all(torch.equal(v, loop.best[k]) for k, v in model.state_dict().items())
    again, windows = training_toy("mdn", config)
    assert fit(again, windows, config, 3, path=tmp_path / "one.safetensors") == history


@pytest.mark.parametrize("finite_epochs", [0, 1])
def test_without_a_finite_validation_it_ends_with_the_model_that_it_started_from(monkeypatch, finite_epochs):
    config = UNROLLED.model_copy(update={"epochs": 5})
    model, windows = training_toy("mdn", config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = len(list(_Training(model, config, 3).batches(windows[0], torch.Generator().manual_seed(0))))
    said = []
    spoiled(monkeypatch, range(finite_epochs * batches, 10**6))
    monkeypatch.setattr(_Training, "validate", lambda self, windows: float("nan"))
    history = fit(model, windows, config, 3, progress=said.append)
    assert (history.broken, history.best_epoch, len(history.epochs)) == (True, -1, finite_epochs + 1)
    assert history.epochs[-1]["left_out"] == batches
    assert said[-1].endswith("; ends here, the model it started from stays")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_on_true_contexts_the_first_is_an_error(monkeypatch):
    model, windows = training_toy("mdn", FORCED)
    spoiled(monkeypatch, {1})
    with pytest.raises(NumericalError, match=r"in epoch 1: lower train\.learning_rate"):
        fit(model, windows, FORCED, 3)


def test_a_validation_that_is_not_finite_is_no_number_and_never_the_best(monkeypatch):
    model, windows = training_toy("mdn", UNROLLED)
    values = iter([float("nan"), 2.0])
    monkeypatch.setattr(_Training, "validate", lambda self, windows: next(values))
    said = []
    history = fit(model, windows, UNROLLED, 3, progress=said.append)
    assert [one["validation"] for one in history.epochs] == [None, 2.0]
    assert history.best_epoch == 2
    assert "validation not finite" in said[0]
    assert training({"regime-mdn-mean": [Epoch(**one) for one in history.epochs]})
