"""Whole commands: `engram run` on the embedded default."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from timing import Row, row

MINUTES = 4.0
GIGABYTES = 2.0


def rows() -> Iterator[Row]:
    """All rows of this file."""
    yield from demo()


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
