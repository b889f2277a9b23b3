"""Gradients through sampled states, against the gradient that enumeration gives."""

import importlib.util
from pathlib import Path

import pytest
import torch

from audio_engram.config import TrainConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import DiagonalGaussianMixture, Rotated
from audio_engram.errors import UsageError
from audio_engram.estimators import GumbelSoftmax, Marginal, Reinforce, make_estimator
from audio_engram.forcing import free_running
from audio_engram.losses import unrolled_loss
from audio_engram.train import fit
from toys import make_frames, small_model, training_toy, walk

D, W, S = 5, 3, 4
SAMPLED = TrainConfig(step="sample", teacher_weight=0.0)


def load_table():
    path = Path(__file__).parent.parent / "benchmarks" / "estimators.py"
    spec = importlib.util.spec_from_file_location("estimator_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLE = load_table()


def off(make, *arguments, n=300, batch=64):
    """How many standard errors the mean gradient of each parameter is from the exact one, at worst."""
    exact = dict(zip(TABLE.PARAMETERS, TABLE.exact(TABLE.Toy()), strict=True))
    found = TABLE.measure(make, n, batch, *arguments)
    return {
        name: float(((mean - exact[name]) / (deviation / n**0.5)).abs().max())
        for name, (mean, deviation) in found.items()
    }


def test_enumeration_is_the_derivative_of_the_expected_loss():
    """Against differences of a Monte Carlo mean with common noise; 0.02 is over five of its standard errors."""
    toy = TABLE.Toy()
    exact = dict(zip(TABLE.PARAMETERS, TABLE.exact(toy), strict=True))
    noise, uniform = (
        torch.randn(400_000, dtype=torch.float64, generator=seeded(1)),
        torch.rand(400_000, generator=seeded(2)),
    )

    def loss():
        with torch.no_grad():
            first = toy(torch.full((1, 1, 1), TABLE.CONTEXT, dtype=torch.float64))
            k = (uniform > first.weights[0, 0]).long()
            state = TABLE.CONTEXT + first.loc[0, k, 0] + first.log_scale[0, k, 0].exp() * noise
            nll = -toy(state.view(-1, 1, 1)).log_prob(torch.full((len(noise), 1), TABLE.FUTURE[1] - TABLE.FUTURE[0]))
            one = -first.log_prob(torch.tensor([[TABLE.FUTURE[0] - TABLE.CONTEXT]]))
            return float((one + nll.mean()) / 2)

    for name, parameter in toy.named_parameters():
        with torch.no_grad():
            parameter[0, 0] += 0.05
            above = loss()
            parameter[0, 0] -= 0.1
            below = loss()
            parameter[0, 0] += 0.05
        assert (above - below) / 0.1 == pytest.approx(float(exact[name][0, 0]), abs=0.02)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_reinforce_is_unbiased_in_every_parameter():
    """Twelve numbers within five standard errors: fails by chance once in 10^5; the seed is fixed."""
    assert max(off(Reinforce).values()) < 5


def test_the_marginal_estimator_misses_the_weights_and_nothing_else():
    found = off(Marginal)
    assert found["means"] < 5
    assert found["scales"] < 5
    assert found["weights"] > 20


def test_a_relaxed_choice_is_the_less_biased_the_colder():
    hot, cold = off(GumbelSoftmax, 1.0), off(GumbelSoftmax, 0.1)
    assert hot["means"] > 10
    assert hot["weights"] > 10
    assert cold["means"] < hot["means"] / 3
    assert cold["weights"] < hot["weights"] / 3


def test_the_baseline_lowers_the_variance():
    class Bare(Reinforce):
        def correction(self, nll, valid):
            after = (nll.flip(1).cumsum(1).flip(1) - nll).detach()
            score = (torch.stack(self.log_weights, 1) * after).sum() / valid.sum()
            return score - score.detach()

    with_baseline, without = (TABLE.measure(make, 200, 32)["weights"][1].norm() for make in (Reinforce, Bare))
    assert with_baseline < 0.8 * without


def test_silence_has_no_loss_and_no_return():
    generator = seeded(0)
    estimator = Reinforce(generator)
    weights = torch.zeros(3, 2, requires_grad=True)
    estimator.log_weights = list(weights.unbind(1))
    nll = torch.tensor([[1.0, float("nan")], [2.0, 5.0], [3.0, 7.0]])
    valid = torch.tensor([[True, False], [True, True], [True, True]])
    estimator.correction(nll, valid).backward()
    # Returns after step 1 are 0, 5 and 7; each less the mean of the other two, over 5 valid frames.
    expected = torch.tensor([[0.0 - 6.0, 0.0], [5.0 - 3.5, 0.0], [7.0 - 2.5, 0.0]]) / 5
    torch.testing.assert_close(weights.grad, expected)


def mixture():
    logits, loc = torch.randn(4, 3, generator=seeded(3)), torch.randn(4, 3, D, generator=seeded(4))
    return DiagonalGaussianMixture(logits, loc, torch.full((4, 3, D), -8.0))


def test_the_choice_is_that_of_the_draw():
    density = mixture()
    draw, log_weight = density.choose(seeded(5))
    nearest = (draw.unsqueeze(1) - density.loc).norm(dim=2).argmin(1)
    torch.testing.assert_close(log_weight, density.logits.log_softmax(1).gather(1, nearest.unsqueeze(1)).squeeze(1))
    axes = torch.linalg.qr(torch.randn(D, D, generator=seeded(6)))[0]
    turned, same = Rotated(density, axes).choose(seeded(5))
    torch.testing.assert_close(turned, draw @ axes.T)
    torch.testing.assert_close(same, log_weight)


def test_a_cold_relaxed_draw_is_a_draw():
    """Shares of 4 x 2,000 choices within 0.06: over five standard errors."""
    density = mixture()
    generator = seeded(7)
    draws = torch.stack([density.relaxed(0.01, generator) for _ in range(2000)])
    distance = (draws.unsqueeze(2) - density.loc).norm(dim=3)
    assert (distance.min(2).values < 0.1).float().mean() > 0.95
    shares = torch.stack([(distance.argmin(2) == k).float().mean(0) for k in range(3)], dim=1)
    torch.testing.assert_close(shares, density.weights, rtol=0, atol=0.06)
    axes = torch.linalg.qr(torch.randn(D, D, generator=seeded(6)))[0]
    torch.testing.assert_close(Rotated(density, axes).relaxed(0.5, seeded(8)), density.relaxed(0.5, seeded(8)) @ axes.T)


def segment():
    windows = Windows(make_frames([walk(40, D)[:, 1:].diff(dim=0)], ["train"]), "train", W, S)
    return windows.gather(torch.arange(2, len(windows) - 4, 3))


@pytest.mark.parametrize("estimator", ["marginal", "gumbel", "reinforce"])
@pytest.mark.parametrize("kind", ["mdn", "vmf"])
def test_sampled_training_is_reproducible_and_reaches_the_states(kind, estimator):
    model, config = small_model(kind, D - 1), SAMPLED.model_copy(update={"estimator": estimator, "draws": 2})

    def gradient(config, seed=0):
        model.zero_grad()
        loss = unrolled_loss(model, segment(), config, free_running(S), seeded(seed))
        loss.backward()
        return loss.item(), model.head.linear.weight.grad.clone()

    loss, one = gradient(config)
    again, same = gradient(config)
    assert loss == again
    assert torch.equal(one, same)
    assert gradient(config, seed=1)[0] != loss
    assert not torch.equal(one, gradient(config.model_copy(update={"detach": True}))[1])
    assert one.isfinite().all()


def test_a_state_that_is_not_finite_gives_a_draw_that_says_so():
    density = mixture()
    density.logits[1], density.loc[1] = float("nan"), float("nan")
    draw = density.sample(generator=seeded(0))
    assert draw[1].isnan().all()
    assert draw[[0, 2, 3]].isfinite().all()


def test_more_draws_are_as_many_rollouts():
    model = small_model("mdn", D - 1)
    losses = [
        unrolled_loss(model, segment(), SAMPLED.model_copy(update={"draws": n}), free_running(S), seeded(s)).item()
        for n in (1, 16)
        for s in range(8)
    ]
    few, many = torch.tensor(losses[:8]), torch.tensor(losses[8:])
    assert many.std() < 0.6 * few.std()
    assert (many.mean() - few.mean()).abs() < 4 * few.std() / 8**0.5


def test_the_configuration_names_the_estimator():
    generator = seeded(0)
    for name, kind in (("marginal", Marginal), ("gumbel", GumbelSoftmax), ("reinforce", Reinforce)):
        made = make_estimator(SAMPLED.model_copy(update={"estimator": name, "temperature": 0.3}), generator)
        assert type(made) is kind
    assert make_estimator(SAMPLED.model_copy(update={"estimator": "gumbel"}), generator).temperature == 0.5


def test_sampled_training_learns_and_resumes(tmp_path):
    config = SAMPLED.model_copy(
        update={"unroll": 4, "epochs": 3, "batch_size": 16, "learning_rate": 5e-3, "estimator": "reinforce"}
    )
    model, windows = training_toy("mdn", config)
    history = fit(model, windows, config, seed=3)
    assert history.best < history.epochs[0]["train"]
    with pytest.raises(UsageError, match=r"train.checkpoint_steps: would draw every sample twice"):
        fit(model, windows, config.model_copy(update={"checkpoint_steps": True}), seed=3)


@pytest.mark.parametrize("other", ["state_weight", "adversary"])
def test_reinforce_is_refused_beside_losses_that_it_knows_nothing_of(other):
    config = SAMPLED.model_copy(update={"unroll": 4, "epochs": 1, "estimator": "reinforce", other: 0.5})
    model, windows = training_toy("mdn", config)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(UsageError, match=r"train.estimator = reinforce: .*set both to 0, or use another estimator$"):
        fit(model, windows, config, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    "changed", [{"estimator": "marginal"}, {"step": "mean"}, {"state_weight": 0.0}, {"unroll": 1}], ids=str
)
def test_where_nothing_is_chosen_or_missed_it_is_not(changed):
    config = SAMPLED.model_copy(
        update={"unroll": 4, "epochs": 1, "estimator": "reinforce", "state_weight": 0.5} | changed
    )
    model, windows = training_toy("mdn", config)
    assert len(fit(model, windows, config, seed=3).epochs) == 1
