"""Optional extras: as pyproject.toml has them, and what is said when one is missing or too old."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from audio_engram.extras import EXTRAS, installed, lacking, remedy

ROOT = Path(__file__).resolve().parents[1]


def test_they_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    there = {key: value for key, value in project["optional-dependencies"].items() if key not in ("dev", "docs")}
    assert {name: wanted[0] for name, wanted in there.items()} == {
        name: f"{extra.package}>={extra.oldest}" for name, extra in EXTRAS.items()
    }


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "transformers is not installed"),
        ("5.20.3", "needs transformers >= 5.21, not 5.20.3"),
        ("5.3", "needs transformers >= 5.21, not 5.3"),
        ("5.21.0", ""),
        ("6.0.dev1", ""),
    ],
)
def test_what_is_lacking(version: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
    assert lacking("hub") == said
    assert installed("hub") == (version or "")


def test_the_remedy_is_one_that_works_in_a_clone() -> None:
    assert remedy("ray") == "install the extra ray: pip install -e '.[ray]' in the clone"


def test_nothing_sends_the_reader_to_pypi() -> None:
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    assert [str(path) for path in texts if re.search(r"audio-engram\[", path.read_text(encoding="utf-8"))] == []
