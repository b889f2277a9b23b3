"""`engram doctor`: what is optional is named with its state and its remedy, and is no reason to fail."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest
import torch

from audio_engram import cli, doctor
from audio_engram.extras import EXTRAS

VERSIONS = {"transformers": "5.23.0", "ray": None, "submitit": "1.4.1", "resemblyzer": "0.1.4"}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What stands in for the versions of the extras' packages."""
    versions, real = dict(VERSIONS), importlib.metadata.version

    def found(name: str) -> str:
        if name not in versions:
            return real(name)
        if versions[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return str(versions[name])

    monkeypatch.setattr(importlib.metadata, "version", found)
    monkeypatch.setattr(doctor, "MIN_FREE", 0)
    return versions


def test_extras_are_listed_with_their_remedy(
    versions: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("extra")] == [
        "extra hub      transformers 5.23.0 (for codecs of the Hugging Face hub)",
        "extra ray      ray is not installed: install the extra ray: pip install -e '.[ray]' in the clone"
        " (for engram encode --engine ray)",
        "extra slurm    needs submitit >= 1.5, not 1.4.1: install the extra slurm: pip install -e '.[slurm]'"
        " in the clone (for engram encode --engine slurm)",
        "extra metrics  resemblyzer 0.1.4 (for experiments.listeners)",
    ]
    assert lines[-1] == "Nothing that every run needs is missing; of the optional extras: ray, slurm."


def test_json_has_the_same_facts(versions: dict[str, str | None], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    extras = json.loads(capsys.readouterr().out)["extras"]
    assert {name: (extra["version"], bool(extra["remedy"])) for name, extra in extras.items()} == {
        "hub": ("5.23.0", False),
        "ray": ("", True),
        "slurm": ("1.4.1", True),
        "metrics": ("0.1.4", False),
    }


def test_with_every_extra_nothing_is_missing(
    versions: dict[str, str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    versions |= {extra.package: "99" for extra in EXTRAS.values()}
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing is missing."


def test_every_runtime_dependency_is_asked_for() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    named = {re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]}
    assert set(doctor.NEEDED) == named
    assert len(doctor.NEEDED) == len(named)


def test_what_is_missing_is_counted_in_english(
    versions: dict[str, str | None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "no_such_package"))
    assert cli.main(["doctor"]) == 4
    out, err = capsys.readouterr()
    assert "missing: no_such_package: pip install no_such_package" in out
    assert err == "engram: 1 thing is missing: the lines above say how to get what is\n"


@pytest.mark.parametrize(("threads", "said"), [(1, "cpu, 1 thread"), (2, "cpu, 2 threads")])
def test_threads(threads: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor.examine()[0]["device"] == said
