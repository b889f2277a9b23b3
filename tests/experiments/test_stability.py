"""Sampled rollouts beside real stretches: exact and faulty models of a known process, and every training regime."""

from copy import copy
from dataclasses import replace

import pytest
import torch

from audio_engram.config import make_config
from audio_engram.data.processes import World
from audio_engram.distributions import DiagonalGaussian
from audio_engram.dynamics.heads import SemiTiedHead
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.lengths import check_lengths
from audio_engram.experiments.outcome import show
from audio_engram.experiments.predictability import cell
from audio_engram.experiments.stability import stability
from audio_engram.experiments.stretches import not_whole
from audio_engram.experiments.trajectories import find_trajectories, stretch_frames
from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import DRAWN, REGIMES, regime
from audio_engram.runs import Run
from audio_engram.survival import survival

SMALL = {
    "device": "cpu",
    "model": {"width": 16, "components": 2, "context": 4},
    "train": {"epochs": 2, "batch_size": 256, "learning_rate": 2e-3, "precision": "float32"},
}


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 2)
        yield


def run_of(folder, corpus="world:noise:24", train=None, **experiments):
    wanted = {"names": ["stability"], "regimes": ["mdn", "vmf"], "horizons": [1.0, 5.0, 10.0], "resamples": 1000}
    settings = SMALL | {"data": {"corpus": corpus, "test": 0.4}, "experiments": wanted | experiments}
    settings["train"] = SMALL["train"] | (train or {})
    return Run(folder, make_config(settings), log=lambda line: None)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return find_trajectories(run_of(tmp_path_factory.mktemp("noise")))


class Noise(torch.nn.Module):
    """The process itself: every frame standard normal, whatever came before; `drift` and `scale` spoil it."""

    def __init__(self, drift=0.0, scale=1.0):
        super().__init__()
        self.drift, self.scale = drift, scale

    def forward(self, context):
        last = context[:, -1]
        loc = self.drift - last if self.scale == 1.0 else torch.zeros_like(last)
        return DiagonalGaussian(loc, torch.full_like(last, self.scale))


def figures(some, model, horizon=None):
    stretch = some.real.shape[1]
    rolled = some.sampled(model, horizon or stretch, "test")[:, -stretch:]
    return some.manifold.compare(some.manifold.traits(rolled), some.manifold.traits(some.real), some.bootstrap)


def test_contexts_are_the_first_frames_of_the_longest_utterances(noise):
    frames, stretch = noise.run.frames(), noise.real.shape[1]
    test = set(frames.speaker[frames.in_split("test")].tolist())
    assert set(noise.speaker.tolist()) == test
    assert noise.context.shape[1] == 4
    assert stretch == stretch_frames(noise.run)
    starts = {tuple(frames.z[i].tolist()): i for i in frames.offsets[:-1].tolist()}
    for context, real, speaker in zip(noise.context, noise.real, noise.speaker, strict=True):
        start = starts[tuple(context[0].tolist())]
        assert torch.equal(torch.cat([context, real]), frames.z[start : start + 4 + stretch])
        assert frames.speaker[start] == speaker
    # Everybody's longest comes before anybody's second.
    n = len(test)
    assert sorted(noise.speaker[:n].tolist()) == sorted(test)


def test_the_process_itself_is_like_real_at_every_horizon(noise):
    """A ratio of 1 within its interval, which misses in up to 6 % of draws; the seed is fixed."""
    for horizon in (noise.real.shape[1], 200):
        found = figures(noise, Noise(), horizon)
        for name in ("frechet_latents", "frechet_increments", "magnitude_p50"):
            assert found[name].ratio.low < 1 < found[name].ratio.high, name
        assert found["magnitude_p50"].ratio.value == pytest.approx(1, abs=0.03)
    rolled, real = noise.sampled(Noise(), 200, "test"), torch.stack([z[:200] for z in noise.whole])
    mine, theirs = (
        survival(noise.manifold.range.diverge(some), torch.tensor([200.0]), noise.bootstrap)[0]
        for some in (rolled, real)
    )
    assert mine.high > theirs.low
    assert mine.value > 0.4


@pytest.mark.parametrize(("drift", "scale"), [(1.0, 1.0), (0.0, 0.01)])
def test_what_drifts_or_freezes_is_far_from_real(noise, drift, scale):
    found = figures(noise, Noise(drift, scale))
    assert found["frechet_latents"].ratio.low > 2
    divergence = noise.manifold.range.diverge(noise.sampled(Noise(drift, scale), 200, "test"))
    assert divergence.diverged.all()
    if scale < 1:
        assert found["magnitude_p50"].ratio.high < 0.1


def test_fewer_rollouts_than_asked_for_are_told(noise):
    n = len(noise.context)
    assert noise.counted == f"the {n} sampled rollouts"
    length = (noise.context.shape[1] + noise.real.shape[1]) / 12.5
    assert noise.fewer == f" 64 rollouts were asked for, but no more held-out utterances last {length:.1f} s."
    settings = noise.run.config.experiments.model_copy(update={"trajectories": n})
    as_many = replace(noise, run=run_like(noise.run, settings))
    assert as_many.fewer == ""


def run_like(run, experiments):
    """The run under other settings of experiments."""
    other = copy(run)
    other.config = run.config.model_copy(update={"experiments": experiments})
    return other


def test_rollouts_that_broke_are_told():
    def told(share):
        return not_whole(Measurement(experiment="stability", model="mdn", metric="finite_share", value=share))

    assert told(1.0) == ""
    assert told(0.984) == " Only 98.4% of them stay finite to the end, and all must."


def test_the_same_name_gives_the_same_draws(noise):
    one, again, other = (noise.sampled(Noise(), 5, name) for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_the_experiment_tells_everything_and_judges_the_nearest(tmp_path):
    run = run_of(tmp_path, "world:ar:24", regimes=["mdn", "vmf", "mdn-noise"])
    outcome = stability(run)
    records = Measurements(outcome.measurements)
    steps = [round(s * run.codec.frame_rate) for s in (1, 5, 10)]
    for name in ("mdn", "vmf", "mdn-noise"):
        assert [r.step for r in records.select(model=name, metric="survival")] == steps
        assert [r.step for r in records.select(model=name, metric="frechet_latents_ratio")] == steps[1:]
        assert records.one(model=name, metric="finite_share").value == 1.0
        assert records.one(model=name, metric="first_nonfinite_step").value == 0.0
        causes = sum(r.value for r in records.select(model=name) if r.metric.startswith("diverged_"))
        lived = records.one(model=name, metric="survival", step=steps[-1]).value
        assert causes + lived == pytest.approx(1, abs=1e-9)
    assert [r.step for r in records.select(model="real", metric="survival")] == steps
    told = {r.model for r in records.select(metric="frechet_latents_ratio")}
    assert {"real halves", "teacher-forced", "shuffled frames", "half magnitude", "standing still"} <= told
    shares = {name: records.one(model=name, metric="excess_share").value for name in ("mdn", "vmf")}
    assert max(shares.values()) == pytest.approx(1.0)
    (finding,) = outcome.findings
    assert finding.measured in list(records)
    name = next(r.name for r in REGIMES.values() if finding.words.startswith(f"{r.words}: in the stretch before 10 s"))
    of = {r.metric: r for r in records.select(model=name) if r.step in (1, steps[-1])}
    some = find_trajectories(run)
    asked = " 64 rollouts were asked for, but no more held-out utterances last 5.3 s." if len(some.context) < 64 else ""
    magnitude = of["magnitude_p50_ratio"]
    assert [c.measured for c in finding.conditions] == [
        *(of["frechet_latents_ratio"], magnitude, magnitude, of["excess_share"]),
    ]
    real = records.one(model="real", metric="survival", step=steps[-1])
    assert finding.more.startswith(
        f"Judged are the {len(some.context)} sampled rollouts.{asked} {show(of['survival'])} of"
    )
    assert f"by then, and {show(real)} of recordings by 10 s." in finding.more
    assert f"excess is {show(of['delta_nll_excess'])} nats a frame (lower is better)" in finding.more
    assert asked
    shuffled, increments = (
        records.one(metric=f"frechet_{what}_ratio", model="shuffled frames") for what in ("latents", "increments")
    )
    assert f"random order are at {show(shuffled)}" in finding.caution
    assert f"({show(increments)} by increments)" in finding.caution


def test_every_training_stands_beside_its_control_and_noise_on_contexts(tmp_path):
    run = run_of(tmp_path, "world:ar:24", regimes=["mdn", "vmf", "mdn-tied", "mdn-noise"], horizons=[1.0, 5.0])
    records = Measurements(stability(run).measurements)
    nats = {r.model: r.value for r in records.select(metric="delta_nll_excess")}
    pairs = ["mdn - mdn-noise", "vmf - mdn-noise", "mdn-tied - mdn", "mdn-tied - mdn-noise", "mdn-noise - mdn"]
    for metric in ("frechet_latents_times", "frechet_increments_times", "delta_nll_difference"):
        assert [r.model for r in records.select(metric=metric)] == pairs
    for pair in pairs:
        one, other = pair.split(" - ")
        assert records.one(metric="delta_nll_difference", model=pair).value == pytest.approx(nats[one] - nats[other])
        far = [records.one(metric="frechet_latents_ratio", model=name, step=62).value for name in (one, other)]
        # Both are ratios to the same real halves, from which the bias of few speakers is taken in other ways.
        assert records.one(metric="frechet_latents_times", model=pair).value == pytest.approx(far[0] / far[1], rel=0.2)
    both = [records.one(metric="frechet_latents_times", model=pair) for pair in ("mdn - mdn-noise", "mdn-noise - mdn")]
    assert both[0].value * both[1].value == pytest.approx(1)


def test_without_a_plain_training_likelihood_is_held_against_plain_models_all_the_same(tmp_path):
    run = run_of(tmp_path, "world:ar:24", regimes=["mdn-noise"], horizons=[1.0, 5.0])
    outcome = stability(run)
    scored = cell(run, 1, "real")
    best = min(float(scored.above(head, scored.best_trivial()).mean()) for head in ("mdn", "vmf"))
    assert best < 0
    records = Measurements(outcome.measurements)
    share = records.one(metric="excess_share")
    assert share.value == pytest.approx(records.one(metric="delta_nll_excess").value / best)
    assert share in [c.measured for c in outcome.findings[0].conditions]


def test_where_nothing_is_predictable_there_is_no_share_to_keep(tmp_path):
    outcome = stability(run_of(tmp_path, regimes=["mdn", "mdn-noise"], horizons=[1.0, 5.0]))
    records = Measurements(outcome.measurements)
    assert all(r.value > 0 for r in records.select(metric="delta_nll_excess"))
    assert not records.select(metric="excess_share")
    worse = records.select(metric="delta_nll_difference")
    assert {"mdn-noise", "mdn"} == {r.model.partition(" - ")[0] for r in worse}
    assert outcome.findings[0].conditions[-1].measured in list(worse)


@pytest.mark.parametrize("name", REGIMES)
def test_every_regime_trains_what_it_says(name, tmp_path_factory):
    run = run_of(tmp_path_factory.getbasetemp() / "regimes", "world:ar:8", unrolls=[2], unroll_epochs=1)
    one = regime(name)
    model = run.trained(one)
    for key, value in one.model.items():
        assert getattr(model.config, key) == value
    assert isinstance(model.head, SemiTiedHead) == ("tied" in name)
    assert model.n_features == (run.frames().dim + 1 if one.utterance else 0)
    if one.start:
        start = run.trained(regime(one.start))
        assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))
    if one.control:
        control = REGIMES[one.control]
        sets = [{**r.model, **r.train, "utterance": r.utterance} for r in (one, control)]
        changed = sets[0].items() ^ sets[1].items()
        # One thing is changed, though it may take two settings to say so.
        assert 1 <= len({key for key, _ in changed}) <= 2


def test_utterance_features_know_everything_but_the_stretch_that_is_judged(noise):
    frames, context, stretch = noise.run.frames(), noise.context.shape[1], noise.real.shape[1]
    for z, found in zip(noise.whole, noise.features, strict=True):
        rest = torch.cat([z[:context], z[context + stretch :]])
        torch.testing.assert_close(found[:-1], rest.double().mean(0).float())
    # Other latents in the stretch, and nothing else of the features changes.
    run = copy(noise.run)
    spoilt = frames.z.clone()
    for name in noise.utterances:
        start = int(frames.offsets[frames.utterances.index(name)]) + context
        spoilt[start : start + stretch] += 100 + torch.arange(stretch)[:, None]
    run.frames = lambda data="real": replace(frames, z=spoilt)
    run.once = lambda key, make: make()
    again = find_trajectories(run)
    assert not torch.equal(again.real, noise.real)
    torch.testing.assert_close(again.features, noise.features)


def test_a_rollout_is_told_of_its_own_utterance(noise, monkeypatch):
    monkeypatch.setattr("audio_engram.experiments.trajectories.BATCH", 5)
    model = noise.run.trained(regime("mdn-tied-utterance"))
    told = []

    def forward(context, utterance=None):
        told.append((context[:, -1], utterance))
        return DiagonalGaussian(torch.zeros_like(context[:, -1]), torch.full_like(context[:, -1], 1e-9))

    monkeypatch.setattr(model, "forward", forward)
    noise.sampled(model, 3, "test")
    assert len(told) == 3 * -(-len(noise.context) // 5)
    torch.testing.assert_close(torch.cat([features for _, features in told[::3]]), noise.features)
    torch.testing.assert_close(torch.cat([last for last, _ in told[::3]]), noise.context[:, -1])


@pytest.mark.parametrize("name", ["mdn-tied-utterance", "mdn-tied-utterance-residuals-most"])
def test_a_rollout_that_leaves_the_finite_numbers_ends_no_other_that_is_told_of_its_utterance(noise, name):
    context = noise.context.clone()
    context[3] = torch.nan
    rolled = replace(noise, context=context).sampled(noise.run.drawing(regime(name)), 5, "test")
    broken = torch.arange(len(context)) == 3
    assert rolled[broken].isnan().all()
    assert rolled[~broken].isfinite().all()


def test_only_a_rollout_that_is_told_of_its_utterance_keeps_what_is_its_own(tmp_path):
    """Utterances that differ in the mean of one dimension and are noise beside, which four frames tell half of."""
    regimes = ["mdn-tied", "mdn-tied-utterance"]
    run = run_of(tmp_path, train={"epochs": 15, "learning_rate": 5e-3}, regimes=regimes, horizons=[5.0, 20.0])
    frames = run.frames()
    own = torch.randn(len(frames.utterances), generator=torch.Generator().manual_seed(0))
    moved = replace(frames, z=frames.z.clone())
    moved.z[:, 0] += own[frames.utterance]
    run.frames = lambda data="real": moved
    records = Measurements(stability(run).measurements)
    assert records.one(metric="delta_nll_difference", model="mdn-tied-utterance - mdn-tied").high < 0
    some = find_trajectories(run)
    of_it = torch.stack([z[:, 0].mean() for z in some.whole])
    kept = {}
    for name in regimes:
        last = some.sampled(run.trained(regime(name)), 250, name)[:, -62:, 0].mean(1)
        kept[name] = float(torch.corrcoef(torch.stack([last, of_it]))[0, 1])
    assert kept["mdn-tied-utterance"] > 0.8
    assert abs(kept["mdn-tied"]) < 0.6  # of 20 utterances: 0 on average, beyond 0.6 in one seed of 200


@pytest.mark.parametrize("name", ["mdn-residuals", "mdn-tied-residuals-wide", "gru-tied-utterance-residuals-most"])
def test_a_regime_with_a_bandwidth_draws_after_the_model_of_its_control_and_trains_none(name, tmp_path_factory):
    run = run_of(tmp_path_factory.getbasetemp() / "regimes", "world:ar:8", unrolls=[2], unroll_epochs=1)
    one = regime(name)
    control = run.trained(REGIMES[one.control])
    before = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    drawing = run.drawing(one)
    assert DRAWN[name] is one
    assert drawing.n_features == control.n_features
    assert (drawing.model, drawing.bandwidth, drawing.share) == (control, one.bandwidth, one.share)
    for other, bandwidth, share in (
        (one, one.bandwidth, one.share),
        (replace(one, bandwidth=0.3), 0.3, one.share),
        (replace(one, share=0.3), one.bandwidth, 0.3),
    ):
        again = run.drawing(other)
        assert again.residuals is drawing.residuals
        assert (again.bandwidth, again.share) == (bandwidth, share)
    assert run.drawing(REGIMES[one.control]) is control
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == before


def test_bad_settings_are_one_line_before_anything_is_trained(tmp_path):
    run = run_of(tmp_path / "a", regimes=["mdn", "nosuch"])
    with pytest.raises(UsageError, match=r"experiments.regimes: nosuch: no such regime: use mdn, vmf"):
        check_lengths(run)
    for names, where in ((["stability"], "regimes"), (["sampling"], "sampling_regimes")):
        run = run_of(tmp_path / where, train={"state_weight": 0.5}, names=names, **{where: ["mdn-reinforce"]})
        with pytest.raises(UsageError, match=r"^train.estimator = reinforce: knows nothing of train.state_weight"):
            check_lengths(run)
    run = run_of(tmp_path / "b", stretch_seconds=1000.0)
    with pytest.raises(DataError, match=r"lower .*experiments.stretch_seconds"):
        check_lengths(run)
