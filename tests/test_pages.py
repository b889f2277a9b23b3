"""The pages of docs/ and the README: those that are written by the code are fresh, all are linked, no name is stale."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from audio_engram.commands import COMMANDS
from audio_engram.config import Config, _known_keys
from audio_engram.report.words import MANIFOLD, METRICS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NAMES = sorted(path.name for path in DOCS.glob("*.md"))
TEXTS = {name: (DOCS / name).read_text(encoding="utf-8") for name in NAMES}
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The log says what things were called then.
NOW = {"README.md": README} | {name: text for name, text in TEXTS.items() if name != "log.md"}
OF_CODECS = "codec.options."
"""Keys below are each codec's own."""
WEIGHTS = "model.safetensors"
"""A file, and no key."""


@pytest.fixture(scope="module")
def writer() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "write_pages.py"))


@pytest.mark.parametrize("name", ["metrics.md", "settings.md"])
def test_a_page_that_is_written_is_what_the_code_writes(writer: dict[str, Any], name: str) -> None:
    assert set(writer["PAGES"]) == {"metrics.md", "settings.md"}
    assert TEXTS[name] == writer["PAGES"][name](), f"docs/{name} is stale: make pages"


def test_every_key_and_every_metric_has_a_row(writer: dict[str, Any]) -> None:
    keys, section = set(), ""
    for line in TEXTS["settings.md"].splitlines():
        section = line[5:-2] + "." if line.startswith("## `[") else section
        keys |= {section + found[1] for found in [re.match(r"\| `(\w+)` \| `.+` \| .+ \| .+ \|$", line)] if found}
    assert keys == set(_known_keys(Config, ""))
    rows = [name for group in writer["GROUPS"] for name in group.names]
    assert sorted(rows) == sorted(METRICS | MANIFOLD)
    assert re.findall(r"^\| `([^`]+)` \| .+ \| .*\| .+ \|$", TEXTS["metrics.md"], re.M) == rows


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in NAMES)])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [x for x in links if "://" not in x and not (ROOT / page).parent.joinpath(x).exists()]
    # The picture of a report is made from a finished run and may be absent from a checkout in between.
    assert [link for link in missing if link != "docs/report.png"] == []


def test_every_page_is_linked_from_the_first_and_stands_in_the_menu() -> None:
    others = set(NAMES) - {"index.md"}
    assert others - set(re.findall(r"^\* \[.+\]\((\w+\.md)\)", TEXTS["index.md"], re.M)) == set()
    assert set(re.findall(r"^  - .+: (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)) == set(NAMES)


@pytest.mark.parametrize("name", NOW)
def test_settings_that_are_named_exist(name: str) -> None:
    named = re.findall(r"(?<=[ `'(])(?:codec|data|model|train|score|experiments)(?:\.[a-z_]+)+(?==|`)", NOW[name])
    known = {name for key in _known_keys(Config, "") for name in (key, key.rpartition(".")[0])} | {WEIGHTS}
    assert [key for key in named if key not in known and not key.startswith(OF_CODECS)] == []


def test_settings_are_named_at_all() -> None:
    assert sum(text.count("`experiments.") for text in NOW.values()) > 20


@pytest.mark.parametrize("name", NOW)
def test_commands_that_are_named_exist(name: str) -> None:
    known = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert set(re.findall(r"`engram ([a-z]+)", NOW[name])) <= known


def test_the_readme_names_every_command() -> None:
    known = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert known <= set(re.findall(r"[`$] ?engram ([a-z]+)", README))
