"""`engram encode` in parts: the command, what it refuses, and the loop that every scheduler shares."""

import json
import shutil
import socket
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_engram import cli, source
from audio_engram.config import read_config
from audio_engram.data import extract as extraction
from audio_engram.data.extract import ExtractConfig
from audio_engram.errors import DataError, MissingError, UsageError, WorkerError
from audio_engram.scale import on_ray, on_slurm, parts
from audio_engram.scale.parts import Outcome, Task, carry_out, encode_on

RATE = 16_000
WORDS = ["--corpus", "folder:speech", "--device", "cpu"]


@pytest.fixture(autouse=True)
def speech(tmp_path, monkeypatch):
    """Twelve utterances and a file that is none, in windows of three."""
    monkeypatch.chdir(tmp_path)
    for module in (source, parts):
        monkeypatch.setattr(module, "ExtractConfig", partial(ExtractConfig, window=3))
    for i in range(12):
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, int(RATE * (1 + i / 7)))
        Path(f"speech/s{i % 3}").mkdir(parents=True, exist_ok=True)
        soundfile.write(f"speech/s{i % 3}/{i:02d}.wav", samples, RATE)
    Path("speech/s1/bad.wav").write_bytes(b"")


@pytest.fixture
def engram(capsys):
    """Calls `engram encode`; returns its exit code, its stdout and the lines of its stderr."""

    def call(*words: str) -> tuple[int, str, list[str]]:
        try:
            code = cli.main(["encode", *words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return call


def latents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder, "latents").iterdir()}


CONFIG = read_config(None, ('data.corpus="folder:speech"', 'device="cpu"', "data.max_failed=0.5"))
LOOSE = [*WORDS, "--max-failed", "0.5"]


def test_shards_and_merge_are_the_bytes_of_one_command(engram):
    assert engram(*LOOSE, "--out", "whole")[0] == 0
    for i in (3, 1, 2, 1):
        code, out, err = engram(*LOOSE, "--out", "out", "--shard", f"{i}/3", "--json")
        facts = json.loads(out)
        assert (code, facts["latents"]) == (0, f"out/parts/0000{i}-of-00003")
        assert facts["found"] == facts["ok"] + facts["failed"]
        assert len(err) == facts["failed"]
    code, out, err = engram(*LOOSE, "--out", "out", "--merge")
    assert (code, out.split(";")[0]) == (0, "13 found = 12 ok + 0 skipped + 1 failed")
    assert len(err) == 1
    assert "failed: s1/bad.wav" in err[0]
    assert latents("out") == latents("whole")
    # The run goes on from here as any other.
    assert engram(*LOOSE, "--out", "out", "--resume")[0] == 0
    assert Path("out/parts/00002-of-00003").is_dir()
    assert engram(*LOOSE, "--out", "out", "--merge", "--remove-parts")[0] == 0
    assert not Path("out/parts").exists()
    assert latents("out") == latents("whole")


def test_parts_are_kept_when_what_was_merged_from_them_is_damaged(engram):
    assert engram(*LOOSE, "--out", "out", "--shard", "1/1")[0] == 0
    assert engram(*LOOSE, "--out", "out", "--merge")[0] == 0
    path = Path("out/latents/shard-00000.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:])
    code, out, err = engram(*LOOSE, "--out", "out", "--merge", "--remove-parts")
    assert (code, out) == (3, "")
    assert err[-1] == f"engram: {path} is damaged, so the parts are kept; remove out/latents and merge again"
    shutil.rmtree("out/latents")
    assert engram(*LOOSE, "--out", "out", "--merge", "--remove-parts")[0] == 0
    assert path.read_bytes() == whole
    assert not Path("out/parts").exists()


def test_the_default_folder_is_the_runs(engram):
    assert engram(*LOOSE, "--shard", "1/1")[0] == 0
    assert engram(*LOOSE, "--merge")[0] == 0
    assert Path("runs/folder-speech-mel/latents/manifest.json").exists()


def test_each_shard_may_have_a_device_of_its_own(engram, monkeypatch):
    for i, device in ((1, "cpu"), (2, "auto")):
        monkeypatch.setattr(extraction, "device_kind", lambda codec, device=device: f"a {device}")
        words = ["--corpus", "folder:speech", "--max-failed", "0.5", "--out", "out"]
        assert engram(*words, "--device", device, "--shard", f"{i}/2")[0] == 0
    assert read_config(Path("out/config.toml")).device == "cpu"
    code, _, err = engram(*words, "--device", "auto", "--merge")
    assert code == 0
    assert "warning: encoded on a auto and a cpu: they may differ in the last bit of a latent" in err
    assert read_config(Path("out/config.toml")).device == "auto"
    assert engram(*words, "--device", "auto", "--resume")[0] == 0


def test_derived_latents_that_cannot_be_are_refused_before_encoding(engram):
    code, _, err = engram(*LOOSE, "--out", "out", "--shard", "1/2", "--set", "codec.pca=513")
    assert (code, len(err)) == (2, 1)
    assert "codec.pca = 513" in err[0]
    assert not Path("out").exists()


def test_a_shard_of_another_configuration_is_refused(engram):
    assert engram(*LOOSE, "--out", "out", "--shard", "1/2")[0] == 0
    code, _, err = engram(*LOOSE, "--out", "out", "--shard", "2/2", "--set", "codec.frame_rate=25")
    assert (code, len(err)) == (2, 1)
    assert "out: holds a run of another configuration" in err[0]
    assert not Path("out/parts/00002-of-00002").exists()


REFUSED = [
    (["--shard", "0/3"], 2, r"--shard 0/3: write it as I/N, from 1/N to N/N"),
    (["--shard", "4/3"], 2, r"--shard 4/3: write it as I/N"),
    (["--shard", "x"], 2, r"--shard x: write it as I/N"),
    (["--shard", "1/3", "--merge"], 2, r"--merge: not allowed with argument --shard"),
    (["--shard", "1/3", "--engine", "ray"], 2, r"--engine: not allowed with argument --shard"),
    (["--shard", "1/3", "--overwrite"], 2, r"--overwrite: deletes what other parts wrote"),
    (["--merge", "--overwrite"], 2, r"--overwrite: deletes what other parts wrote"),
    (["--shard", "1/3", "--remove-parts"], 2, r"--remove-parts: needs --merge or --engine"),
    (["--shard", "1/3", "--shards", "3"], 2, r"--shards: needs --engine ray or slurm"),
    (["--gpus-per-task", "0"], 2, r"--gpus-per-task: needs --engine ray or slurm"),
    (["--partition", "gpu"], 2, r"--partition: needs --engine slurm"),
    (["--engine", "ray"], 2, r"--engine ray: say with --shards N"),
    (["--engine", "ray", "--shards", "0"], 2, r"--shards 0: give 1 or more"),
    (["--engine", "ray", "--shards", "3", "--cpus-per-task", "0"], 2, r"--cpus-per-task 0: give 1 or more"),
    (["--engine", "ray", "--shards", "3", "--gpus-per-task", "-1"], 2, r"--gpus-per-task -1: give 0 or more"),
    (["--engine", "ray", "--shards", "3", "--partition", "gpu"], 2, r"--partition: needs --engine slurm"),
    (["--engine", "slurm", "--shards", "3", "--address", "auto"], 2, r"--address: needs --engine ray"),
    (["--engine", "spark", "--shards", "3"], 2, r"invalid choice: 'spark'"),
    (["--merge"], 3, r"out/parts: there are no parts to merge"),
]


@pytest.mark.parametrize(("words", "code", "line"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_refused_in_one_line(engram, words, code, line):
    found, out, err = engram(*WORDS, "--out", "out", *words)
    assert (found, out, len(err)) == (code, "", 1), err
    assert line in err[0]
    assert not Path("out/parts").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://[::1]:1", "127.0.0.1:99999", "somewhere", "a..b:1", ""])
def test_where_no_cluster_is_nobody_waits(engram, monkeypatch, address):
    monkeypatch.setattr(on_ray, "require", lambda *_: None)
    code, out, err = engram(
        *WORDS, "--out", "out", "--overwrite", "--engine", "ray", "--shards", "2", "--address", address
    )
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"engram: --address {address}: no Ray cluster (")
    assert not Path("out").exists()


def test_a_cluster_that_listens_is_let_be():
    with socket.create_server(("127.0.0.1", 0)) as server:
        on_ray.refuse_unreachable(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("corpus", ["world:ar", "latents:arrays", "folder:nowhere"])
@pytest.mark.parametrize("words", [["--shard", "1/2"], ["--merge"]])
def test_a_corpus_without_parts(engram, corpus, words):
    code, _, err = engram("--corpus", corpus, "--device", "cpu", "--out", "out", *words)
    wanted = (3, "does not exist") if corpus.startswith("folder") else (2, "is no audio to be encoded: it has no parts")
    assert (code, len(err)) == (wanted[0], 1)
    assert wanted[1] in err[0]
    assert not Path("out").exists()


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_named_before_anything_is_touched(engram, monkeypatch, engine, package):
    assert engram(*LOOSE, "--out", "out")[0] == 0
    before = latents("out")
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = engram(*LOOSE, "--out", "out", "--engine", engine, "--shards", "2", "--overwrite")
    assert (code, len(err)) == (4, 1)
    assert err[0].startswith(f"engram: --engine {engine} needs {package} (")
    assert err[0].endswith(f"): install the extra {engine}: pip install -e '.[{engine}]' in the clone")
    assert latents("out") == before


def test_no_slurm_here(engram, monkeypatch):
    monkeypatch.setattr(on_slurm, "which", lambda name: None)
    code, _, err = engram(*LOOSE, "--out", "out", "--engine", "slurm", "--shards", "2")
    assert (code, len(err)) == (4, 1)
    assert "there is no Slurm here (srun is not found)" in err[0]
    assert not Path("out").exists()


def test_overwrite_deletes_parts_and_logs_and_nothing_else(engram):
    for words in (["--shard", "1/2"], ["--shard", "2/2"], ["--merge"]):
        assert engram(*LOOSE, "--out", "out", *words)[0] == 0
    Path("out/parts/logs").mkdir()
    for name in ("77_submitted.pkl", "77_0_result.pkl", "77_0_log.err", "77_0_log.out", "notes.txt"):
        Path("out/parts/logs", name).write_text("x")
    assert engram(*LOOSE, "--out", "out", "--overwrite")[0] == 0
    assert [str(path) for path in sorted(Path("out/parts").rglob("*"))] == [
        "out/parts/logs",
        "out/parts/logs/notes.txt",
    ]
    assert engram(*LOOSE, "--out", "out", "--shard", "1/2")[0] == 0
    Path("out/parts/00001-of-00002/mine.txt").write_text("mine")
    code, _, err = engram(*LOOSE, "--out", "out", "--overwrite")
    assert (code, len(err)) == (2, 1)
    assert "out/parts/00001-of-00002/mine.txt: was not written by a run" in err[0]


class Here:
    """An engine that carries tasks out in this process, last first, and notes them."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def __call__(self, tasks: list[Task]):
        self.tasks = tasks
        return map(carry_out, reversed(tasks))


def idle(tasks: list[Task]) -> list[Outcome]:
    raise AssertionError("nothing was to be done")


def schedule(engine, of: int = 4) -> list[str]:
    lines: list[str] = []
    encode_on(engine, Path("out"), CONFIG, of, 1, lines.append)
    return lines


def test_only_parts_that_are_not_finished_are_scheduled(engram):
    assert engram(*LOOSE, "--out", "out", "--shard", "2/4")[0] == 0
    Path("out/parts/00003-of-00004").mkdir()
    engine = Here()
    lines = schedule(engine)
    assert [task.label for task in engine.tasks] == ["1/4", "3/4", "4/4"]
    assert lines[0] == "encode: 1 of 4 parts are there"
    assert lines[1].startswith("encode: part 4/4: 4 found = ")
    assert [line.rpartition(" (")[2] for line in lines[1:]] == ["2 of 4 parts)", "3 of 4 parts)", "4 of 4 parts)"]
    assert schedule(idle) == ["encode: 4 of 4 parts are there"]
    parts.merge(Path("out"), CONFIG)
    assert engram(*LOOSE, "--out", "whole")[0] == 0
    assert latents("out") == latents("whole")


def test_a_task_needs_no_working_folder_of_its_own(tmp_path, monkeypatch):
    engine = Here()
    monkeypatch.setattr(Here, "__call__", lambda self, tasks: setattr(self, "tasks", tasks) or [])
    schedule(engine, 1)
    monkeypatch.chdir("/")
    assert carry_out(engine.tasks[0]).counts == "13 found = 12 ok + 0 skipped + 1 failed"
    assert (tmp_path / "out/parts/00001-of-00001/manifest.json").exists()


@pytest.mark.parametrize(("exit_code", "kind"), [(2, UsageError), (3, DataError), (4, MissingError), (1, WorkerError)])
def test_failed_parts_are_one_error_after_all_have_been_tried(exit_code, kind):
    tried = []

    def engine(tasks):
        for task in reversed(tasks):
            tried.append(task.label)
            bad = task.index in (2, 3)
            yield Outcome(task.label, error="no luck", exit_code=exit_code) if bad else carry_out(task)

    with pytest.raises(kind, match=r"^2 of 4 parts failed; part 2/4: no luck; the others are kept: mend it and give"):
        schedule(engine)
    assert tried == ["4/4", "3/4", "2/4", "1/4"]
    lines = schedule(Here())
    assert lines[0] == "encode: 2 of 4 parts are there"


def test_what_cannot_be_encoded_shows_before_anything_is_scheduled():
    with pytest.raises(MissingError, match=r"cannot import no_such"):
        encode_on(idle, Path("out"), read_config(None, ('codec.name="no_such.module:Codec"',)), 2, 1, print)
    with pytest.raises(UsageError, match=r"up to 99999"):
        schedule(idle, 100_000)
    assert not Path("out").exists()
    schedule(Here(), 2)
    with pytest.raises(UsageError, match=r"holds parts of 2, not of 3: use that number, or remove them"):
        schedule(idle, 3)


def test_a_task_that_fails_for_a_known_reason_is_an_outcome(engram):
    task = Task(str(Path("out").absolute()), CONFIG.toml(), 1, 2, str(Path.cwd()))
    shutil.rmtree("speech")
    outcome = carry_out(task)
    assert (outcome.label, outcome.exit_code) == ("1/2", 3)
    assert "does not exist" in outcome.error
