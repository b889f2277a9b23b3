"""Bad input at the command: one line that says what, where and the remedy, its exit code, and nothing half-written."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_engram import cli, train
from audio_engram.data.publish import AGAIN

pytestmark = pytest.mark.usefixtures("place")
RATE = 16_000
SMALL = [
    word
    for setting in (
        *("model.context=2", "model.width=8", "model.depth=1", "model.components=2"),
        *("train.epochs=1", 'train.precision="float32"', "data.test=0.4"),
        *("experiments.lags=[1]", "experiments.surrogate_lags=[1]", "experiments.ceiling_lags=[1]"),
        *("experiments.steps=3", "experiments.unrolls=[2]", "experiments.unroll_epochs=1"),
        *("experiments.resamples=1000", "experiments.max_segments=50", "experiments.audio_seconds=0.5"),
        *('experiments.regimes=["mdn"]', "experiments.horizons=[1.0, 2.0]", "experiments.stretch_seconds=1.0"),
        *("experiments.trajectories=8", "experiments.archetype_counts=[4]", "experiments.rollout_seconds=0.32"),
    )
    for word in ("--set", setting)
]
AUDIO = ["--device", "cpu", "--corpus", "folder:speech", "--out", "out"]
WORLD = ["--device", "cpu", "--corpus", "world:ar", "--out", "out"]


def noise(seconds: float, seed: int = 0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def write(path: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return Path(path)


@pytest.fixture
def speech():
    """Six speakers with an utterance each: 25 frames of the mel codec."""
    for speaker in range(6):
        write(f"speech/s{speaker}/a.wav", noise(2, speaker))


@pytest.fixture
def engram(capsys):
    """Calls the command; returns its exit code, its stdout and the lines of its stderr."""

    def call(*words: object) -> tuple[int, str, list[str]]:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as leaving:  # argparse leaves by itself
            code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


REFUSED = [
    # What is given, the exit code, and the line.
    (["run", "--set", "model.widht=4"], 2, r"settings: model\.widht: no such key: did you mean model\.width\?"),
    (["run", "--set", "model.width=wide"], 2, r"settings: model\.width = 'wide': .*valid integer"),
    (["run", "--set", "model=3"], 2, r"settings: model = 3: .*dictionary"),
    (["run", "--set", "model.width"], 2, r"--set model\.width: write it as section\.key=value"),
    (["run", "--config", "key.toml"], 2, r"key\.toml: model\.widht: no such key: did you mean model\.width\?"),
    (["run", "--config", "type.toml"], 2, r"type\.toml: model\.width = 'x': .*valid integer"),
    (["run", "--config", "broken.toml"], 2, r"config broken\.toml: not TOML: .*line 1"),
    (["run", "--config", "no.toml"], 2, r"config no\.toml: No such file.*: give the path of a TOML file"),
    (["run", "--config", "speech"], 2, r"config speech: Is a directory: give the path of a TOML file"),
    (["run", *WORLD, "--experiments", "predictabilty"], 2, r"no such experiment: did you mean predictability\?"),
    (
        ["run", *WORLD, "--set", 'experiments.regimes=["mdm"]'],
        2,
        r"experiments\.regimes: mdm: no such regime: use mdn,",
    ),
    (["encode", *WORLD, "--set", 'experiments.regimes=["mdm"]'], 2, r"experiments\.regimes: mdm: no such regime"),
    (["run", *WORLD, "--set", 'experiments.regimes=["mdn", "mdn"]'], 2, r"regimes = .*: .*the same value stands twice"),
    (["run", *WORLD, "--set", 'experiments.sampling_regimes=["mdn"]'], 2, r"regimes: mdn: trains on true contexts alo"),
    (["run", *WORLD, "--set", "experiments.correction.regime=mdm"], 2, r"correction\.regime: mdm: no such regime: use"),
    (
        ["run", *WORLD, "--set", "experiments.correction.levels=[0.0]"],
        2,
        r"levels\.0 = 0\.0: .*greater than",
    ),
    (["run", *WORLD, "--set", "experiments.correction.levels=[]"], 2, r"correction\.levels = \(\): .*at least 1 item"),
    (
        ["run", *WORLD, "--set", "experiments.correction.levels=[2.0]"],
        2,
        r"levels: 2: denoisers are trained at 0\.05",
    ),
    (
        ["run", *WORLD, "--set", "score.sigma_min=2.0"],
        2,
        r"score\.sigma_max = 1\.0: .*sigma_min = 2 is larger: lower",
    ),
    (["run", *WORLD, "--set", "score.sigma_min=0.0"], 2, r"score\.sigma_min = 0\.0: .*greater than 0"),
    (["train", *WORLD, "--model", "mnd"], 2, r"model mnd: no such head: use one of mdn, vmf, magnitude"),
    (["run", "--corpus", "world:arr", "--out", "out"], 2, r"world:arr: no such world: use one of ar,"),
    (["run", "--corpus", "demos", "--out", "out"], 2, r"no corpus 'demos'; did you mean demo\?"),
    (["run", "--corpus", "folder:no", "--out", "out"], 3, r"data\.corpus: no does not exist; give the folder"),
    (["run", *AUDIO, "--codec", "mle"], 2, r"codec\.name: there is no codec 'mle'; did you mean mel\?"),
    (["run", *AUDIO, "--codec", "no_such.module:Codec"], 4, r"cannot import no_such\.module .*; install it"),
    (["run", *AUDIO, "--set", "codec.weights=any.npz"], 2, r"codec\.weights: codec 'mel' does not use it"),
    (["run", *AUDIO, "--set", "codec.frame_rate=7"], 2, r"codec\.frame_rate: mel has 12\.5, 25, 50 or 100 Hz, not 7"),
    (["run", *AUDIO, "--codec", "lyra"], 4, r"codec\.weights: the weights .* 'lyra' .*--set codec\.weights=FILE"),
    (["run", *AUDIO, "--codec", "lyra", "--set", "codec.weights=no.npz"], 4, r"no file no\.npz; give the \.npz"),
    (["run", *AUDIO, "--codec", "lyra", "--set", "codec.weights=shape.npz"], 3, r"shape\.npz: tensor .* has shape"),
    (["run", *AUDIO, "--codec", "lyra", "--set", "codec.weights=key.toml"], 3, r"key\.toml: not an \.npz file"),
    (["codec", "check", "mle"], 2, r"there is no codec 'mle'; did you mean mel\?"),
    (["train", *WORLD, "--lag", "0"], 2, r"--lag and --unroll count frames: give 1 or more"),
    (["train", *WORLD, "--lag", "2", "--unroll", "2"], 2, r"--unroll trains next-step prediction: leave --lag at 1"),
    (["train", *WORLD, "--seed", "abc"], 2, r"argument --seed: invalid int value: 'abc'; see engram train --help"),
    (["train", *WORLD, "--max-failed", "2"], 2, r"data\.max_failed = 2\.0: .*less than or equal to 1"),
    (["rum"], 2, r"invalid choice: 'rum' \(choose from .*\); see engram --help"),
    ([], 2, r"required: COMMAND; see engram --help"),
    (["report", "no"], 2, r"no: no such run folder: make one with `engram run --out no`"),
    (["report", "speech"], 3, r"speech/config\.toml: missing: make it with"),
    (["run", *WORLD[:-1], "key.toml"], 2, r"key\.toml: cannot be written .*; choose another place with --out"),
    (["run", *WORLD[:-1], "key.toml/out"], 2, r"key\.toml/out: cannot be written .*; choose another place with --out"),
    (["run", *WORLD[:-1], "/proc/out"], 2, r"/proc/out: cannot be written .*; choose another place with --out"),
]


@pytest.mark.parametrize(("words", "code", "line"), REFUSED, ids=[" ".join(row[0][-3:]) or "-" for row in REFUSED])
def test_refused_in_one_line_before_anything_is_written(engram, speech, words, code, line):
    Path("key.toml").write_text("[model]\nwidht = 3\n")
    Path("type.toml").write_text('[model]\nwidth = "x"\n')
    Path("broken.toml").write_text("[model\n")
    np.savez("shape.npz", **{"encoder.0.weight": np.zeros((2, 2), np.float32)})
    before = files()
    found, out, err = engram(*words)
    assert (found, out, len(err)) == (code, "", 1), err
    assert re.match(rf"engram: .*{line}", err[0]), err
    assert files() == before
    assert not Path("out").exists()


LONG = "x" * 256
NAMES = {
    # The last words, the code and the line.
    "long": (["--corpus", "world:ar", "--out", LONG], 2, "--out: x+: has a name of 256 bytes, more than 255: choose a"),
    "below": (["--resume", "--out", f"a/{LONG}/b"], 2, "--out: a/x+/b: has a name of 256 bytes, more than 255"),
    "umlauts": (["--corpus", "world:ar", "--out", "ä" * 128], 2, "has a name of 256 bytes, more than 255"),
    "bytes": (
        ["--corpus", "world:ar", "--out", "a\udcff"],
        2,
        r"--out: 'a\\udcff' is no path in UTF-8: choose",
    ),
    "empty": (["--corpus", "world:ar", "--out", ""], 2, "argument --out: is empty: give a path; see engram run --help"),
    "no latents": (["--latents", "", "--out", "out"], 2, "'latents:' names no folder; write latents:FOLDER, or --lat"),
    "derived": (
        ["--corpus", f"folder:{'x' * 252}"],
        2,
        "runs/folder-x+-mel: .* 263 bytes, .* one with --out$",
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_no_folder_can_have_is_refused(engram, case):
    words, code, line = NAMES[case]
    if case == "derived":
        write(f"{'x' * 252}/s/a.wav", noise(2))
    before = files()
    found, out, err = engram("run", "--device", "cpu", *words)
    assert (found, out, len(err)) == (code, "", 1), err
    assert re.search(line, err[0]), err
    assert files() == before


@pytest.mark.parametrize("words", [["report"], ["compare", "out"], ["compare", "a", "b", "--html"]], ids=" ".join)
def test_so_it_is_where_a_run_is_read(engram, words):
    code, _, err = engram(*words, LONG)
    assert (code, len(err)) == (2, 1)
    assert "has a name of 256 bytes" in err[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_where_there_is_none(engram):
    code, _, err = engram("run", "--corpus", "world:ar", "--out", "out", "--device", "cuda")
    assert (code, err) == (2, ["engram: device cuda: PyTorch finds no CUDA device here: use --device cpu or auto"])
    assert not Path("out").exists()


def bad_files() -> None:
    """Beside the speech: what must be read, what is left out and what fails."""
    write("speech/s0/stereo.wav", noise(2, 91, channels=2))
    write("speech/s1/8k.wav", noise(2, 92, 8000), 8000)
    write("speech/s2/48k.wav", noise(2, 93, 48000), 48000)
    write("speech/s0/silent.wav", np.zeros(RATE * 2))
    write("speech/s0/one.wav", np.ones(1))
    write("speech/s1/nan.wav", np.where(np.arange(RATE) == 77, np.nan, 0.1), subtype="FLOAT")
    Path("speech/s1/empty.wav").write_bytes(b"")
    whole = write("speech/s2/cut.wav", noise(1)).read_bytes()
    Path("speech/s2/cut.wav").write_bytes(whole[: len(whole) // 2])
    Path("speech/s3/gone.wav").symlink_to("/nowhere.wav")


def test_files_that_fail_are_listed_and_too_many_end_the_run(engram, speech):
    bad_files()
    code, out, err = engram("encode", *AUDIO)
    assert (code, out, len(err)) == (3, "", 1)
    assert re.search(
        r"4 of 15 items failed, more than data\.max_failed = 0\.01; first s1/empty\.wav: .* is empty.*"
        r"out/latents/manifest\.json: mend the files, remove out/latents and go on with --resume, or raise",
        err[0],
    )
    # As the line says: with a higher limit the same folder goes on.
    code, out, err = engram("encode", *AUDIO, "--resume", "--max-failed", "0.5")
    assert (code, out.split(";")[0]) == (0, "15 found = 9 ok + 2 skipped + 4 failed")
    wanted = [
        r"skipped: s0/one\.wav: too short",
        r"skipped: s0/silent\.wav: digitally silent",
        r"failed: s1/empty\.wav: .*is empty",
        r"failed: s1/nan\.wav: .*sample 77 is not a finite number",
        r"failed: s2/cut\.wav: .*truncated",
        r"failed: s3/gone\.wav: .*No such file",
    ]
    assert len(err) == len(wanted)
    assert all(re.match(pattern, line) for pattern, line in zip(wanted, err, strict=True)), err


def test_mended_files_go_on_as_the_message_says(engram, speech):
    Path("speech/s1/empty.wav").write_bytes(b"")
    assert engram("encode", *AUDIO)[0] == 3
    write("speech/s1/empty.wav", noise(2))
    code, _, err = engram("encode", *AUDIO, "--resume")
    assert (code, len(err)) == (2, 1)
    assert "out/latents holds other latents" in err[0]
    for path in Path("out/latents").iterdir():
        path.unlink()
    assert engram("encode", *AUDIO, "--resume")[1].startswith("7 found = 7 ok")


def test_too_few_speakers_show_before_encoding(engram):
    write("speech/s0/a.wav", noise(2))
    code, _, err = engram("run", *AUDIO, *SMALL)
    assert (code, len(err)) == (3, 2)  # the first says what was begun
    assert re.match(r"engram: 1 speaker cannot fill train, validation and test; add speakers", err[1])
    assert not Path("out/latents").exists()


@pytest.mark.parametrize("setting", ["lags=[1, 32]", "surrogate_lags=[32]", "ceiling_lags=[1, 32]", "unrolls=[2, 32]"])
def test_speech_too_short_for_a_later_experiment_shows_before_training(engram, speech, setting):
    code, _, err = engram("run", *AUDIO, *SMALL, "--set", f"experiments.{setting}")
    name = setting.split("=")[0]
    assert code == 3
    assert re.search(rf"no utterance has 34 frames \(2 of context \+ 32 steps for experiments\.{name};", err[-1])
    assert re.search(rf"longest has 25\): use longer audio, or lower model\.context or experiments\.{name}$", err[-1])
    assert not any(line.startswith("train ") for line in err)
    assert not Path("out/checkpoints").exists()


@pytest.mark.parametrize("steps", ["22", "24"])
def test_the_early_check_refuses_only_what_is_too_short(engram, speech, steps):
    """25 frames hold a context of 2 and 23 steps."""
    words = ["run", *AUDIO, *SMALL, "--set", f"experiments.steps={steps}", "--experiments", "injection"]
    code, _, err = engram(*words, "--set", "experiments.unrolls=[32]")  # which injection does not use
    assert code == (0 if steps == "22" else 3), err
    assert code == 0 or "test split: no utterance has 26 frames" in err[-1]


def test_utterances_that_fill_no_latent_are_counted_and_named(engram):
    words = ["--device", "cpu", "--latents", "arrays", "--out", "out", *SMALL]
    words += ["--set", "codec.frame_rate=12.5", "--set", "codec.stack=12"]
    for speaker in range(6):
        Path(f"arrays/s{speaker}").mkdir(parents=True)
        np.save(f"arrays/s{speaker}/a.npy", np.random.default_rng(speaker).normal(size=(96, 2)))
    np.save("arrays/s2/short.npy", np.random.default_rng(8).normal(size=(11, 2)))
    code, _, err = engram("run", *words, "--experiments", "predictability")
    assert code == 0, err
    line = "1 of 7 utterances are shorter than one latent and left out (s2/short.npy): lower codec.stack."
    assert err.count(line) == 1
    assert line in Path("out/decision.json").read_text()
    assert line in Path("out/report.html").read_text()
    corpus = json.loads(Path("out/provenance.json").read_text())["corpus"]
    assert corpus["without_latent"] == 1
    assert {split: len(set(names)) for split, names in corpus["split"].items()} == corpus["speakers"]


@pytest.mark.parametrize(
    "setting", ["codec.stack=26", "codec.stack=26 codec.pca=2", "codec.stack=26 codec.whiten=true"]
)
def test_a_stack_longer_than_every_utterance(engram, speech, setting):
    words = [word for one in setting.split() for word in ("--set", one)]
    code, _, err = engram("train", *AUDIO, *SMALL, *words)
    assert (code, len(err)) == (3, 1)
    assert err == ["engram: codec.stack: the longest utterance has 25 frames, which fill no latent: lower codec.stack"]


@pytest.mark.parametrize("taps", [25, 27])
def test_an_average_longer_than_every_utterance(engram, speech, taps):
    code, _, err = engram("train", *AUDIO, *SMALL, "--set", f"codec.smooth={taps}")
    assert code == (0 if taps == 25 else 3), err
    if taps == 27:
        line = "codec.smooth = 27: the longest utterance has 25 latents: lower it or use longer audio"
        assert err == [f"engram: {line}"]


def test_unrolling_over_more_than_there_is_shows_before_the_first_model(engram, speech):
    code, _, err = engram("train", *AUDIO, *SMALL, "--unroll", "32")
    assert (code, len(err)) == (3, 1)
    assert "no utterance has 34 frames" in err[0]


def test_a_run_is_neither_mixed_nor_deleted_unasked(engram):
    assert engram("encode", *WORLD)[0] == 0
    before = files()
    for words, line in [
        ([], "out: holds a run already: use --resume, --overwrite or another --out"),
        (["--seed", "4", "--resume"], r"out: holds a run of another configuration \(seed = 0 there, seed = 4 here\)"),
        (["--overwrite", "--device", "cpu", "--corpus", "world:no"], "no such world"),
        (["--overwrite", "--set", "model.width=x"], "valid integer"),
    ]:
        code, _, err = engram("encode", *WORLD, *words)
        assert (code, len(err)) == (2, 1)
        assert re.search(line, err[0])
        assert files() == before
    assert engram("encode", *WORLD, "--seed", "4", "--overwrite")[0] == 0


def test_overwrite_deletes_what_the_run_wrote_and_nothing_else(engram, speech):
    assert engram("run", *AUDIO, *SMALL, "--experiments", "predictability")[0] == 0
    written = set(Path("out").rglob("*"))
    for name in ("notes.txt", "checkpoints/mine.txt", "audio/mine.wav"):
        Path("out", name).write_text("mine")
    assert engram("encode", *AUDIO, "--overwrite")[0] == 0
    left = {str(path) for path in Path("out").rglob("*") if path.is_file() and path.parent.name != "latents"}
    assert left == {"out/config.toml", "out/notes.txt", "out/checkpoints/mine.txt", "out/audio/mine.wav"}
    assert len(written) > 20


def test_overwrite_leaves_empty_folders_of_others(engram):
    assert engram("encode", *WORLD)[0] == 0
    for name in ("mine", "latents-mine", "theirs/checkpoints"):
        Path("out/representations", name).mkdir(parents=True)
    assert engram("encode", *WORLD, "--overwrite")[0] == 0
    kept = {path.as_posix() for path in Path("out/representations").rglob("*")}
    below = {"mine", "latents-mine", "theirs", "theirs/checkpoints"}
    assert kept == {f"out/representations/{name}" for name in below}


@pytest.mark.parametrize("name", ["config.toml", "report.html", "notes.txt"])
def test_a_folder_that_is_no_run_is_left_alone(engram, name):
    Path("out/latents").mkdir(parents=True)
    Path("out", name).write_text("[model]\nmine = 1\n")
    Path("out/latents/manifest.json").write_text("mine")
    before = files()
    for words in (["--overwrite"], ["--resume"], []):
        code, _, err = engram("encode", *WORLD, *words)
        assert (code, len(err)) == (2, 1)
        assert re.match(r"engram: out: (is no run's folder, so --overwrite deletes nothing|holds .* no run)", err[0])
        assert files() == before


def test_overwrite_looks_for_foreign_latents_before_it_deletes(engram):
    assert engram("encode", *WORLD)[0] == 0
    Path("out/latents/mine.txt").write_text("mine")
    before = files()
    code, _, err = engram("encode", *WORLD, "--overwrite")
    assert (code, len(err)) == (2, 1)
    assert "out/latents/mine.txt: was not written by a run" in err[0]
    assert files() == before


def test_a_run_of_another_version_is_named(engram):
    assert engram("encode", *WORLD)[0] == 0
    with Path("out/config.toml").open("a") as handle:
        handle.write("[later]\nx = 1\n")
    code, _, err = engram("encode", *WORLD, "--resume")
    assert (code, len(err)) == (2, 1)
    assert re.match(r"engram: out: holds a run of another version \(.*later: no such key\): use --overwrite", err[0])
    assert engram("encode", *WORLD, "--overwrite")[0] == 0


DAMAGE = {
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"x" * 200,
    "renamed": lambda data: data.replace(b"head.linear.bias", b"head.linear.bies"),
    "history": lambda data: data.replace(b"best_epoch", b"best_epoxx"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_with_the_remedy(engram, damage):
    assert engram("train", *WORLD, *SMALL)[0] == 0
    path = Path("out/checkpoints/mdn-lag1.safetensors")
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    code, _, err = engram("train", *WORLD, *SMALL, "--resume")
    assert (code, len(err)) == (3, 1)
    assert re.match(rf"engram: checkpoint {path}: damaged \(.*\): delete it and run again with --resume$", err[0])
    path.unlink()
    assert engram("train", *WORLD, *SMALL, "--resume")[0] == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize("names", ["stability", "memory", "correction", "all"])
def test_latents_that_stand_still_are_bad_data(engram, names):
    for speaker in range(8):
        frame = np.random.default_rng(speaker).standard_normal((1, 4), np.float32)
        Path(f"still/s{speaker}").mkdir(parents=True)
        np.save(f"still/s{speaker}/a.npy", np.repeat(frame, 60, axis=0))
    words = ["--latents", "still", "--out", "out", "--set", "codec.frame_rate=12.5"]
    code, out, err = engram("run", "--device", "cpu", *words, *SMALL, "--experiments", names)
    assert (code, out) == (3, "")
    line = "train split: no frame differs from the one before it (digital silence): use other speech or latents"
    assert err[-1] == f"engram: {line}"
    assert not Path("out/checkpoints").exists()


def test_a_checkpoint_of_another_head_is_named(engram):
    """Put in its place by hand, since a run's own files have other names."""
    train = ["train", *WORLD, *SMALL]
    assert engram(*train, "--model", "vmf")[0] == 0
    Path("out/checkpoints/vmf-lag1.safetensors").rename("out/checkpoints/mdn-lag1.safetensors")
    code, _, err = engram(*train, "--model", "mdn", "--resume")
    assert code == 2
    line = (
        "engram: checkpoint out/checkpoints/mdn-lag1.safetensors: of another training (model.kind = 'vmf' there, 'mdn' "
    )
    assert err[-1] == f"{line}here): delete it and run again with --resume, or use another --out"
    Path("out/checkpoints/mdn-lag1.safetensors").unlink()
    assert engram(*train, "--model", "mdn", "--resume")[0] == 0


def test_a_checkpoint_of_other_latents_is_not_used(engram, speech):
    assert engram("train", *AUDIO, *SMALL)[0] == 0
    for path in Path("out/latents").iterdir():
        path.unlink()
    for speaker in range(6):
        write(f"speech/s{speaker}/a.wav", noise(2, 100 + speaker))
    code, _, err = engram("train", *AUDIO, *SMALL, "--resume")
    assert (code, len(err)) == (2, 1)
    assert "mdn-lag1.safetensors: of other latents: use --overwrite or another --out" in err[0]


@pytest.mark.parametrize("damage", ["half", "empty", "text", "nan"])
def test_a_damaged_shard_is_named_with_the_remedy(engram, damage):
    assert engram("encode", *WORLD, *SMALL)[0] == 0
    path = Path("out/latents/shard-00000.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-4] + b"\xff" * 4 if damage == "nan" else DAMAGE[damage](data))
    code, _, err = engram("train", *WORLD, *SMALL, "--resume")
    assert (code, len(err)) == (3, 1)
    assert re.match(rf"engram: {path} (is missing or damaged .*remove the folder|has latents that are not)", err[0])


FULL = [
    # The command, the file at which the disk is full, and the error's number.
    ("encode", "config.toml", errno.ENOSPC),
    ("encode", "shard-", errno.ENOSPC),
    ("encode", "shard-", errno.EDQUOT),
    ("encode", "shard-", errno.EFBIG),
    ("encode", "manifest", errno.ENOSPC),
    ("train", "checkpoints", errno.ENOSPC),
    ("run", "outcomes", errno.ENOSPC),
    ("run", "measurements.json", errno.ENOSPC),
    ("run", ".flac", errno.ENOSPC),
]


@pytest.mark.parametrize(("command", "name", "number"), FULL)
def test_a_full_disk_is_one_line_and_the_run_goes_on(engram, speech, monkeypatch, command, name, number):
    words = [command, *AUDIO, *SMALL, *(["--experiments", "predictability"] if command == "run" else [])]
    real = os.fsync

    def full(handle: int) -> None:
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, out, err = engram(*words)
    assert (code, out) == (3, "")
    assert re.match(rf"engram: disk full while writing out/.*; free some space and {AGAIN}$", err[-1])
    assert name in err[-1]
    assert list(Path().rglob(".*.tmp")) == []
    assert engram(*words, "--resume")[0] == 0


def test_an_interrupt_in_training_is_130_and_resumable(engram, monkeypatch):
    whole, _, _ = engram("train", *WORLD, *SMALL)
    wanted = Path("out/checkpoints/mdn-lag1.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(train._Training, "step", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, out, err = engram("train", *WORLD, *SMALL, "--overwrite")
    assert (whole, code, out) == (0, 130, "")
    assert err == [f"engram: interrupted; finished work is kept: {AGAIN}"]
    assert engram("train", *WORLD, *SMALL, "--resume")[0] == 0
    assert Path("out/checkpoints/mdn-lag1.safetensors").read_bytes() == wanted


def test_a_loss_that_is_not_finite_is_5(engram):
    code, _, err = engram("train", *WORLD, *SMALL, "--set", "train.learning_rate=1e30", "--set", "train.epochs=3")
    assert code == 5
    assert re.match(r"engram: training: loss .* in epoch \d: lower train\.learning_rate$", err[-1])
