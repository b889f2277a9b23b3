"""Ray and Slurm's submitit as they are: real workers on this machine, one of them killed, and the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from audio_engram.data.corpus import open_corpus
from audio_engram.data.extract import extract
from frame_codec import Unlucky, noise, write

HELPERS = Path(__file__).resolve().parents[1]
ENCODE = ["encode", "--codec", "frame_codec:Unlucky", "--corpus", "folder:speech", "--device", "cpu", "--out", "out"]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Utterances that fill three windows and leave eight for the fourth, and their latents by one process.

    The only long one is in the second window: half of the corpus meets one misfortune, half the other.
    """
    for i in range(200):
        write(tmp_path / "speech" / f"s{i % 5}" / f"{i:03d}.wav", noise(0.9 if i == 2 else 0.1 + i % 7 / 20, seed=i))
    monkeypatch.setenv("LUCK", str(tmp_path))
    monkeypatch.setenv("UNLUCKY", "")
    extract(open_corpus(f"folder:{tmp_path / 'speech'}"), Unlucky(), tmp_path / "whole/latents")
    return tmp_path


@pytest.fixture
def rays() -> Iterator[str]:
    """A folder for Ray, whose sockets need a short path."""
    short = tempfile.mkdtemp(prefix="r", dir="/tmp")
    yield short
    shutil.rmtree(short, ignore_errors=True)


def call(place: Path, program: list[str], **more: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(HELPERS), *filter(None, sys.path)])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "LUCK": str(place / "luck")} | more
    program = [sys.executable, *program]
    return subprocess.run(program, cwd=place, env=env, capture_output=True, text=True, timeout=280, check=False)


def latents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "latents").iterdir()}


def test_a_worker_of_ray_that_is_killed_midway_leaves_no_trace(place, rays):
    program = ["-m", "audio_engram", *ENCODE, "--engine", "ray", "--shards", "2"]
    done = call(place, program, UNLUCKY="killed once", RAY_TMPDIR=rays)
    assert done.returncode == 0, done.stderr
    assert (place / "luck").exists(), "no worker was killed"
    assert re.fullmatch(r"200 found = 200 ok \+ 0 skipped \+ 0 failed; \d+ frames in out/latents\n", done.stdout)
    lines = [line for line in done.stderr.splitlines() if line.startswith("encode: ")]
    assert lines[0] == "encode: 0 of 2 parts are there"
    assert lines[-1].endswith("(2 of 2 parts)")
    assert latents(place / "out") == latents(place / "whole")


ON_A_CLUSTER = """
import json, logging, os, pathlib, sys
import ray
from audio_engram.cli import main
from audio_engram.scale import on_ray
on_ray.RETRIES = 1
ray.init("local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False,
         object_store_memory=100 * 2**20)
words = json.loads(sys.argv[1])
codes = [main(words), main([*words[:-1], "3"])]
pathlib.Path(os.environ["LUCK"]).touch()
codes.append(main([*words, "--json"]))
print(json.dumps([codes, ray.is_initialized()]))
"""


def test_failures_on_ray_are_one_line_and_what_is_done_is_kept(place, rays):
    """A bug in one part, a worker that dies each time in the other; the cluster was there before and stays."""
    words = [*ENCODE, "--engine", "ray", "--shards", "2"]
    done = call(place, ["-c", ON_A_CLUSTER, json.dumps(words)], RAY_TMPDIR=rays)
    assert done.returncode == 0, done.stderr
    facts, end = (json.loads(line) for line in done.stdout.splitlines() if "raylet" not in line)
    assert facts["ok"] == 200
    assert end == [[1, 2, 0], True]
    lines = [line for line in done.stderr.splitlines() if line.startswith("engram: ")]
    assert re.match(r"engram: 2 of 2 parts failed; part 1/2: RuntimeError: bad luck; the others are kept", lines[0])
    assert "encode: part 2/2: its worker died 2 times (WorkerCrashedError); is there enough memory? (" in done.stderr
    assert lines[1].endswith("out/parts: holds parts of 2, not of 3: use that number, or remove them")
    assert len(lines) == 2
    assert latents(place / "out") == latents(place / "whole")


def test_jobs_of_submitit_that_fail_name_their_log_and_are_done_again(place):
    words = ["-m", "audio_engram", *ENCODE, "--engine", "slurm", "--cluster", "local", "--shards", "2"]
    done = call(place, words)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    found = re.fullmatch(
        r"engram: 2 of 2 parts failed; part 1/2: RuntimeError: bad luck \(log (\S+)\);"
        r" the others are kept: mend it and give the same command again",
        last,
    )
    assert found, last
    assert "bad luck" in Path(found[1]).read_text()
    assert Path(found[1]).parent == place / "out/parts/logs"
    assert "encode: part 2/2: its job ended without a result (state " in done.stderr
    assert not (place / "out/latents").exists()

    (place / "luck").touch()
    done = call(place, [*words, "--remove-parts"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "encode: 0 of 2 parts are there"
    assert latents(place / "out") == latents(place / "whole")
    assert [path.name for path in (place / "out/parts").iterdir()] == ["logs"]
