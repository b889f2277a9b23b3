"""Archetypes on worlds whose answer is known: planted and foretold, planted and not foretold, correlated noise."""

import json
from types import SimpleNamespace

import pytest
import torch
from numpy import eye, save
from numpy.random import default_rng
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import ive

from audio_engram.archetype_map import ArchetypeMap
from audio_engram.archetypes import Space
from audio_engram.config import make_config
from audio_engram.data.planted import Archetypes
from audio_engram.data.processes import World
from audio_engram.distributions import VonMisesFisher
from audio_engram.errors import DataError
from audio_engram.experiments import direction_clusters
from audio_engram.experiments.archetypes import _Judged, _spokesman, archetypes
from audio_engram.experiments.direction_clusters import DirectionClusters, Directions
from audio_engram.listening import listen
from audio_engram.measurements import Measurement, Measurements, measurement
from audio_engram.pipeline import climb
from audio_engram.runs import Run
from audio_engram.statistics import SpeakerBootstrap

COUNTS = [32, 64, 128]


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "speakers", 20)
        patch.setattr(World, "utterances_per_speaker", 2)
        yield


def measured(name, folder, counts=COUNTS):
    config = make_config(
        {
            "device": "cpu",
            "data": {"corpus": f"world:{name}", "test": 0.4},
            "experiments": {"archetype_counts": counts},
        }
    )
    run = Run(folder, config, log=lambda line: None)
    outcome = archetypes(run)
    (finding,) = outcome.findings
    return run, Measurements(outcome.measurements), finding, outcome.warnings


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return measured("archetypes", tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def chained(tmp_path_factory):
    return measured("chained", tmp_path_factory.mktemp("chained"), [64])


@pytest.fixture(scope="module")
def correlated(tmp_path_factory):
    return measured("correlated", tmp_path_factory.mktemp("correlated"), [32, 64])


def test_the_planted_number_is_found(planted):
    _, records, _, _ = planted
    assert records.one(metric="found_k").value == 64


def test_tightness_at_the_planted_number_is_that_of_the_planted_spread(planted):
    run, records, _, _ = planted
    # The truth in the space of the components: planted directions with the planted spread, projected as the data are.
    basis = Directions(run, "real").space.vectors.T
    directions = Archetypes().planted().repeat_interleave(400, 0)
    drawn = VonMisesFisher(directions, torch.full((len(directions),), Archetypes.concentration)).sample(
        generator=torch.Generator().manual_seed(0)
    )
    # Standardisation is nearly isotropic here: its scale enters as the run's own.
    scale = run.frames().scale
    rows = torch.nn.functional.normalize((drawn / scale) @ basis.T, dim=1).view(64, 400, -1)
    centres = torch.nn.functional.normalize(rows.mean(1), dim=1)
    truth = float((rows * centres.unsqueeze(1)).sum(2).mean())
    found = records.one(metric="tightness", data="real", model="K = 64", split="test")
    # Standard error of a mean of 4,000 cosines that spread by 0.014; centroids of 100 rows take 2e-4 each way.
    assert found.value == pytest.approx(truth, abs=0.003)


@pytest.mark.parametrize("world", ["planted", "chained"])
def test_tightness_in_all_dimensions_is_the_analytic_one_and_what_the_files_give(world, request):
    run, records, finding, _ = request.getfixturevalue(world)
    at = {"data": "real", "model": "K = 64", "split": "test"}
    found = records.one(metric="tightness_full", **at)
    (truth,) = (a.value for a in Archetypes().clusters() if a.metric == "tightness_full")
    assert [r.value for r in records.select(metric="tightness_full_analytic")] == [truth] * (world == "planted")
    # I_16(300) / I_15(300) by SciPy. Scales of the dimensions differ by a few per cent, centroids are of 100 rows, and
    # the walk of the chain is drawn back by 3 %, which turns its increments.
    assert truth == pytest.approx(float(ive(16, 300) / ive(15, 300)), rel=1e-6)
    assert found.value == pytest.approx(truth, abs=0.005 if world == "chained" else 0.003)
    assert records.one(metric="tightness", **at).value > found.value + 0.005
    assert f"{found.value:.3f}" in finding.words
    kept = load_file(run.folder / "prototypes/k64.safetensors")
    z, frames = run.store.frames(), run.frames()
    raw = (z[run.windows("test", 1).target] - z[run.windows("test", 1).target - 1]) / kept["scale"]
    assert torch.equal(kept["loc"], frames.loc)
    windows = run.windows("train", 1)
    least = windows.increments(windows.with_valid_target()).norm(dim=1).quantile(0.25)
    cosine = (torch.nn.functional.normalize(raw[raw.norm(dim=1) > least], dim=1) @ kept["directions"].T).amax(1)
    assert float(cosine.double().mean()) == pytest.approx(found.value, abs=1e-5)


def test_figures_of_a_split_count_its_own_directions(planted):
    run, records, _, _ = planted
    at = {"data": "real", "model": "K = 64", "metric": "tightness"}
    test, train = (records.one(split=split, **at) for split in ("test", "train"))
    assert (test.n_speakers, train.n_speakers) == (8, 9)  # of 20, 3 for validation
    assert train.n_frames == pytest.approx(0.75 * len(run.windows("train", 1)), abs=1)


def cell(k, tight=(0.8, 0.9), excess=(0.02, 0.04), told=(0.7, 0.8)):
    """Clusters of a given tightness, foretold from contexts in a given share."""

    def record(metric, ends):
        value = sum(ends) / 2
        what = {"experiment": "archetypes", "model": f"K = {k}", "n_speakers": 20}
        return Measurement(metric=metric, value=value, low=ends[0], high=ends[1], **what)

    real = DirectionClusters.__new__(DirectionClusters)
    real.k, real.records = k, [record("tightness", tight), record("membership_accuracy", told)]
    one = _Judged(real, [])
    one.__dict__["records"] = [*[record("tightness_excess", excess)] * 2, record("membership_excess", (0.1, 0.2))]
    return one


@pytest.mark.parametrize(
    ("others", "found", "speaks"),
    [
        ([cell(64), cell(128)], 64.0, 64),  # both pass
        ([cell(64), cell(128)], 128.0, 128),
        ([cell(64, told=(0.2, 0.3)), cell(128)], 64.0, 128),  # what passes comes first
        ([cell(64, told=(0.2, 0.3)), cell(128, told=(0.4, 0.5))], 64.0, 64),  # both fail
        ([cell(64, told=(0.2, 0.3)), cell(128, told=(0.4, 0.5))], None, 128),  # the nearer one
        ([cell(64, told=(0.5, 0.7)), cell(128, told=(0.4, 0.5))], 128.0, 64),  # undecided before failed
    ],
)
def test_one_k_speaks_for_all(others, found, speaks):
    gap = Measurement(experiment="archetypes", model="gap", metric="found_k", value=found)
    assert _spokesman(others, gap).real.k == speaks


def test_differences_count_the_speakers_of_a_null_that_has_fewer():
    real, *nulls = cells = [DirectionClusters.__new__(DirectionClusters) for _ in range(3)]
    for cell, n, kind in zip(cells, (9, 7, 20), ("real", "gaussian", "random_pairs"), strict=True):
        cell.k, cell.of, cell.run = 64, SimpleNamespace(kind=kind), SimpleNamespace(measure=measurement)
        cell.held = {"test": SimpleNamespace(labels=torch.arange(n))}
        cell.bootstrap = SpeakerBootstrap(torch.arange(n), 1000, among=torch.arange(60))
        cell.tightness = cell.accuracy = cell.bootstrap.ratios(torch.rand(n), torch.ones(n))
    one = _Judged(real, nulls)
    assert [r.n_speakers for r in one.records] == [7, 9, 9]
    assert one.beyond().n_speakers == 7
    assert all(r.low is not None for r in (*one.records, one.beyond()))


def test_planted_directions_that_contexts_do_not_tell_fail_by_their_accuracy(planted):
    _, records, finding, _ = planted
    assert finding.verdict == "fail"
    at = {"data": "real", "model": "K = 64"}
    accuracy = records.one(metric="membership_accuracy", **at)
    # The axis is one of 32 at random and the sign leans toward the origin: between 1/64 and 1/32.
    assert 1 / 80 < accuracy.value < 1 / 20
    assert records.one(metric="tightness", split="test", **at).low > 0.75


def test_directions_that_follow_one_another_pass(chained):
    _, records, finding, _ = chained
    assert finding.verdict == "pass"
    truth = records.one(metric="membership_accuracy_analytic").value
    assert truth == pytest.approx(1 - 0.05 * (1 - 1 / 64))  # nothing foretells the jumps
    accuracy = records.one(metric="membership_accuracy", data="real", model="K = 64")
    assert accuracy.low <= truth <= accuracy.high
    assert "Known of this world beforehand: K 64, foretold at best 0.951." in finding.words
    assert records.one(metric="membership_linear", data="real", model="K = 64").value < 0.97


def test_tight_clusters_of_correlated_noise_are_no_archetypes(correlated):
    _, records, finding, _ = correlated
    tight = records.select(metric="tightness", data="real", split="test")
    assert all(r.low > 0.75 for r in tight)  # tightness alone would pass
    assert all(abs(r.value) < 0.01 for r in records.select(metric="tightness_excess"))
    assert records.one(metric="found_k").value is None
    assert finding.verdict == "fail"
    assert "The gap finds no K" in finding.words
    assert "beforehand" not in finding.words


def test_planes_of_single_recordings_are_no_archetypes(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "utterances_per_speaker", 4)
        _, records, finding, _ = measured("planes", tmp_path, [32])
    assert finding.verdict == "fail"
    assert finding.measured.data == "random_pairs"
    # All else would pass: tightness, memberships, and the excess over Gaussian increments.
    assert records.one(metric="tightness", split="test", data="real").low > 0.9
    assert records.one(metric="membership_accuracy", data="real").low > 0.6
    assert records.one(metric="tightness_excess", data="gaussian").low > 0.1


def test_prototypes_are_unit_directions_near_the_planted_ones(planted):
    run, _, _, _ = planted
    found = load_file(run.folder / "prototypes/k64.safetensors")
    assert found["directions"].shape == (64, 32)
    torch.testing.assert_close(found["directions"].norm(dim=1), torch.ones(64))
    assert float(found["share"].sum()) == pytest.approx(1)
    truth = torch.nn.functional.normalize(Archetypes().planted() / run.frames().scale, dim=1)
    nearest = (truth @ found["directions"].T).amax(1)
    # A mean of about 100 directions is off by sqrt((1 - A^2) / 100) = 0.03.
    assert float(nearest.quantile(0.1)) > 0.998
    about = json.loads(safe_open(run.folder / "prototypes/k64.safetensors", "pt").metadata()["about"])
    assert (about["k"], about["codec"]) == (64, run.codec_name)


def test_the_map_is_that_of_the_centroids(planted):
    run, _, _, _ = planted
    shown = ArchetypeMap.model_validate_json((run.folder / "archetypes.json").read_text())
    kept = load_file(run.folder / "prototypes/k64.safetensors")
    assert json.loads((run.folder / "archetypes.json").read_text())["k"] == shown.k == 64
    sizes = torch.tensor([one.size for one in shown.archetypes])
    torch.testing.assert_close(sizes / sizes.sum(), kept["share"])
    assert {data: len(some) for data, some in shown.null_sizes.items()} == {"gaussian": 64, "random_pairs": 64}
    # A random frame of the same speaker may be the one that was left, and then there is no direction.
    assert all(sum(some) == pytest.approx(int(sizes.sum()), rel=0.02) for some in shown.null_sizes.values())
    # Distances in the plane are those between centroids, but for what the plane does not hold.
    flat = torch.tensor([(one.x, one.y) for one in shown.archetypes], dtype=torch.float64)
    whole = kept["directions"].double() - kept["directions"].double().mean(0)
    assert float(flat.square().sum() / whole.square().sum()) == pytest.approx(shown.plane, rel=1e-4)
    assert float(torch.linalg.svdvals(whole)[:2].square().sum()) == pytest.approx(float(flat.square().sum()), rel=1e-4)
    assert bool((torch.cdist(flat, flat) <= torch.cdist(whole, whole) + 1e-5).all())


def test_finding_map_and_gap_speak_of_one_k(planted):
    run, records, finding, _ = planted
    shown = ArchetypeMap.model_validate_json((run.folder / "archetypes.json").read_text())
    assert finding.measured.model == records.one(metric="tightness_state_conditioned").model == f"K = {shown.k}"
    assert finding.words.startswith(f"K = {shown.k}: ")
    assert "This K is the one that the gap finds." in finding.words


def test_a_world_has_nothing_to_hear(planted):
    run, _, _, _ = planted
    shown = ArchetypeMap.model_validate_json((run.folder / "archetypes.json").read_text())
    assert {(one.heard, one.nearest) for one in shown.archetypes} == {("", ())}
    assert shown.average_flux is None
    assert listen(run) == []
    assert not (run.folder / "audio").exists()


def test_no_k_at_all_is_one_line_and_shows_before_anything_is_measured(tmp_path):
    what = r"archetype_counts: \d+ training directions are under 10 for each of K = 100000: add audio, or a smaller K"
    with pytest.raises(DataError, match=what):
        measured("correlated", tmp_path / "a", [100_000])
    config = {
        "data": {"corpus": "world:correlated"},
        "experiments": {"names": ["structure", "archetypes"]},
        "device": "cpu",
    }
    config["experiments"]["archetype_counts"] = [200_000, 100_000]
    run = Run(tmp_path / "b", make_config(config), log=lambda line: None)
    with pytest.raises(DataError, match=what):
        climb(run)
    assert not (tmp_path / "b/outcomes").exists()


def run_of(latents, folder, counts):
    """A run on latents of eight speakers, each made from its number."""
    for i in range(8):
        (folder / f"latents/s{i}").mkdir(parents=True)
        save(folder / f"latents/s{i}/u.npy", latents(i).astype("float32"))
    config = {
        "device": "cpu",
        "codec": {"frame_rate": 12.5},
        "data": {"corpus": f"latents:{folder / 'latents'}", "test": 0.4},
        "experiments": {"archetype_counts": counts},
    }
    return Run(folder / "run", make_config(config), log=lambda line: None)


def test_a_k_beyond_the_directions_that_differ_is_left_out(tmp_path):
    def axes(i):
        rng = default_rng(i)
        return (rng.choice([-1.0, 1.0], (300, 1)) * eye(3)[rng.integers(0, 3, 300)]).cumsum(0)

    run = run_of(axes, tmp_path, [4, 32])
    outcome = archetypes(run)
    assert {r.model for r in outcome.measurements if r.metric == "tightness"} == {"K = 4"}
    (warning,) = (w for w in outcome.warnings if "K = 32" in w)
    assert "but only 6 of" in warning


def test_an_increment_across_all_components_is_left_out_and_counted(tmp_path, monkeypatch):
    def steps(i):
        rng = default_rng(i)
        along = rng.standard_normal((300, 3)) * [1.0, 1.0, 0.0]
        along[::100] = [0.0, 0.0, 3.0]
        return along.cumsum(0)

    monkeypatch.setattr(direction_clusters, "fit_space", lambda delta: Space(torch.eye(3)[:, :2]))
    outcome = archetypes(run_of(steps, tmp_path, [4]))
    real, gaussian, pairs = (
        [w for w in outcome.warnings if f"({kind})" in w] for kind in ("real", "gaussian", "random_pairs")
    )
    # At frames 100 and 200 of eight utterances; the first has no increment.
    assert real == ["Archetypes: 16 increments (real) left out: they have no part among the principal components."]
    assert gaussian == pairs == []
    assert all(r.value is not None for r in outcome.measurements if r.metric == "tightness")


def test_what_cannot_be_clustered_is_said(tmp_path):
    _, records, _, warnings = measured("correlated", tmp_path, [16, 100_000])
    assert warnings == ["Archetypes: K = 100000 left out: under 10 training directions for each."]
    assert {r.model for r in records.select(metric="tightness")} == {"K = 16"}
