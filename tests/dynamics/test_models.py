"""Models: they start at the AR(1) baseline, are the same for the same seed, and learn in every part."""

from dataclasses import replace
from math import log

import pytest
import torch
from scipy.stats import multivariate_normal

from audio_engram.config import ModelConfig
from audio_engram.data.windows import Windows
from audio_engram.distributions import (
    CoupledConcentration,
    DiagonalGaussianMixture,
    LogNormal,
    LogNormalMixture,
    Polar,
    Rotated,
    mean_resultant_length,
)
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import HEADS, measure_start
from audio_engram.dynamics.model import make_model
from audio_engram.errors import UsageError
from toys import SMALL, ar_frames, make_frames, make_start, small_model, walk

D, B = 6, 5
CONFIGS = {
    "mdn": ("mdn", SMALL),
    "vmf": ("vmf", SMALL),
    "vmf mixture": ("vmf", SMALL.model_copy(update={"magnitude_components": 3})),
    "vmf coupled": (
        "vmf",
        SMALL.model_copy(update={"concentration": "coupled", "magnitude_components": 2}),
    ),
    "magnitude": ("magnitude", SMALL),
    "mdn semi-tied": ("mdn", SMALL.model_copy(update={"covariance": "semi-tied"})),
    "mdn gru": ("mdn", SMALL.model_copy(update={"backbone": "gru"})),
    "vmf transformer": ("vmf", SMALL.model_copy(update={"backbone": "transformer"})),
}
DENSITIES = {"mdn": DiagonalGaussianMixture, "mdn semi-tied": Rotated, "mdn gru": DiagonalGaussianMixture}


@pytest.fixture(params=CONFIGS)
def made(request):
    kind, config = CONFIGS[request.param]
    return make_model(kind, config, make_start(D), seed=0), request.param


def contexts(n=B, seed=0):
    return torch.randn(n, SMALL.context, D, generator=torch.Generator().manual_seed(seed))


def silenced(model):
    """The same model with nothing coming out of its linear layer."""
    with torch.no_grad():
        model.head.linear.weight.zero_()
    return model


def test_shapes_and_density(made):
    model, name = made
    distribution = model(contexts())
    assert distribution.batch_shape == (B,)
    assert distribution.event_shape == (D,)
    assert isinstance(distribution, DENSITIES.get(name, Polar))
    log_prob = distribution.log_prob(torch.randn(B, D))
    assert log_prob.dtype == torch.float64
    assert log_prob.isfinite().all()


def test_the_mixture_starts_at_the_autoregression():
    start = make_start(D)
    context = contexts()
    expected = start.last * context[:, -1]
    model = make_model("mdn", SMALL, start, seed=0)
    # The head's weights are a tenth of the usual: means are off by a fraction of the residual's scale.
    assert (model(context).mean - expected).abs().max() < 0.3
    quiet = silenced(model)(context)
    torch.testing.assert_close(quiet.mean, expected)
    torch.testing.assert_close(quiet.log_scale.exp(), start.scale.expand(B, SMALL.components, D))


def test_the_polar_head_starts_at_the_autoregressions_direction_and_the_law_of_magnitude():
    start, context = make_start(D), contexts()
    model = silenced(make_model("vmf", SMALL, start, seed=0))
    distribution = model(context)
    expected = torch.nn.functional.normalize(start.last * context[:, -1], dim=1)
    torch.testing.assert_close(distribution.direction, expected)
    torch.testing.assert_close(distribution.concentration, torch.full((B,), start.concentration))
    assert isinstance(distribution.magnitude, LogNormal)
    torch.testing.assert_close(distribution.magnitude.loc, torch.full((B,), start.log_magnitude))
    torch.testing.assert_close(distribution.magnitude.scale, torch.full((B,), start.log_spread))


def test_the_start_is_measured_on_the_training_split():
    frames = ar_frames(n_speakers=8, n=200)
    for lag in (1, 3):
        windows = Windows(frames, "train", 2, lag)
        ar1 = fit_baseline("ar1", windows)
        start = measure_start(windows, ar1)
        segment = windows.gather(windows.with_valid_target())
        log_m = segment.delta[:, -1].norm(dim=1).log()
        assert start.log_magnitude == pytest.approx(float(log_m.mean()), abs=1e-4)
        assert start.log_spread == pytest.approx(float(log_m.std()), abs=1e-4)
        assert torch.equal(start.last, ar1.last)
        assert torch.equal(start.scale, ar1.scale)
    # Concentration: that at which the mean cosine is the one observed.
    cosine = torch.nn.functional.cosine_similarity(ar1(segment.context).mean, segment.delta[:, -1])
    reached = mean_resultant_length(torch.tensor(start.concentration, dtype=torch.float64), frames.dim)
    assert float(reached) == pytest.approx(float(cosine.double().mean().clamp(0.01, 0.99)), abs=1e-5)


def test_the_start_is_nearly_the_baselines_likelihood():
    # Regression to the mean costs no training: a model that has learned nothing scores as AR(1) does.
    frames = ar_frames(n_speakers=8, n=200)
    windows = Windows(frames, "train", SMALL.context, 1)
    ar1 = fit_baseline("ar1", windows)
    segment = windows.gather(windows.with_valid_target())
    delta = segment.delta[:, -1]
    model = silenced(make_model("mdn", SMALL, measure_start(windows, ar1), seed=0))
    baseline = ar1(segment.context).log_prob(delta).mean()
    assert model(segment.context).log_prob(delta).mean().item() == pytest.approx(float(baseline), abs=0.05)


def test_a_seed_gives_one_model(made):
    model, name = made
    kind, config = CONFIGS[name]
    torch.manual_seed(99)  # of no consequence
    again, other = (make_model(kind, config, make_start(D), seed) for seed in (0, 1))
    for (key, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    differs = {key for key, a in model.state_dict().items() if not torch.equal(a, other.state_dict()[key])}
    assert {key for key in differs if key.startswith("backbone.")}
    assert "head.linear.weight" in differs


def test_initial_weights_have_the_deviation_of_their_fan_in():
    model = make_model("mdn", ModelConfig(context=8, width=256), make_start(32), seed=0)
    first, second = model.backbone.layers[0], model.backbone.layers[3]
    # 65,536 weights and more: relative deviation of a standard deviation under 0.003.
    assert first.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert second.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert model.head.linear.weight.std().item() == pytest.approx(0.1 * 256**-0.5, rel=0.02)
    assert not any(m.bias.any() for m in (first, second, model.head.linear))


def test_gradients_reach_every_parameter_that_is_used(made):
    model, name = made
    (-model(contexts()).log_prob(torch.randn(B, D)).mean()).backward()
    for key, parameter in model.named_parameters():
        if name == "magnitude" and key == "head.last":
            assert parameter.grad is None
        elif key.endswith("query_key_value.bias"):
            assert parameter.grad is not None  # a bias of all keys alike moves no attention
        else:
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key


def test_the_magnitude_head_knows_no_direction():
    model = make_model("magnitude", SMALL, make_start(D), seed=0)
    distribution = model(contexts())
    delta = torch.randn(B, D)
    turned = delta.flip(1) * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])
    torch.testing.assert_close(distribution.log_prob(delta), distribution.log_prob(turned))
    assert not distribution.mean.any()
    distribution.log_prob(delta).sum().backward()
    assert not model.head.linear.weight.grad[: D + 2].any()
    assert model.head.linear.weight.grad[D + 2 :].abs().sum() > 0


def test_concentration_is_coupled_to_the_magnitude_when_asked():
    config = SMALL.model_copy(update={"concentration": "coupled"})
    model = silenced(make_model("vmf", config, make_start(D), seed=0))
    distribution = model(contexts())
    assert isinstance(distribution.concentration, CoupledConcentration)
    start = make_start(D)
    # At the median magnitude sigmoid(1) of the base, half of it for tiny ones, all of it for large ones.
    median = torch.full((B,), start.log_magnitude).exp()
    for magnitude, share in ((median, 0.7310586), (0 * median, 0.5), (1e3 * median, 1.0)):
        kappa = distribution.concentration.at(magnitude)
        torch.testing.assert_close(kappa, torch.full((B,), share * start.concentration))
    assert "head.log_m_scale" in dict(model.named_parameters())


def test_components_of_the_magnitude_do_not_start_alike():
    config = SMALL.model_copy(update={"magnitude_components": 3})
    model = silenced(make_model("vmf", config, make_start(D), seed=0))
    law = model(contexts()).magnitude
    assert isinstance(law, LogNormalMixture)
    expected = make_start(D).log_magnitude + torch.tensor([-0.5, 0.0, 0.5])
    torch.testing.assert_close(law.loc[0], expected)
    torch.testing.assert_close(law.weights[0], torch.full((3,), 1 / 3))


def test_scales_do_not_fall_below_their_floor():
    config = SMALL.model_copy(update={"min_scale": 0.2})
    model = make_model("mdn", config, make_start(D), seed=0)
    with torch.no_grad():
        model.head.linear.bias[-config.components * D :] = -50.0
    assert model(contexts()).log_scale.min().item() == pytest.approx(log(0.2))


@pytest.mark.parametrize("kind", HEADS)
def test_utterance_features_are_read_by_the_model_that_asks_for_them(kind):
    model = make_model(kind, SMALL, make_start(D), seed=0, n_features=D + 1)
    context, features = contexts(), torch.randn(B, D + 1)
    delta = torch.randn(B, D)
    one, other = (model(context, f).log_prob(delta) for f in (features, features + 1))
    assert (one != other).all()
    with pytest.raises(ValueError, match="reads utterance features"):
        model(context)
    plain = make_model(kind, SMALL, make_start(D), seed=0)
    with torch.no_grad():
        assert torch.equal(plain(context).log_prob(delta), plain(context, features).log_prob(delta))


def test_every_frame_of_the_context_counts_and_in_order():
    model = small_model("mdn", D)
    context = contexts().double()
    for place in range(SMALL.context):
        moved = context.clone()
        moved[:, place] += 0.5
        assert (model(context).mean != model(moved).mean).any(1).all()
    assert not torch.allclose(model(context).mean, model(context.flip(1)).mean)


def test_half_precision_is_for_training_alone():
    model = make_model("mdn", SMALL.model_copy(update={"dropout": 0.0}), make_start(D), seed=0)
    context = contexts()
    exact = model(context).mean
    model.precision = torch.bfloat16
    model.train()
    rough = model(context)
    assert rough.mean.dtype == torch.float32
    assert not torch.equal(rough.mean, exact)
    torch.testing.assert_close(rough.mean, exact, rtol=0.05, atol=0.05)
    assert torch.equal(model.eval()(context).mean, exact)


def test_an_unknown_head_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match="model mdm: no such head: use one of mdn, vmf, magnitude"):
        make_model("mdm", SMALL, make_start(D), seed=0)


def test_weights_survive_the_state_dict(made):
    model, name = made
    kind, config = CONFIGS[name]
    other = make_model(kind, config, make_start(D), seed=7)
    other.load_state_dict(model.state_dict())
    context, delta = contexts(), torch.randn(B, D)
    with torch.no_grad():
        assert torch.equal(model(context).log_prob(delta), other(context).log_prob(delta))


def test_silence_in_the_context_is_no_silence_in_the_model():
    z = walk(30, D).float()
    z[5:12] = z[5]
    windows = Windows(make_frames([z], ["train"]), "train", SMALL.context, 1)
    model = make_model("vmf", SMALL, make_start(D), seed=0)
    segment = windows.gather(windows.with_valid_target())
    assert model(segment.context).log_prob(segment.delta[:, -1]).isfinite().all()
    zero = torch.zeros(1, SMALL.context, D)
    assert silenced(model)(zero).log_prob(torch.ones(1, D)).isfinite().all()


def test_a_semi_tied_mixture_starts_as_the_gaussian_with_the_residuals_covariance():
    mixing = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)))[0]
    frames = ar_frames(n_speakers=8, n=400)
    frames = replace(frames, z=frames.z @ (mixing * torch.tensor([1.0, 0.3, 0.1, 2.0])) @ mixing.T)
    windows = Windows(frames, "train", SMALL.context, 1)
    ar1 = fit_baseline("ar1", windows)
    assert measure_start(windows, ar1).axes is None
    start = measure_start(windows, ar1, "semi-tied")
    config = SMALL.model_copy(update={"covariance": "semi-tied"})
    model = silenced(make_model("mdn", config, start, seed=0))
    segment = windows.gather(windows.with_valid_target())
    delta, mean = segment.delta[:, -1], ar1(segment.context).mean
    covariance = torch.cov((delta - mean).double().T, correction=0)
    truth = multivariate_normal(torch.zeros(4), covariance).logpdf((delta - mean).double())
    with torch.no_grad():
        distribution = model(segment.context)
        torch.testing.assert_close(distribution.mean, start.last * segment.context[:, -1], rtol=1e-4, atol=1e-5)
        log_prob = distribution.log_prob(delta)
    # The start leaves the baseline's bias out, which is of no weight here.
    assert log_prob.mean().item() == pytest.approx(truth.mean(), abs=2e-3)
    assert log_prob.mean().item() > ar1(segment.context).log_prob(delta).mean().item() + 0.1


@pytest.mark.parametrize("backbone", ["gru", "transformer"])
def test_other_backbones_read_every_frame_in_order(backbone):
    model = small_model("mdn", D, SMALL.model_copy(update={"backbone": backbone}))
    with torch.no_grad():
        if backbone == "transformer":
            model.backbone.places.normal_(generator=torch.Generator().manual_seed(4))
    context = contexts().double()
    for place in range(SMALL.context - 1):
        moved = context.clone()
        moved[:, place] += 0.5
        assert (model(context).mean != model(moved).mean).any(1).all()
    swapped = context[:, [1, 0, 2]]
    assert not torch.allclose(model(context).mean, model(swapped).mean)


@pytest.mark.parametrize("backbone", ["mlp", "gru", "transformer"])
def test_every_backbone_learns_what_only_an_older_frame_tells(backbone):
    generator = torch.Generator().manual_seed(5)
    config = SMALL.model_copy(update={"backbone": backbone, "dropout": 0.0, "width": 32})
    model = make_model("mdn", config, make_start(D), seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        context = torch.randn(64, config.context, D, generator=generator)
        delta = context[:, 0] + 0.1 * torch.randn(64, D, generator=generator)
        loss = -model(context).log_prob(delta).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # Without the oldest frame no density does better than the entropy of six standard normals, 8.5 nats.
    assert sum(losses[-20:]) / 20 < 5.0


def test_attention_looks_at_no_later_frame():
    model = small_model("mdn", D, SMALL.model_copy(update={"backbone": "transformer"}))
    block, x = model.backbone.blocks[0], torch.randn(2, 3, SMALL.width, dtype=torch.float64)
    later = x.clone()
    later[:, 2] += 1
    torch.testing.assert_close(block(x)[:, :2], block(later)[:, :2], rtol=0, atol=0)
    assert not torch.allclose(block(x)[:, 2], block(later)[:, 2])


def test_a_width_that_attention_cannot_divide_is_refused():
    config = SMALL.model_copy(update={"backbone": "transformer", "width": 200})
    with pytest.raises(UsageError, match=r"model.width = 200: a transformer divides it into 3 heads"):
        make_model("mdn", config, make_start(D), seed=0)
