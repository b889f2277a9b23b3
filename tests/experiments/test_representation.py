"""Representations and smoothing on worlds: what is found there, what is not, and that speakers pair."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from audio_engram.codecs.derived import base_config, folder_name
from audio_engram.config import CodecConfig, make_config
from audio_engram.data.processes import World
from audio_engram.decision import Decision
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments.representation import _Found, _judge, _ratio, horizon, representations
from audio_engram.experiments.smoothing import variants
from audio_engram.measurements import Measurement, Measurements
from audio_engram.pipeline import climb
from audio_engram.runs import Run
from audio_engram.source import Source
from audio_engram.statistics import SpeakerBootstrap

SETTINGS = {
    "device": "cpu",
    "model": {"context": 3, "width": 32, "depth": 1, "components": 2},
    "train": {"epochs": 6, "batch_size": 128, "learning_rate": 5e-3, "precision": "float32"},
    "experiments": {
        "names": ["representation", "smoothing"],
        "rollout_seconds": 0.48,
        "representations": [{"stack": 2}, {"pca": 4}, {"pca": 4, "whiten": True}],
        "resamples": 1000,
        "max_segments": 200,
    },
}


def config_for(name: str, **experiments: object):
    values = SETTINGS | {"experiments": SETTINGS["experiments"] | experiments}
    return make_config(values | {"data": {"corpus": f"world:{name}", "test": 0.4}})


@pytest.fixture(scope="module", autouse=True)
def small_worlds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "speakers", 24)
        patch.setattr(World, "utterances_per_speaker", 2)
        patch.setattr(World, "frames", 90)
        patch.setattr("audio_engram.data.processes.AR.frames", 90)
        yield


@pytest.fixture(scope="module")
def ar(tmp_path_factory, small_worlds):
    run = Run(tmp_path_factory.mktemp("ar"), config_for("ar"), log=lambda line: None)
    decision = climb(run, "test")
    return run, decision, Measurements.read(run.folder / "measurements.json")


@pytest.fixture(scope="module")
def noise(tmp_path_factory, small_worlds):
    run = Run(tmp_path_factory.mktemp("noise"), config_for("noise"), log=lambda line: None)
    return run, climb(run, "test"), Measurements.read(run.folder / "measurements.json")


def test_every_representation_is_measured(ar):
    _, decision, measured = ar
    records = measured.select(experiment="representation")
    assert [r.codec for r in records.select(metric="dynamics_per_second", model="vmf")] == [
        "world:ar 12.5 Hz",
        "world:ar 6.25 Hz",
        "world:ar 12.5 Hz · PCA 4",
        "world:ar 12.5 Hz · PCA 4 whitened",
    ]
    for metric in ("nll_per_second", "advantage_kept", "state_error_vs_still", "delta_nll_per_second"):
        assert len({r.codec for r in records.select(metric=metric)}) == 4
    assert all(r.value is not None for r in records)
    assert Decision.read(ar[0].folder / "decision.json") == decision


def test_whitening_changes_no_likelihood(ar):
    """ΔNLL does not change under an invertible linear map, and models see standardised data either way."""
    _, _, measured = ar
    pair = [
        measured.one(
            experiment="representation",
            metric="dynamics_per_second",
            model="mdn",
            codec=f"world:ar 12.5 Hz · PCA 4{end}",
        ).value
        for end in ("", " whitened")
    ]
    assert pair[0] == pytest.approx(pair[1], rel=1e-3)


def test_dynamics_are_found_in_ar_and_not_in_noise(ar, noise):
    for name, (_, _, measured) in {"ar": ar, "noise": noise}.items():
        own = measured.one(
            experiment="representation", metric="dynamics_per_second", model="vmf", codec=f"world:{name} 12.5 Hz"
        )
        if name == "ar":
            assert own.high < -5
        else:
            # Two trainings on exchangeable data differ by luck: 0.01 nats a dimension is 4 nats/s here.
            assert abs(own.value) < 4


def test_a_ratio_to_nothing_has_no_interval_and_no_verdict(noise):
    _, decision, _ = noise
    finding = next(f for f in decision.findings if f.criterion.experiment == "representation")
    assert finding.verdict in ("undecided", "fail")


def found(title="own", gain=-2.0, speakers=9, rate=12.5, held_out=("a", "b")):
    """A representation in which the order of frames gains this much, the same whoever is drawn."""
    what = {"experiment": "representation", "model": "vmf", "codec": title, "value": gain}
    records = [Measurement(metric=metric, **what) for metric in ("dynamics_per_second", "advantage_kept")]
    b = SpeakerBootstrap(torch.arange(speakers), 1000, among=torch.arange(60))
    gains = b.ratios(torch.full((speakers,), gain), torch.ones(speakers))
    return _Found(title, "vmf", records, gains, (b, b), frozenset(held_out), rate)


def uncertain(one):
    """The same, but of one resample it gains nothing."""
    one.per_second[7] = 0.0
    return one


@pytest.mark.parametrize(
    ("own", "other", "verdict", "cause", "n_speakers"),
    [
        (found(), found("b", -5.0), "pass", "", 9),
        (found(), found("b", -3.0, speakers=7), "fail", "", 7),
        (found(speakers=6), found("b", -3.0), "fail", "", 6),
        (found(speakers=5), found("b", -5.0), "undecided", "too few speakers", 5),
        (uncertain(found()), found("b", -5.0), "undecided", "ratio to nothing", 9),
        (uncertain(found(speakers=5)), found("b", -5.0), "undecided", "too few speakers", 5),
        (found(), found("b", -5.0, held_out=("a", "c")), "undecided", "no interval", 9),
        (found(), found("b", -5.0, rate=25.0), "undecided", "nothing beside", 0),
    ],
)
def test_what_leaves_the_verdict_open_has_its_own_cause(own, other, verdict, cause, n_speakers, noise):
    ratios = [_ratio(noise[0], one, own) for one in (own, other)]
    finding = _judge([own, other], ratios[1:])
    assert (finding.verdict, finding.cause, finding.measured.n_speakers) == (verdict, cause, n_speakers)


def test_smoothing_noise_gains_nothing_beyond_the_shuffled_twin(noise):
    _, decision, measured = noise
    raw = measured.one(
        experiment="smoothing", metric="direction_cosine", model="vmf", data="real", codec="world:noise 12.5 Hz"
    )
    smooth = measured.one(
        experiment="smoothing",
        metric="direction_cosine",
        model="vmf",
        data="real",
        codec="world:noise 12.5 Hz · smooth 3",
    )
    gain = measured.one(experiment="smoothing", metric="cosine_gain", codec="world:noise 12.5 Hz · smooth 3")
    # Smoothing changes the cosine itself a lot, and the twin alike.
    assert abs(smooth.value - raw.value) > 3 * abs(gain.value)
    assert abs(gain.value) < 0.05
    assert not any(f.verdict == "pass" for f in decision.findings if f.criterion.experiment == "smoothing")


def test_the_surrogate_is_smoothed_after_it_is_shuffled(noise):
    run = noise[0].represented(noise[0].config.codec.model_copy(update={"smooth": 3}))
    z = run.frames("shuffled_within").z
    inner = run.frames().offsets[:-1]
    keep = torch.ones(len(z), dtype=torch.bool)
    keep[inner] = False
    lagged = float((z[1:] * z[:-1])[keep[1:]].mean() / z.square().mean())
    # 2/3 for a moving average of three; 0 if frames were shuffled after it. About 140,000 products: sd below 0.01.
    assert lagged == pytest.approx(2 / 3, abs=0.04)


def test_another_codec_holds_out_the_same_people(tmp_path):
    """Even where its own store would divide them otherwise, because some were too short for it."""
    values = SETTINGS | {"data": {"corpus": "world:ar", "test": 0.4}}
    run = Run(tmp_path / "r", make_config(values), log=lambda line: None)
    other = Source(run.config, tmp_path / "l", run.device, like=run.source)
    people = dict.fromkeys([*list(run.split_of)[3:], "new"], 10)
    other.__dict__["store"] = SimpleNamespace(frames_by_speaker=people)
    assert other.split_of == {name: run.split_of.get(name, "train") for name in people}
    assert other.split_of["new"] == "train"


def test_dynamics_of_a_finer_cut_are_shown_and_not_judged(ar):
    _, decision, measured = ar
    own, finer, *_ = measured.select(experiment="representation", metric="dynamics_ratio")
    assert (own.codec, own.value) == ("world:ar 12.5 Hz", 1.0)
    assert finer.codec == "world:ar 6.25 Hz"
    finding = next(f for f in decision.findings if f.criterion.experiment == "representation")
    assert finding.measured.codec.startswith("world:ar 12.5 Hz · PCA 4")
    # A stack of two tells about half as much in a second: the same at every second cut.
    assert finer.value < 0.8


def test_two_of_one_name_are_refused_before_training(tmp_path):
    config = config_for("ar", representations=[{"pca": 4}, {"pca": 4, "frame_rate": 0.0}, {"pca": 0.999999}])
    run = Run(tmp_path / "r", config, log=lambda line: None)
    with pytest.raises(UsageError, match="could not be told apart"):
        climb(run, "test")
    assert not list((tmp_path / "r").rglob("*-lag*.safetensors"))


def test_overwriting_takes_the_representations_with_it(ar, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ar[0].folder, copy)
    assert list(copy.glob("representations/*/checkpoints/*.safetensors"))
    Run(copy, ar[0].config, log=lambda line: None, overwrite=True)
    assert [path.name for path in copy.iterdir()] == ["config.toml"]


def test_smoothed_latents_carry_their_warning(ar):
    told = [warning for warning in ar[1].warnings if "frames after" in warning]
    assert len(told) == 1
    assert "smooth 3, world:ar 12.5 Hz · smooth 5 and world:ar 12.5 Hz · hybrid 3 see frames" in told[0]


def test_representations_hold_out_the_same_speakers(ar):
    run = ar[0]
    other = run.represented(CodecConfig(pca=4.0))
    assert other.split_of == run.split_of
    assert other.source is run.source
    assert other.frames().speakers == run.frames().speakers
    assert other.folder.parent == run.folder / "representations"


def test_resuming_finds_every_training_done(ar, monkeypatch):
    run, _, measured = ar
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("checkpoints/*.safetensors")}
    shutil.rmtree(run.folder / "outcomes")  # so that all is measured again
    again = Run(run.folder, run.config, log=lambda line: None)
    climb(again, "test")
    assert [m.model_dump() for m in Measurements.read(run.folder / "measurements.json")] == [
        m.model_dump() for m in measured
    ]
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("checkpoints/*.safetensors")} == before


def test_the_page_shows_them(ar):
    page = (ar[0].folder / "report.html").read_text()
    assert "Predictability against the stability of rollouts" in page
    assert "world:ar 12.5 Hz · PCA 4 whitened" in page
    assert "Does smoothing make directions more predictable" in page


def test_without_a_list_there_are_variants_of_the_own_codec(tmp_path):
    run = Run(tmp_path / "r", config_for("noise", representations=[]), log=lambda line: None)
    found = representations(run)
    assert found[0] == run.config.codec
    assert {one.pca for one in found} == {0.0}  # 32 dimensions have no 32 components fewer
    assert [one.smooth for one in found] == [1, 3]
    assert [(v.smooth, v.hybrid) for v in variants(run)] == [(1, False), (3, False), (5, False), (3, True)]


def test_mel_is_compared_at_its_four_rates_and_lyra_unstacked(tmp_path):
    values = {"data": {"corpus": "demo"}, "experiments": {"names": ["representation"]}}
    run = Run(tmp_path / "r", make_config(values), log=lambda line: None)
    assert [one.frame_rate for one in representations(run)] == [0.0, 25.0, 50.0, 100.0, 0.0, 0.0, 0.0, 0.0]
    assert [one.pca for one in representations(run)][4:] == [32.0, 64.0, 128.0, 0.0]
    assert horizon(run) == 16


def test_folders_have_names_of_their_own():
    several = [
        CodecConfig(name="lyra", weights="a", stack=4),
        CodecConfig(name="lyra", weights="b", stack=4),
        CodecConfig(name="lyra", weights="a", stack=4, smooth=3, hybrid=True),
        CodecConfig(name="my.module:Codec", options={"gain": 0.5}),
    ]
    names = [folder_name(codec) for codec in several]
    assert len(set(names)) == 4
    assert names[2].startswith("lyra-stack4-smooth3-hybrid-")
    assert all("/" not in name and ":" not in name for name in names)
    assert base_config(several[2]) == base_config(several[0])


def test_rollouts_longer_than_the_audio_are_refused_before_training(tmp_path):
    run = Run(tmp_path / "r", config_for("ar", rollout_seconds=60.0), log=lambda line: None)
    with pytest.raises(DataError, match=r"experiments\.rollout_seconds"):
        climb(run, "test")
    assert not list((tmp_path / "r").rglob("*-lag*.safetensors"))


def test_a_representation_that_cannot_be_is_refused_at_the_start(tmp_path):
    run = Run(tmp_path / "r", config_for("ar", representations=[{"pca": 40}]), log=lambda line: None)
    with pytest.raises(UsageError, match=r"codec\.pca = 40"):
        climb(run, "test")
