"""The command as it is called: help, JSON alone on stdout, and runs that are killed and go on."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from audio_engram import cli
from audio_engram.audio import write_audio
from audio_engram.codecs.base import list_codecs
from audio_engram.data.publish import AGAIN
from audio_engram.train import _Training

COMMANDS = [
    [],
    ["run"],
    ["encode"],
    ["train"],
    ["report"],
    ["compare"],
    ["corpus"],
    ["corpus", "download"],
    ["corpus", "check"],
    ["codec"],
    ["codec", "list"],
    ["codec", "check"],
    ["settings"],
    ["doctor"],
]
# One model after another, some epochs each, and every kind of window.
SMALL = [
    word
    for setting in (
        *("model.context=2", "model.width=8", "model.depth=1", "model.components=2"),
        *("train.epochs=2", "train.batch_size=1024", 'train.precision="float32"', "data.test=0.4"),
        *("experiments.lags=[1]", "experiments.surrogate_lags=[1]", "experiments.ceiling_lags=[1]"),
        *("experiments.steps=3", "experiments.unrolls=[2]", "experiments.unroll_epochs=1"),
        *("experiments.resamples=1000", "experiments.max_segments=50", "experiments.audio_seconds=0.5"),
        *('experiments.regimes=["mdn"]', "experiments.horizons=[1.0, 2.0]", "experiments.stretch_seconds=1.0"),
        *("experiments.trajectories=8", "experiments.archetype_counts=[4]", "experiments.rollout_seconds=0.32"),
    )
    for word in ("--set", setting)
]
RUN = ["--device", "cpu", "--corpus", "demo", "--out", "out", *SMALL]
WORLD = ["--device", "cpu", "--corpus", "world:ar", "--out", "out", *SMALL]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def read_json(text: str) -> object:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "engram")
def test_help(words, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main([*words, "--help"])
    out, err = capsys.readouterr()
    assert (leaving.value.code, err) == (0, "")
    assert out.startswith(" ".join(["usage: engram", *words]))


def test_help_names_every_exit_code(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    for code in ("0 done", "1 bug", "2 usage", "3 data", "4 something missing", "5 numerical", "130 interrupted"):
        assert code in told


def test_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("engram ")


def test_run_encode_train_and_report_print_json_alone(place, capsys):
    facts = {}
    for words in (
        ["encode", *WORLD],
        ["train", *WORLD, "--resume", "--unroll", "2"],
        ["run", *WORLD, "--resume"],
        ["report", "out"],
    ):
        assert cli.main([*words, "--json"]) == 0
        facts[words[0]] = read_json(capsys.readouterr().out)
    assert facts["encode"] == {
        "latents": "out/latents",
        **{"found": 10, "ok": 10, "skipped": 0, "failed": 0},
        "frames": 600,
    }
    assert set(facts["train"]) == {"mdn-lag1", "mdn-unroll2"}
    assert facts["run"] == json.loads(Path("out/decision.json").read_text())
    assert facts["report"] == {"report": "out/report.html"}


def test_a_training_that_never_had_a_finite_loss_is_an_error(place, capsys, monkeypatch):
    loss = _Training.loss

    def other(self, segment, generator):
        return loss(self, segment, generator) * (torch.inf if self.leaves_out else 1.0)

    monkeypatch.setattr(_Training, "loss", other)
    monkeypatch.setattr(_Training, "validate", lambda self, windows: float("nan") if self.leaves_out else 1.0)
    assert cli.main(["train", *WORLD, "--unroll", "2"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(
        "engram: mdn-unroll2: no epoch had a finite loss on validation speakers: lower train.learning_rate\n"
    )


def test_without_json_results_are_on_stdout_and_progress_on_stderr(place, capsys):
    assert cli.main(["run", *WORLD, "--experiments", "injection"]) == 0
    out, err = capsys.readouterr()
    assert "Report: out/report.html" in out
    assert "train mdn-lag1: epoch 1/2" in err
    assert "train mdn" not in out


def test_words_that_toml_would_refuse_are_taken_as_they_are(place, capsys):
    folder = Path("s😀\x7f")
    folder.mkdir()
    for speaker in range(2):
        (folder / f"s{speaker}").mkdir()
        write_audio(folder / f"s{speaker}/a.wav", torch.rand(16000) - 0.5, 16000)
    assert cli.main(["encode", "--corpus", f"folder:{folder}", "--out", "out😀"]) == 0
    assert capsys.readouterr().out.startswith("2 found = 2 ok")
    assert cli.main(["codec", "check", "no😀"]) == 2
    assert "there is no codec 'no😀'" in capsys.readouterr().err


def test_doctor(capsys):
    code = cli.main(["doctor", "--json"])
    facts = read_json(capsys.readouterr().out)
    assert set(facts) == {"facts", "problems", "extras"}
    assert code == (4 if facts["problems"] else 0)
    assert {"torch", "device", "free disk"} <= set(facts["facts"])
    assert cli.main(["doctor"]) == code


def test_codec_list(capsys):
    assert cli.main(["codec", "list", "--json"]) == 0
    assert set(read_json(capsys.readouterr().out)) == set(list_codecs())
    assert cli.main(["codec", "list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} >= set(list_codecs())


def test_codec_check_mel(capsys):
    assert cli.main(["codec", "check", "mel", "--json"]) == 0
    results = read_json(capsys.readouterr().out)
    assert len(results) > 5
    assert all(result["ok"] for result in results)


@pytest.mark.shared
def test_codec_check_lyra(shared, capsys):
    weights = f"codec.weights={shared / 'codecs/lyra_v2_f32.npz'}"
    assert cli.main(["codec", "check", "lyra", "--set", weights]) == 0
    assert "look_ahead" in capsys.readouterr().out


# Forks a child for each line of words, in order; the moment says at which call of which function the child is killed.
KILLER = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from audio_engram import cli, measurements, train, training_loop
from audio_engram.data import extract, publish
import audio_engram.pipeline
training_loop.SAVE_EVERY = 0.0
OWNERS = {"batch": (extract, "encode_batch"), "epoch": (train._Training, "epoch"),
          "step": (train._Training, "step"), "rename": (os, "replace"),
          "measured": (measurements.Measurements, "write")}

def kill_at(moment, call):
    owner, name = OWNERS[moment]
    inner, left = getattr(owner, name), [call]
    def dying(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return inner(*arguments, **options)
    setattr(owner, name, dying)

statuses = []
for moment, call, words in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        if moment:
            kill_at(moment, call)
        os._exit(cli.main(words))
    statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(statuses))
"""


def test_a_run_that_is_killed_again_and_again_measures_the_same_bytes(tmp_path):
    """Killed in encoding, in an epoch, before an epoch, before a rename and before measurements.json."""
    words = ["run", *RUN, "--experiments", "factorisation"]
    moments = [("batch", 2), ("rename", 2), ("step", 2), ("epoch", 4), ("rename", 2), ("measured", 1)]
    whole = [None, 0, ["whole" if word == "out" else word for word in words]]
    plan = [[m, call, words if i == 0 else [*words, "--resume"]] for i, (m, call) in enumerate(moments)]
    plan = [whole, *plan, [None, 0, [*words, "--resume"]]]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps(plan)], cwd=tmp_path, env=ALONE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, *[-signal.SIGKILL] * len(moments), 0], done.stderr
    names = {str(path.relative_to(tmp_path / "whole")) for path in (tmp_path / "whole").rglob("*")}
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")} == names
    same = [name for name in names if name.endswith((".json", ".jsonl", ".safetensors")) and "provenance" not in name]
    assert "measurements.json" in same
    for name in same:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_ctrl_c_leaves_with_130_and_what_is_finished_stays(tmp_path):
    words = [*WORLD[:6], "--set", "train.epochs=1000", "--set", "train.patience=1000"]
    child = subprocess.Popen(
        [sys.executable, "-m", "audio_engram", "train", *words],
        cwd=tmp_path,
        env=ALONE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore the signal, and so would their children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith("train mdn-lag1: epoch 1/1000")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"engram: interrupted; finished work is kept: {AGAIN}"
    assert "Traceback" not in err
    assert (tmp_path / "out/latents/shard-00000.safetensors").exists()
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_cannot_be_written_are_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "audio_engram", "codec", "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    assert done.stderr == f"engram: disk full (No space left on device); free some space and {AGAIN}\n"


def test_a_reader_that_leaves_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "audio_engram", "codec", "list"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
