"""Every example of the README, and all Python and all commands of docs/, are true: run, or read as the command does.

The mark is a comment before the block:
`run`        Python is executed, console lines go through the command's `main`: those of a page one after another, in
             one folder, and what a block names is there in those after it
`run small`  the same, from there on with small worlds and small models in place of the defaults
`parse`      console lines are read as options and configuration; nothing is run
`file NAME`  stands in every page's folder as NAME
`output`     what the block before it prints
"""

import csv
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import audio_engram.runs  # noqa: F401  (before `read_config` is replaced)
from audio_engram import cli
from audio_engram.audio import write_audio
from audio_engram.commands.options import read_options
from audio_engram.config import Config, read_config
from audio_engram.data.processes import World
from audio_engram.run_folder import claim

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    *("model.width=8", "model.context=2", "model.components=2", "train.epochs=1"),
    *("experiments.lags=[1, 2]", "experiments.surrogate_lags=[1]", "experiments.ceiling_lags=[1]"),
    *("experiments.steps=16", "experiments.unrolls=[2]", "experiments.unroll_epochs=1"),
    *("experiments.resamples=1000", "experiments.max_segments=64"),
    *('experiments.regimes=["mdn"]', "experiments.horizons=[1.0, 2.0]", "experiments.stretch_seconds=1.0"),
    *("experiments.trajectories=8", "experiments.rollout_seconds=0.32"),
)


@dataclass(frozen=True)
class Example:
    """A fenced block of the README with the mark before it."""

    line: int
    mark: str
    language: str
    text: str
    page: str = "README.md"

    def __str__(self) -> str:
        return f"{self.page} line {self.line}"


def read_examples(page: str) -> list[Example]:
    block = re.compile(
        r"(?:<!-- example: (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
    )
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Example(text[: m.start()].count("\n") + 1, m["mark"] or "", m["language"], m["text"], page)
        for m in block.finditer(text)
    ]


DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
README = read_examples("README.md")
IN_DOCS = [example for page in DOCS for example in read_examples(page)]
EXAMPLES = [*README, *(e for e in IN_DOCS if e.mark or e.language in ("python", "console"))]
TO_RUN = [e for e in EXAMPLES if e.mark.startswith("run")]
TO_PARSE = [e for e in EXAMPLES if e.mark == "parse"]
FILES = {e.mark.removeprefix("file "): e.text for e in EXAMPLES if e.mark.startswith("file ")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the files of the README, the audio that its table names and the run that it resumes."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    recordings = tmp_path / "recordings"
    noise = 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    for row in csv.DictReader(FILES["recordings/speakers.csv"].splitlines()):
        (recordings / row["file"]).parent.mkdir(exist_ok=True)
        write_audio(recordings / row["file"], noise, 16_000)
    claim(tmp_path / "runs/mine", read_config(), resume=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small worlds, and small settings on top of those an example asks for."""

    def read_small(path: Path | None = None, settings: tuple[str, ...] = (), given: Any = None) -> Config:
        return read_config(path, (*settings, *SMALL), given)

    monkeypatch.setattr("audio_engram.config.read_config", read_small)
    monkeypatch.setattr("audio_engram.commands.options.read_config", read_small)
    for name, value in {"speakers": 24, "utterances_per_speaker": 1, "frames": 80}.items():
        monkeypatch.setattr(World, name, value)


def commands(example: Example) -> list[list[str]]:
    """The words of each console line."""
    lines = [line for line in example.text.splitlines() if line]
    assert all(line.startswith("$ ") for line in lines), f"{example}: a console line begins with `$ `"
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]


def options_of(words: list[str]) -> Any:
    """What the command makes of its words; argparse leaves with SystemExit when they are wrong."""
    options = cli._parser().parse_args(words)
    if hasattr(options, "settings"):
        read_options(options)
    return options


def test_every_block_has_a_mark_that_is_known() -> None:
    known = re.compile(r"run|run small|parse|output|file [\w./]+")
    assert README
    assert [str(e) for e in EXAMPLES if not known.fullmatch(e.mark)] == []
    assert len(README) == (ROOT / "README.md").read_text(encoding="utf-8").count("\n```") // 2


@pytest.mark.parametrize("page", sorted({example.page for example in TO_RUN}))
@pytest.mark.usefixtures("folder")
def test_what_is_to_be_run_runs(page: str, request: pytest.FixtureRequest, capsys: Any) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for example in (e for e in TO_RUN if e.page == page):
        if example.mark == "run small":
            request.getfixturevalue("small")
        capsys.readouterr()
        if example.language == "python":
            # As far down as in the page, whose lines a traceback then names.
            exec(compile("\n" * example.line + example.text, str(ROOT / page), "exec"), names)
        else:
            run_commands(example, request.getfixturevalue("monkeypatch"))
        after = EXAMPLES[EXAMPLES.index(example) + 1 :][:1]
        if after and after[0].mark == "output":
            assert capsys.readouterr().out == after[0].text, str(example)


def run_commands(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each console line through the command."""
    for words in commands(example):
        if words[0] == "PYTHONPATH=.":
            monkeypatch.syspath_prepend(".")
            words = words[1:]
        assert words[0] == "engram"
        options_of(words[1:])
        assert cli.main(words[1:]) == 0, str(example)


@pytest.mark.parametrize("example", TO_PARSE, ids=str)
@pytest.mark.usefixtures("folder")
def test_what_is_to_be_read_is_understood(example: Example) -> None:
    for words in commands(example):
        words = [word for word in words if word != "PYTHONPATH=."]
        if words[0] == "engram":
            assert options_of(words[1:]).do
        else:
            assert is_known(words), words


# The log says what was called then.
@pytest.mark.parametrize("page", [page for page in DOCS if page != "docs/log.md"])
@pytest.mark.usefixtures("folder")
def test_indented_commands_are_understood(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", "")
    for line in re.findall(r"^    engram (.*)$", text, re.M):
        assert options_of(shlex.split(line, comments=True)).do, line


def is_known(words: list[str]) -> bool:
    """Whether another program's command asks for something that is here."""
    match words:
        case ["make", *_, target]:
            return target in re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        case [".venv/bin/pip", "install", "-e", extra]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            return extra.removeprefix(".[").removesuffix("]") in project["optional-dependencies"]
        case ["python", script, *_] if script.endswith(".py"):
            return (ROOT / script).exists()
        case ["python", "-m", module, *_]:
            return (ROOT / f"{module.replace('.', '/')}.py").exists()
    return words[:2] in ([".", ".venv/bin/activate"], ["hf", "download"])


def test_the_codec_of_the_readme_is_the_one_of_the_examples(folder: Path) -> None:
    audio = torch.randn(1, 1, 3200, generator=torch.Generator().manual_seed(1))
    readme, example = (
        runpy.run_path(str(path))["BlockDCT"]().encode(audio)
        for path in (folder / "my_codec.py", ROOT / "examples" / "own_codec.py")
    )
    assert torch.equal(readme, example)
