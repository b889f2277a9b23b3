"""The two laws of the rollout, and everything else that the one sliding window promises."""

import pytest
import torch

from audio_engram.data.processes import AR
from audio_engram.distributions import DiagonalGaussian
from audio_engram.forcing import free_running, injection, scheduled_sampling, teacher_forcing
from audio_engram.rollout import RolloutOptions, _check, rollout
from toys import SMALL, Oracle, best_log_prob, small_model, walk

B, W, S, D = 3, 3, 7, 5
COUPLED = SMALL.model_copy(update={"concentration": "coupled", "magnitude_components": 2})
MODELS = {"mdn": ("mdn", SMALL), "vmf": ("vmf", SMALL), "coupled": ("vmf", COUPLED)}
STEPS = ("mean", "typical")


@pytest.fixture(params=MODELS)
def model(request):
    kind, config = MODELS[request.param]
    return small_model(kind, D, config)


def run_of_frames(seed=0, batch=B):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, W + S, D, generator=generator, dtype=torch.float64)
    return z[:, :W], z[:, W:]


def teacher_forced_log_probs(model, context, truth):
    """Written without the rollout: slice every context and increment out of the one run of frames."""
    z = torch.cat([context, truth], dim=1)
    steps = truth.shape[1]
    contexts = torch.cat([z[:, s : s + W] for s in range(steps)])
    deltas = torch.cat([z[:, W + s] - z[:, W + s - 1] for s in range(steps)])
    return model(contexts).log_prob(deltas).view(steps, -1).T


@pytest.mark.parametrize("step", STEPS)
def test_first_law_all_true_mask_is_the_teacher_forced_likelihood(model, step):
    context, truth = run_of_frames()
    with torch.no_grad():
        rolled = rollout(model, context, teacher_forcing(S), truth, RolloutOptions(step))
        expected = teacher_forced_log_probs(model, context, truth)
    torch.testing.assert_close(rolled.log_probs, expected, rtol=1e-5, atol=1e-5)


def test_first_law_holds_for_samples_too(model):
    context, truth = run_of_frames()
    options = RolloutOptions("sample", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rolled = rollout(model, context, teacher_forcing(S), truth, options)
        expected = teacher_forced_log_probs(model, context, truth)
    torch.testing.assert_close(rolled.log_probs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", STEPS)
def test_first_law_predictions_start_from_the_true_frame(model, step):
    context, truth = run_of_frames()
    with torch.no_grad():
        rolled = rollout(model, context, teacher_forcing(S), truth, RolloutOptions(step))
    previous = torch.cat([context[:, -1:], truth[:, :-1]], dim=1)
    torch.testing.assert_close(rolled.latents, previous + rolled.deltas, rtol=0, atol=0)


@pytest.mark.parametrize("step", [*STEPS, "sample"])
def test_second_law_without_forcing_the_future_changes_nothing(model, step):
    context, truth = run_of_frames()

    def roll(future):
        options = RolloutOptions(step, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            return rollout(model, context, free_running(S), future, options)

    one, other, none = roll(truth), roll(100 * truth.flip(1)), roll(None)
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.latents, none.latents)
    assert torch.equal(one.deltas, other.deltas)
    assert not torch.equal(one.log_probs, other.log_probs)
    assert none.log_probs is None


def test_second_law_step_by_step_from_the_models_own_states(model):
    context, truth = run_of_frames()
    with torch.no_grad():
        rolled = rollout(model, context, free_running(S), truth)
        states = context
        for s in range(S):
            distribution = model(states[:, -W:])
            torch.testing.assert_close(rolled.deltas[:, s], distribution.typical, rtol=1e-6, atol=1e-6)
            # Scored is the increment of the truth, not the way from the model's own state to it.
            expected = distribution.log_prob(truth[:, s] - (truth[:, s - 1] if s else context[:, -1]))
            torch.testing.assert_close(rolled.log_probs[:, s], expected, rtol=1e-5, atol=1e-5)
            states = torch.cat([states, rolled.latents[:, s : s + 1]], dim=1)


@pytest.mark.parametrize("step", [*STEPS, "sample"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200])
def test_a_state_that_left_the_finite_numbers_is_no_error_and_disturbs_no_other(model, step, bad):
    context, truth = run_of_frames()
    context[1, -1] = bad

    def roll(rows):
        options = RolloutOptions(step, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            return rollout(model, context[rows], free_running(S), truth[rows], options).latents

    rolled = roll([0, 1, 2])
    assert not rolled[1, -1].isfinite().any() or bad == 1e200
    torch.testing.assert_close(rolled[[0, 2]], roll([0, 2]), rtol=1e-9, atol=1e-9)
    assert rolled[[0, 2]].isfinite().all()
    assert not roll([1])[0, -1].isfinite().any() or bad == 1e200


@pytest.mark.parametrize("step", [*STEPS, "sample"])
def test_every_row_is_told_of_its_own_utterance_also_when_another_left_the_finite_numbers(step):
    model = small_model("mdn", D, SMALL, n_features=2)
    context, _ = run_of_frames()
    context[1, -1] = torch.nan
    utterance = torch.randn(B, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def roll(rows, utterance=utterance):
        options = RolloutOptions(step, generator=torch.Generator().manual_seed(3), utterance=utterance[rows])
        with torch.no_grad():
            return rollout(model, context[rows], free_running(S), options=options).latents

    rolled = roll([0, 1, 2])
    assert rolled[1].isnan().all()
    torch.testing.assert_close(rolled[[0, 2]], roll([0, 2]), rtol=1e-9, atol=1e-9)
    others = roll([0, 2], utterance.flip(0))
    assert ((others - rolled[[0, 2]]).abs().amax((1, 2)) > 1e-3).all()


@pytest.mark.parametrize("after", [[3], [1, 4], [2, 3, 6]])
def test_only_frames_where_the_mask_is_true_reach_later_states(model, after):
    context, truth = run_of_frames()
    mask = injection(S, after)
    changed = torch.where(mask[:, :, None], truth, truth + 7.0)
    with torch.no_grad():
        one = rollout(model, context, mask, truth)
        other = rollout(model, context, mask, changed)
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.deltas, other.deltas)


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_fed_back_frame_acts_from_the_next_step_on(model, after):
    context, truth = run_of_frames()
    changed = truth.clone()
    changed[:, after - 1] += 1.0
    mask = injection(S, [after])
    with torch.no_grad():
        one, other = (rollout(model, context, mask, future) for future in (truth, changed))
    assert torch.equal(one.latents[:, :after], other.latents[:, :after])
    assert (one.latents[:, after:] != other.latents[:, after:]).flatten(1).any(1).all()


def test_injection_resets_the_state():
    seen = []

    def spy(context):
        seen.append(context)
        return DiagonalGaussian(torch.ones_like(context[:, -1]), torch.ones_like(context[:, -1]))

    context, truth = run_of_frames()
    rolled = rollout(spy, context, injection(S, [2, 5]), truth)
    assert torch.equal(seen[0], context)
    assert torch.equal(seen[2][:, -1], truth[:, 1])
    assert torch.equal(seen[5][:, -1], truth[:, 4])
    for s in (1, 3, 4, 6):
        assert torch.equal(seen[s][:, -1], rolled.latents[:, s - 1])
    # The window keeps the order of frames: oldest first, true frames and own states side by side.
    own, true = rolled.latents, truth
    assert torch.equal(seen[3], torch.stack([own[:, 0], true[:, 1], own[:, 2]], dim=1))


def test_the_target_is_the_increment_of_exactly_this_step():
    z = walk(30, D)
    starts = torch.tensor([0, 4, 9])
    run = torch.stack([z[i : i + W + S] for i in starts])
    scores = {}
    for ahead in (0, 1, 2):
        rolled = rollout(Oracle(z, ahead), run[:, :W], teacher_forcing(S), run[:, W:])
        scores[ahead] = rolled.log_probs
    assert torch.allclose(scores[1], torch.tensor(best_log_prob(D), dtype=torch.float64))
    assert (scores[0] < scores[1] - 10).all()
    assert (scores[2] < scores[1] - 10).all()


def test_an_oracle_that_runs_free_stays_on_the_truth():
    z = walk(30, D)
    run = z[None, 2 : 2 + W + S]
    rolled = rollout(Oracle(z, 1), run[:, :W], free_running(S), run[:, W:], RolloutOptions("mean"))
    torch.testing.assert_close(rolled.latents, run[:, W:])
    late = rollout(Oracle(z, 0), run[:, :W], free_running(S), run[:, W:], RolloutOptions("mean"))
    assert (late.latents - run[:, W:]).norm(dim=2).min() > 0.5


def exact_ar(world):
    """The true predictor of the linear-Gaussian world."""
    increment = world.matrix() - torch.eye(world.dim, dtype=torch.float64)

    def forward(context):
        loc = context[:, -1] @ increment.T
        return DiagonalGaussian(loc, torch.full_like(loc, (1 - world.radius**2) ** 0.5))

    return forward


def ar_runs(world, n, steps):
    world.frames = W + steps
    draw = (world.utterance(torch.Generator().manual_seed(i), 0) for i in range(n))
    z = torch.stack(list(draw)).double()
    return z[:, :W], z[:, W:]


def test_exact_model_of_the_ar_world_reaches_its_analytic_mean():
    world = AR()
    context, truth = ar_runs(world, 4, 16)
    options = RolloutOptions("mean")
    rolled = rollout(exact_ar(world), context, free_running(16), truth, options)
    torch.testing.assert_close(rolled.latents, world.rollout_mean(context[:, -1], 16))


def test_exact_model_of_the_ar_world_errs_as_the_theory_says():
    # 1,000 runs of 16 dimensions: the mean square has relative deviation sqrt(2 / 16,000) = 0.011, its
    # root half of that; 5 deviations at 16 steps fail in fewer than 1 of 100,000 seeds.
    world, n = AR(), 1000
    context, truth = ar_runs(world, n, 16)
    rolled = rollout(exact_ar(world), context, free_running(16), truth, RolloutOptions("mean"))
    measured = (rolled.latents - truth).square().sum(2).mean(0).sqrt()
    expected = torch.tensor(world.rollout_error(16), dtype=torch.float64)
    torch.testing.assert_close(measured, expected, rtol=0.028, atol=0)
    forced = rollout(exact_ar(world), context, teacher_forcing(16), truth, RolloutOptions("mean"))
    entropy = 0.5 * world.dim * (1 + torch.log(torch.tensor(2 * torch.pi * (1 - world.radius**2))))
    # 16,000 frames of deviation sqrt(16 / 2): 5 deviations of the mean are 0.11.
    assert abs(float(forced.log_probs.mean()) + float(entropy)) < 0.12


def gradient_of_last_step_at_first_increment(model, mask, detach=False):
    """The last step's likelihood depends on the first step's output through the states alone."""
    context, truth = run_of_frames()
    chosen = []

    def remember(distribution):
        chosen.append(distribution.typical)
        return chosen[-1]

    rolled = rollout(model, context, mask, truth, RolloutOptions(remember, detach=detach))
    return torch.autograd.grad(rolled.log_probs[:, -1].sum(), chosen[0], allow_unused=True)[0]


def test_gradients_pass_through_the_states_unless_detached(model):
    assert gradient_of_last_step_at_first_increment(model, free_running(S)).abs().max() > 0
    assert gradient_of_last_step_at_first_increment(model, free_running(S), detach=True) is None


def test_detach_changes_no_value(model):
    context, truth = run_of_frames()
    one, other = (
        rollout(model, context, free_running(S), truth, RolloutOptions(detach=detach)) for detach in (True, False)
    )
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.log_probs, other.log_probs)


def test_no_gradient_passes_a_fed_back_true_frame(model):
    for mask in (teacher_forcing(S), injection(S, [1])):
        gradient = gradient_of_last_step_at_first_increment(model, mask)
        assert gradient is None or not gradient.any()


@pytest.mark.parametrize("detach", [False, True])
def test_checkpointed_steps_have_the_same_gradients(model, detach):
    context, truth = run_of_frames()
    mask = injection(S, [3])
    gradients = []
    for checkpoint_steps in (False, True):
        model.zero_grad()
        options = RolloutOptions(detach=detach, checkpoint_steps=checkpoint_steps)
        rolled = rollout(model, context, mask, truth, options)
        (rolled.log_probs.mean() + rolled.latents.square().mean()).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 4
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-9, atol=1e-12)


def test_the_corrector_moves_what_is_fed_back(model):
    context, truth = run_of_frames()
    seen = []

    def halve(latent, context):
        seen.append((latent, context))
        return 0.5 * latent

    with torch.no_grad():
        rolled = rollout(model, context, free_running(S), truth, RolloutOptions(corrector=halve))
        states = context
        for s in range(S):
            expected = 0.5 * (states[:, -1] + model(states[:, -W:]).typical)
            torch.testing.assert_close(rolled.latents[:, s], expected, rtol=1e-6, atol=1e-6)
            assert torch.equal(seen[s][1], states[:, -W:])
            states = torch.cat([states, rolled.latents[:, s : s + 1]], dim=1)
    assert len(seen) == S


def test_every_row_follows_its_own_mask(model):
    context, truth = run_of_frames(batch=8)
    mask = scheduled_sampling((8, S), 0.5, torch.Generator().manual_seed(0))
    assert mask.any()
    assert not mask.all()
    with torch.no_grad():
        together = rollout(model, context, mask, truth)
        for row in range(8):
            one = slice(row, row + 1)
            alone = rollout(model, context[one], mask[one], truth[one])
            torch.testing.assert_close(together.latents[one], alone.latents, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(together.log_probs[one], alone.log_probs, rtol=1e-5, atol=1e-5)


def test_one_mask_serves_all_rows(model):
    context, truth = run_of_frames()
    mask = injection(S, [2])
    with torch.no_grad():
        one, all_rows = (rollout(model, context, m, truth) for m in (mask, mask.expand(B, S)))
    assert torch.equal(one.latents, all_rows.latents)


def test_samples_come_from_the_generator_given(model):
    context, _ = run_of_frames()

    def draw(seed):
        options = RolloutOptions("sample", generator=torch.Generator().manual_seed(seed))
        return rollout(model, context, free_running(S), None, options).latents

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_a_function_can_choose_the_step(model):
    context, _ = run_of_frames()
    options = RolloutOptions(lambda distribution: torch.zeros_like(distribution.mean))
    rolled = rollout(model, context, free_running(S), None, options)
    assert torch.equal(rolled.latents, context[:, -1:].expand(B, S, D))


def test_truth_that_is_missing_or_of_another_length_is_refused():
    model = small_model("mdn", D)
    context, truth = run_of_frames()
    with pytest.raises(ValueError, match="no truth"):
        rollout(model, context, injection(S, [1]))
    with pytest.raises(ValueError, match="sample without it"):
        rollout(model, context, free_running(S), truth, RolloutOptions("sample", checkpoint_steps=True))
    # Called directly: in tests the annotations of `rollout` already refuse shapes that disagree.
    with pytest.raises(ValueError, match="mask has 7 steps and the truth 6"):
        _check(free_running(S), truth[:, :-1], RolloutOptions())
