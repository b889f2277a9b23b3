"""Variance ratios of context clusters against truths, nulls and scikit-free arithmetic."""

from types import SimpleNamespace

import pytest
import torch

from audio_engram.cluster_criteria import BEYOND, CONTEXT_NULLS, LEAST_KEPT
from audio_engram.config import make_config
from audio_engram.data.deceptive_worlds import Pulses
from audio_engram.data.planted import Regimes
from audio_engram.data.processes import Resonance, World
from audio_engram.errors import DataError
from audio_engram.experiments.cluster_moments import cluster_means, explain
from audio_engram.experiments.conditioning import Components, MeanPooled, Quartiles, conditionings
from audio_engram.experiments.structure import _Cell, _Judged, structure
from audio_engram.measurements import Measurements, measurement
from audio_engram.runs import Run
from audio_engram.statistics import SpeakerBootstrap


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "speakers", 24)
        patch.setattr(World, "utterances_per_speaker", 2)
        yield


def run_of(name, folder):
    settings = {"data": {"corpus": f"world:{name}", "test": 0.4}, "experiments": {"structure_lags": [1, 2]}}
    return Run(folder, make_config({"device": "cpu", **settings}), log=lambda line: None)


def measured(name, folder):
    outcome = structure(run_of(name, folder))
    (finding,) = outcome.findings
    records = Measurements(outcome.measurements)
    check_warnings(outcome.warnings, records)
    return records, finding


def few(records):
    """The conditionings and lags whose clusters hold too few frames, real ones or a null's, with the least share."""
    held = {}
    for r in records.select(metric="mass_kept"):
        held.setdefault((r.model, r.lag), []).append(r.value)
    return {key: min(shares) for key, shares in held.items() if min(shares) < LEAST_KEPT}


def check_warnings(warnings, records):
    """One line on every conditioning that is not judged because it holds too few frames, and on no other."""
    left_out = few(records)
    assert len(warnings) == bool(left_out)
    assert "".join(warnings).count("%)") == len(left_out)
    for (name, lag), share in left_out.items():
        of = warnings[0][warnings[0].index(f"{name} at lag ") :].partition(";")[0]
        assert f"{lag} ({share:.1%})" in of


@pytest.fixture(scope="module")
def regimes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Regimes, "frames", 1200)
        yield measured("regimes", tmp_path_factory.mktemp("regimes"))


@pytest.fixture(scope="module")
def resonance(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resonance, "frames", 1200)
        yield measured("resonance", tmp_path_factory.mktemp("resonance"))


@pytest.fixture(scope="module")
def pulses(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pulses, "frames", 1200)
        yield measured("pulses", tmp_path_factory.mktemp("pulses"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return measured("noise", tmp_path_factory.mktemp("noise"))


def test_states_that_follow_one_another_pass_and_the_ratio_nears_the_truth(regimes):
    records, finding = regimes
    assert finding.verdict == "pass"
    truth = Regimes().unexplained()
    best = min(r.value for r in records.select(metric="variance_ratio", lag=1, data="real", split="test") if r.value)
    # No conditioning can know more than the state; contexts with a jump inside fall into mixed clusters.
    assert truth < best < truth + 0.1


def test_the_truth_of_regimes_is_what_the_mean_after_each_state_leaves():
    world = Regimes()
    z = torch.cat([world.utterance(torch.Generator().manual_seed(s), 0) for s in range(40)]).double()
    z = (z - z.mean(0)) / z.std(0)
    centres = world.centres().double()
    centres = (centres - centres.mean(0)) / (centres.var(0, correction=0) + world.spread**2).sqrt()
    state = torch.cdist(z, centres).argmin(1)
    delta = z[1:] - z[:-1]
    means = torch.zeros(32, 8, dtype=torch.float64).index_add(0, state[:-1], delta)
    means /= torch.bincount(state[:-1], minlength=32).unsqueeze(1)
    ratio = (delta - means[state[:-1]]).square().sum() / (delta - delta.mean(0)).square().sum()
    # The ends of 40 utterances are jumps of their own: 39 of 20,000, on 2 % in all.
    assert float(ratio) == pytest.approx(world.unexplained(), rel=0.15)


def test_what_a_filter_explains_is_no_structure(resonance):
    records, finding = resonance
    ratios = records.select(metric="variance_ratio", split="test", data="real")
    assert min(r.high for r in ratios if r.high) < 0.6  # the ratio alone would pass
    assert finding.verdict == "fail"
    assert "noise with the same spectrum" in finding.words


def test_a_filter_of_what_is_not_gaussian_is_no_structure_either(pulses):
    records, finding = pulses
    assert finding.verdict == "fail"
    assert finding.measured.data == "autoregressed"
    best = {"model": finding.measured.model, "lag": finding.measured.lag}
    others = [one for one in records.select(metric="variance_ratio_excess", **best) if one.data != "autoregressed"]
    # All else would pass: the ratio, and what it has less than the other nulls.
    assert len(others) == 2
    assert all(one.high < -BEYOND for one in others)
    assert records.one(metric="variance_ratio", split="test", data="real", **best).high < 0.6
    assert "AR(1) with residuals in random order" in finding.words


def test_noise_has_nothing_but_regression_to_the_mean(noise):
    records, finding = noise
    assert finding.verdict == "fail"
    later = records.select(metric="variance_ratio", split="test", data="real", lag=2)
    # At lag 2 the context has neither frame of the increment: 1 within five standard errors of about 1e-3.
    assert all(abs(r.value - 1) < 0.005 for r in later if r.value is not None)


@pytest.mark.parametrize("world", ["regimes", "resonance", "noise"])
def test_permuted_labels_explain_nothing(world, request):
    records, _ = request.getfixturevalue(world)
    permuted = [r for r in records if r.data == "permuted" and r.value is not None]
    assert len(permuted) >= 2
    assert all(abs(r.value - 1) < 0.005 for r in permuted)


def test_quartiles_of_noise_hold_too_few_frames_to_be_judged(noise):
    records, finding = noise
    assert records.one(metric="mass_kept", model="PCA 8, quartiles", data="real", lag=1).value < LEAST_KEPT
    assert "quartiles" not in finding.words


def test_every_figure_that_the_question_asks_for_is_there(regimes):
    records, _ = regimes
    told = {r.metric for r in records.select(model="PCA 8, k-means 256", data="real", lag=1)}
    assert told == {
        *("variance_ratio", "degradation", "entropy_reduction", "mass_kept", "clusters_kept"),
        *("variance_ratio_middle", "variance_ratio_confident_50%", "variance_ratio_confident_25%"),
        *("variance_ratio_confident_10%", "variance_ratio_speakers_p10", "variance_ratio_speakers_p50"),
        "variance_ratio_speakers_p90",
    }
    p10, p50, p90 = (
        records.one(model="mean pool, k-means 64", data="real", lag=1, metric=f"variance_ratio_speakers_p{q}").value
        for q in (10, 50, 90)
    )
    assert p10 < p50 < p90
    assert {r.data for r in records.select(metric="variance_ratio_excess")} == set(CONTEXT_NULLS)


def test_confident_assignments_explain_more(regimes):
    records, _ = regimes
    cell = {"model": "PCA 8, k-means 256", "data": "real", "lag": 1}
    everything = records.one(metric="variance_ratio", split="test", **cell).value
    assert records.one(metric="variance_ratio_confident_25%", **cell).value < everything


def test_ratios_carry_the_frames_and_speakers_that_they_rest_on(regimes):
    records, _ = regimes
    cell = {"model": "PCA 8, k-means 256", "data": "real", "lag": 1}
    ratio, share = (records.one(metric=m, split="test", **cell) for m in ("variance_ratio", "mass_kept"))
    assert ratio.n_frames == pytest.approx(share.value * share.n_frames)
    assert records.one(metric="variance_ratio_middle", **cell).n_frames < ratio.n_frames
    assert share.n_speakers == ratio.n_speakers == 10  # of 24, and 4 for validation
    on_training = records.one(metric="variance_ratio", split="train", **cell)
    assert on_training.n_speakers == 10
    assert 20_000 < on_training.n_frames < 10 * 2 * 1200


def test_a_world_says_what_no_cluster_can_go_below(regimes, noise):
    (known,) = regimes[0].select(mode="analytic")
    assert (known.metric, known.model, known.lag) == ("variance_ratio_analytic", "truth", 1)
    assert known.value == Regimes().unexplained()
    assert [(r.lag, r.value) for r in noise[0].select(mode="analytic")] == [(1, 0.5), (2, 1.0)]


def test_what_holds_few_frames_has_no_difference_to_its_nulls(noise):
    records, _ = noise
    compared = {(r.model, r.lag) for r in records.select(metric="variance_ratio_excess")}
    everything = {(r.model, r.lag) for r in records.select(metric="mass_kept")}
    assert few(records)
    assert compared == everything - set(few(records))


@pytest.mark.parametrize("short", [0, 1, 2])
def test_a_null_that_holds_few_frames_is_none_to_beat(short):
    real, *nulls = cells = [_Cell.__new__(_Cell) for _ in range(3)]
    for place, cell in enumerate(cells):
        cell.share = 0.4 if place == short else 0.9
    judged = _Judged(real, nulls)
    assert judged.least is cells[short]
    assert judged.differences == []


def test_a_difference_counts_the_speakers_of_a_null_that_has_fewer():
    real, *nulls = cells = [_Cell.__new__(_Cell) for _ in range(3)]
    for cell, n, data in zip(cells, (9, 7, 20), ("real", *CONTEXT_NULLS), strict=False):
        cell.share, cell.name, cell.lag, cell.data = 0.9, "c", 1, data
        cell.run = SimpleNamespace(measure=measurement)
        cell.bootstrap = SpeakerBootstrap(torch.arange(n), 1000, among=torch.arange(60))
        cell.ratios = cell.bootstrap.ratios(torch.rand(n), torch.ones(n))
    found = _Judged(real, nulls).differences
    assert [(one.n_speakers, one.low is None) for one in found] == [(7, False), (9, False)]


def test_too_few_frames_anywhere_are_said_and_nothing_is_judged(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "frames", 300)
        records, finding = measured("noise", tmp_path)
    assert (finding.verdict, finding.cause) == ("undecided", "too few frames")
    assert finding.words.startswith("Too few frames: nothing can be judged")
    worst, *_, best = sorted(few(records).values())
    assert worst < best
    assert finding.measured.metric == "mass_kept"
    assert finding.measured.value == best < LEAST_KEPT == finding.criterion.threshold
    assert not records.select(metric="variance_ratio_excess")


def test_means_and_errors_against_plain_arithmetic(tmp_path):
    run = run_of("noise", tmp_path)
    windows = run.windows("train", 1)
    index = windows.with_valid_target()
    labels = torch.randint(3, (len(index),), generator=torch.Generator().manual_seed(0))
    labels[:40] = 3  # a cluster too small to be kept
    means = cluster_means(windows, index, labels)
    delta = windows.increments(index).double()
    assert means.row.tolist() == [0, 1, 2, -1]
    assert len(means.count) == len(means.mean) == len(means.variance) == 3
    torch.testing.assert_close(means.total_mean, delta.mean(0))
    torch.testing.assert_close(means.total_variance, delta.var(0))
    for k in range(3):
        torch.testing.assert_close(means.mean[k], delta[labels == k].mean(0))
        torch.testing.assert_close(means.variance[k], delta[labels == k].var(0))
    test = run.windows("test", 1)
    asked = test.with_valid_target()
    given = torch.arange(len(asked)) % 5  # 3 is not kept and 4 was never seen in training
    found = explain(means, test, asked, given, torch.zeros(len(asked)))
    kept = given < 3
    assert found.share == pytest.approx(float(kept.double().mean()))
    x, k = test.increments(asked)[kept].double(), given[kept]
    expected = (x - means.mean[k]).square().sum(1) / (1 + 1 / means.count[k])
    torch.testing.assert_close(found.within, expected)
    normal = [torch.distributions.Normal(means.mean[k], means.variance[k].sqrt())]
    normal += [torch.distributions.Normal(means.total_mean, means.total_variance.sqrt())]
    gained = normal[0].log_prob(x).sum(1) - normal[1].log_prob(x).sum(1)
    torch.testing.assert_close(found.gained, gained)
    torch.testing.assert_close(found.place, test.target[asked][kept])


def test_labels_far_apart_take_no_more_memory_and_change_nothing(tmp_path):
    run = run_of("noise", tmp_path)
    windows = run.windows("train", 1)
    index = windows.with_valid_target()
    labels = torch.arange(len(index)) % 3
    near, far = cluster_means(windows, index, labels), cluster_means(windows, index, labels * 30_000)
    assert far.mean.shape == near.mean.shape == (3, 32)
    torch.testing.assert_close(far.mean, near.mean)
    assert far.rows(torch.tensor([0, 1, 30_000, 60_000, 70_000])).tolist() == [0, -1, 1, 2, -1]


def test_quartiles_cut_training_contexts_into_equal_parts():
    contexts = torch.randn(4000, 2, 5, generator=torch.Generator().manual_seed(0))
    quartiles = Quartiles(Components(contexts, 0))
    labels, sure = quartiles.assign(contexts)
    digits = (labels.unsqueeze(1) // 4 ** torch.arange(8)) % 4
    assert all(torch.bincount(digits[:, place], minlength=4).tolist() == [1000] * 4 for place in range(8))
    assert (sure >= 0).all()


def test_mean_pooling_sees_the_mean_alone_and_is_surest_at_a_centroid():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0]])
    contexts = centres[torch.arange(200) % 2].unsqueeze(1) + 0.1 * torch.randn(200, 3, 2, generator=generator)
    pooled = MeanPooled(contexts, 2, 0)
    labels, _ = pooled.assign(contexts)
    assert len(set(labels[::2].tolist())) == len(set(labels[1::2].tolist())) == 1
    _, sure = pooled.assign(torch.tensor([[[4.0, 0.0]] * 3, [[0.1, 0.0]] * 3]))
    assert sure[0] > 0.9 > 0.1 > sure[1]


def test_too_few_contexts_are_one_line(tmp_path):
    run = run_of("noise", tmp_path)
    with pytest.raises(DataError, match="training contexts cannot make 100000 clusters"):
        conditionings(run.windows("train", 1), (64, 100_000), 0)
