"""Memories of training states: the anchor that pulls states back, and residuals found again in contexts like theirs."""

from math import exp

import numpy as np
import pytest
import torch
from memory_toys import contexts
from scipy.stats import multivariate_normal
from sklearn.neighbors import NearestNeighbors

from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import DiagonalGaussian
from audio_engram.dynamics.anchor import Anchor, neighbours, training_states
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.model import make_model
from audio_engram.dynamics.residual_memory import Moved, ResidualMemory, fit_residual_memory
from audio_engram.errors import UsageError
from audio_engram.forcing import free_running
from audio_engram.rollout import Corrector, RolloutOptions, rollout
from toys import SMALL, ar_frames, make_frames, make_start

D = 6


def states(n=40, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pulled(anchor, latent):
    return anchor(latent, latent.unsqueeze(1))


def test_an_anchor_without_strength_changes_nothing():
    latent = 5 * states(7, seed=1)
    assert torch.equal(pulled(Anchor(states(), 0.0), latent), latent)


def test_an_anchor_of_full_strength_lands_on_the_nearest_stored_state():
    latent = 3 * states(20, seed=1)
    place = NearestNeighbors(n_neighbors=1).fit(states().numpy()).kneighbors(latent.numpy())[1][:, 0]
    assert torch.equal(pulled(Anchor(states(), 1.0, nearest=1), latent), states()[place])
    assert torch.equal(pulled(Anchor(states(), 1.0, nearest=1), states()), states())


def test_an_anchor_pulls_by_its_share_of_the_way_to_the_soft_mean():
    stored = torch.tensor([[0.0, 0.0], [2.0, 0.0], [50.0, 50.0]], dtype=torch.float64)
    latent = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    # Squared distances 1 and 5, their mean 3: weights exp(-1/6) and exp(-5/6).
    near = exp(-1 / 6) / (exp(-1 / 6) + exp(-5 / 6))
    target = torch.tensor([[2 * (1 - near), 0.0]], dtype=torch.float64)
    for strength in (0.1, 0.5, 0.9):
        expected = latent + strength * (target - latent)
        torch.testing.assert_close(pulled(Anchor(stored, strength, nearest=2), latent), expected)


def test_neighbours_are_weighed_alike_whatever_the_scale():
    place, weight = neighbours(states(5, seed=1), states(), 4)
    scaled = neighbours(1e3 * states(5, seed=1), 1e3 * states(), 4)
    assert torch.equal(place, scaled[0])
    torch.testing.assert_close(weight, scaled[1])
    assert (weight.diff(dim=1) <= 0).all()
    torch.testing.assert_close(weight.sum(1), torch.ones(5, dtype=torch.float64))


def test_states_that_coincide_are_no_division_by_zero():
    stored = torch.ones(5, D, dtype=torch.float64)
    assert torch.equal(pulled(Anchor(stored, 1.0, nearest=3), stored[:2]), stored[:2])


def test_weights_are_exact_where_matrix_products_would_lose_the_distance():
    # Beside states of size 30 a float32 product knows distances of 1e-3 to 1e-2 at best.
    latent = 30 * states(40, seed=1).float()
    stored = torch.cat([latent + 1e-3, latent - 2e-3])
    place, weight = neighbours(latent, stored, 2)
    near = exp(-1 / 5) / (exp(-1 / 5) + exp(-4 / 5))
    assert torch.equal(place.sort(1).values, torch.arange(40)[:, None] + torch.tensor([0, 40]))
    torch.testing.assert_close(weight.amax(1), torch.full((40,), near), rtol=1e-2, atol=0)


def test_a_state_that_is_not_finite_stays_so_and_disturbs_no_other():
    latent = states(3, seed=1)
    clean = pulled(Anchor(states(), 0.5), latent)
    for broken in (torch.nan, torch.inf):
        latent[1, 2] = broken
        found = pulled(Anchor(states(), 0.5), latent)
        assert not found[1].isfinite().all()
        assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_an_anchor_holds_a_rollout_that_would_leave():
    class Outward(torch.nn.Module):
        def forward(self, context):
            return DiagonalGaussian(0.5 * context[:, -1], torch.ones_like(context[:, -1]))

    start = states(4, seed=2).unsqueeze(1)
    anchor = Anchor(states(200), 0.5, nearest=4)
    assert isinstance(anchor, Corrector)
    free, held = (
        rollout(Outward(), start, free_running(30), options=RolloutOptions(step="mean", corrector=corrector)).latents
        for corrector in (None, anchor)
    )
    assert free[:, -1].norm(dim=1).min() > 1e4
    assert held.norm(dim=2).max() < 2.5 * states(200).norm(dim=1).max()


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strengths_outside_0_to_1_are_refused(strength):
    with pytest.raises(UsageError, match=r"anchor strength .*: use 0 .* to 1"):
        Anchor(states(), strength)


@pytest.mark.parametrize("nearest", [0, 41])
def test_more_neighbours_than_states_are_refused(nearest):
    with pytest.raises(UsageError, match=f"memory of 40 entries, the nearest {nearest} wanted: use 1 to 40"):
        Anchor(states(), 0.5, nearest)


def test_stored_states_are_training_frames_or_their_centroids():
    frames = ar_frames()
    train = frames.z[frames.in_split("train")]
    some = training_states(frames, 50, seed=0, how="subset")
    assert (some[:, None] == train).all(2).any(1).all()
    assert len(some.unique(dim=0)) == 50
    assert torch.equal(some, training_states(frames, 50, seed=0, how="subset"))
    assert not torch.equal(some, training_states(frames, 50, seed=1, how="subset"))
    everything = training_states(frames, len(train), seed=0, how="subset")
    assert torch.equal(everything, train)
    means = training_states(frames, 20, seed=0)
    assert torch.equal(means, training_states(frames, 20, seed=0))
    closer = torch.cdist(train, means).amin(1).square().mean()
    assert closer < torch.cdist(train, some[:20]).amin(1).square().mean()
    owner = torch.cdist(train, means).argmin(1)
    own = torch.stack([train[owner == k].mean(0) for k in range(20)])
    assert (own - means).norm(dim=1).mean() < 0.05 * train.std()


def test_a_memory_larger_than_the_training_frames_is_refused_in_one_line():
    frames = ar_frames()
    n = int(frames.in_split("train").sum())
    for how in ("subset", "k-means"):
        with pytest.raises(
            UsageError, match=f"memory of states = {n + 1}: the training split has {n} frames"
        ) as caught:
            training_states(frames, n + 1, seed=0, how=how)
        assert "\n" not in str(caught.value)
    model, windows = regressed(frames)
    n = len(windows.with_valid_target())
    with pytest.raises(UsageError, match=f"residual memory = {n + 1}: the training split has {n} frames"):
        fit_residual_memory(model, windows, n + 1, seed=0)
    with pytest.raises(UsageError, match="memory of 5 entries, the nearest 6 wanted"):
        fit_residual_memory(model, windows, 5, seed=0, nearest=6)


def regressed(frames, kind="mdn", config=SMALL, lag=1):
    windows = Windows(frames, "train", config.context, lag)
    start = measure_start(windows, fit_baseline("ar1", windows))
    return make_model(kind, config, start, seed=0), windows


def hopping(n=60, seed=0):
    """Frames on five points, visited in a circle: the increment is a function of the point."""
    points = 2 * torch.randn(5, D, generator=torch.Generator().manual_seed(seed))
    return make_frames([points[torch.arange(u, u + n) % 5] for u in range(3)], ["train", "train", "test"]), points


@pytest.mark.parametrize("kind", ["mdn", "vmf"])
@pytest.mark.parametrize("frames", [1, 2])
def test_residual_memory_is_exact_where_increments_are_piecewise_constant(kind, frames):
    world, _ = hopping()
    model, windows = regressed(world, kind)
    memory = fit_residual_memory(model, windows, entries=5, seed=0, nearest=1, frames=frames)
    held = Windows(world, "test", SMALL.context, 1)
    segment = held.gather(held.with_valid_target())
    with torch.no_grad():
        # A context of three points fixes the model's own mean, which the residual then corrects.
        torch.testing.assert_close(memory(segment.context).mean, segment.delta[:, -1], rtol=1e-4, atol=1e-4)
        assert (model(segment.context).mean - segment.delta[:, -1]).norm(dim=1).min() > 0.1
        rolled = rollout(memory, segment.context[:2], free_running(10), options=RolloutOptions(step="mean"))
    truth = world.z[world.offsets[2] + 3 :][:10]
    torch.testing.assert_close(rolled.latents[0], truth, rtol=1e-2, atol=1e-2)


def test_residuals_are_read_softly_from_the_nearest_keys():
    model, _ = regressed(ar_frames(dim=D))
    keys, residuals = states(9).float(), states(9, seed=1).float()
    memory = ResidualMemory(model, keys, residuals, nearest=3)
    context = contexts()
    place, weight = neighbours(context[:, -1], keys, 3)
    with torch.no_grad():
        expected = model(context).mean + (weight.unsqueeze(2) * residuals[place]).sum(1)
        torch.testing.assert_close(memory(context).mean, expected)
    other = ResidualMemory(make_model("mdn", SMALL, make_start(D), seed=5), keys * 0, residuals * 0, nearest=3)
    other.load_state_dict(memory.state_dict())
    with torch.no_grad():
        assert torch.equal(memory(context).mean, other(context).mean)


def test_residuals_are_the_mean_of_what_is_left_over():
    model, windows = regressed(ar_frames(), lag=2)
    memory = fit_residual_memory(model, windows, entries=4, seed=0)
    segment = windows.gather(windows.with_valid_target())
    with torch.no_grad():
        left = (segment.delta[:, -1] - model(segment.context).mean).double()
    owner = torch.cdist(segment.context[:, -1], memory.keys).argmin(1)
    for k in range(4):
        torch.testing.assert_close(memory.residuals[k].double(), left[owner == k].mean(0), rtol=1e-5, atol=1e-6)


def test_a_model_that_reads_the_utterance_does_so_under_a_memory():
    frames = ar_frames()
    windows = Windows(frames, "train", SMALL.context, 1)
    start = measure_start(windows, fit_baseline("ar1", windows))
    model = make_model("mdn", SMALL, start, seed=0, n_features=frames.dim + 1)
    memory = fit_residual_memory(model, windows, entries=4, seed=0)
    assert memory.n_features == frames.dim + 1
    segment = windows.gather(windows.evenly(5))
    assert memory(segment.context, segment.utterance).mean.isfinite().all()
    with pytest.raises(ValueError, match="reads utterance features"):
        memory(segment.context)


def test_a_moved_density_is_moved():
    base = DiagonalGaussian(states(3), torch.full((3, D), 0.5, dtype=torch.float64))
    by, delta = states(3, seed=1), states(3, seed=2)
    moved = Moved(base, by)
    truth = [multivariate_normal((base.mean + by)[i], 0.25 * np.eye(D)).logpdf(delta[i]) for i in range(3)]
    torch.testing.assert_close(moved.log_prob(delta), torch.tensor(truth, dtype=torch.float64))
    draws = [
        method(generator=torch.Generator().manual_seed(0)) for method in (base.sample, moved.sample, moved.rsample)
    ]
    torch.testing.assert_close(draws[0] + by, draws[1])
    torch.testing.assert_close(draws[0] + by, draws[2])
    # 4000 draws of deviation 0.5: means within 0.05 with 6 deviations.
    many = moved.sample(torch.Size([4000]), torch.Generator().manual_seed(0))
    torch.testing.assert_close(many.mean(0), moved.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(moved.typical, base.typical + by)
    assert moved.log_prob(many).shape == (4000, 3)


def test_choices_of_a_moved_mixture_are_the_mixtures():
    mixture = make_model("mdn", ModelConfig(context=3, width=16), make_start(D), seed=0)(contexts())
    moved = Moved(mixture, torch.ones_like(mixture.mean))
    (draw, weight), (other, same) = (law.choose(torch.Generator().manual_seed(0)) for law in (mixture, moved))
    torch.testing.assert_close(other, draw + 1)
    assert torch.equal(weight, same)
    assert weight.any()
    draw, other = (law.relaxed(0.5, torch.Generator().manual_seed(0)) for law in (mixture, moved))
    torch.testing.assert_close(other, draw + 1)
