"""Whole commands: encoding beside the bare codec, and `engram run` on the embedded default."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from audio_engram.codecs.mel import MelCodec
from audio_engram.data.corpus import open_corpus
from audio_engram.data.extract import extract
from timing import Row, row

MINUTES = 4.0
GIGABYTES = 2.0


def rows() -> Iterator[Row]:
    """All rows of this file."""
    yield encoding()
    yield from demo()


def encoding() -> Row:
    """`extract` on the demo corpus against reading it and calling the codec one utterance at a time."""
    corpus, codec = open_corpus("demo"), MelCodec().eval()

    def bare() -> None:
        for item in corpus.items:
            codec.encode(item.audio(codec.sample_rate).view(1, 1, -1))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(corpus, codec, Path(folder) / "latents")

    times = [(_seconds(ours), _seconds(bare)) for _ in range(4)]
    measured = min(a for a, _ in times) / min(b for _, b in times)
    return row("encode the demo / bare codec's loop", measured, 1.0, "mel; reading included in both")


def demo() -> Iterator[Row]:
    """`engram run` in a process of its own, with all its threads."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        start = time.perf_counter()
        command = [sys.executable, "-m", "audio_engram", "run", "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        minutes = (time.perf_counter() - start) / 60
        peak = json.loads((out / "provenance.json").read_text())["peak_memory_bytes"] / 1e9
    yield row("engram run on the embedded default [minutes]", minutes, MINUTES)
    yield row("engram run on the embedded default, peak [GB]", peak, GIGABYTES)


def _seconds(work) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
