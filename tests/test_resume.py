"""`--resume` by itself goes on with the run in --out as it was described when it was begun."""

from pathlib import Path

import pytest

from audio_engram import cli
from audio_engram.config import Config, read_config

SMALL = [
    word
    for setting in (
        *("model.context=2", "model.width=8", "model.depth=1", "model.components=2", "train.epochs=1"),
        *('experiments.names=["magnitude"]', "experiments.resamples=1000", "data.test=0.4"),
    )
    for word in ("--set", setting)
]
BEGUN = ["encode", "--corpus", "world:ar", "--device", "cpu", "--seed", "3", "--out", "out", *SMALL]


def written() -> Config:
    return read_config(Path("out/config.toml"))


@pytest.fixture
def begun(place: Path, capsys: pytest.CaptureFixture[str]) -> Config:
    """A run of which only the latents are there."""
    assert cli.main(BEGUN) == 0
    capsys.readouterr()
    return written()


@pytest.mark.parametrize("command", [["encode"], ["train", "--model", "vmf"]])
def test_the_settings_need_not_be_given_again(begun: Config, command: list[str]) -> None:
    assert cli.main([*command, "--resume", "--out", "out"]) == 0
    assert written() == begun
    assert (begun.data.corpus, begun.seed, begun.model.width) == ("world:ar", 3, 8)


def test_a_limit_on_failures_may_be_raised(begun: Config) -> None:
    assert cli.main(["encode", "--resume", "--out", "out", "--max-failed", "0.5"]) == 0
    assert written().data.max_failed == 0.5
    assert written().model == begun.model


def test_what_is_given_describes_the_whole_run(begun: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*BEGUN, "--resume"]) == 0
    capsys.readouterr()
    for given in (["--corpus", "world:ar"], ["--set", "model.width=8"], ["--codec", "mel"], ["--seed", "4"]):
        assert cli.main(["encode", "--resume", "--out", "out", *given]) == 2
        assert "holds a run of another configuration" in capsys.readouterr().err
    assert written() == begun


def test_there_must_be_a_run_to_go_on_with(begun: Config, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("encode", "run"):
        assert cli.main([command, "--resume", "--out", "mistyped"]) == 2
        assert "--resume: mistyped holds no run to go on with" in capsys.readouterr().err
    assert not Path("mistyped").exists()


def test_a_run_of_another_version_is_named(begun: Config, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("out/config.toml")
    path.write_text(path.read_text().replace("width =", "breadth ="))
    assert cli.main(["encode", "--resume", "--out", "out"]) == 2
    assert "out: holds a run of another version (" in capsys.readouterr().err


def test_a_run_from_before_there_was_a_section_goes_on(begun: Config) -> None:
    path = Path("out/config.toml")
    before, score, after = path.read_text().partition("[score]")
    assert score
    path.write_text(before + after[after.index("[experiments]") :])
    assert cli.main(["encode", "--resume", "--out", "out"]) == 0
    assert cli.main([*BEGUN, "--overwrite"]) == 0
    assert written() == begun


def test_the_remedy_for_an_unfinished_run_works(begun: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "out"]) != 0
    assert "engram run --resume --out out" in capsys.readouterr().err
    assert cli.main(["run", "--resume", "--out", "out"]) == 0
    assert cli.main(["report", "out"]) == 0


def test_encode_says_what_is_not_in_the_store(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*BEGUN, "--set", "codec.stack=2", "--set", "codec.pca=2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "600 frames" in out[0]  # as many as without a stack
    assert out[1:] == [
        "The store holds the codec's own latents; codec.stack, codec.pca are applied when they are read."
    ]
    assert cli.main([*BEGUN, "--overwrite"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
