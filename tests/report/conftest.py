"""One rendered page for all tests that only look at it."""

from pathlib import Path

import pytest
from fake_run import write_run

from audio_engram.report import write_report


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything in it, and its report."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "first")
    write_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(run: Path) -> str:
    """The HTML of that report."""
    return (run / "report.html").read_text(encoding="utf-8")
