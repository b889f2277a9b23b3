"""What is told of the settings is what the configuration takes."""

import json
import re
import tomllib

import pytest

from audio_engram import cli
from audio_engram.config import Config, _known_keys, make_config, read_config
from audio_engram.errors import UsageError
from audio_engram.settings import describe_settings, settings_as_toml

TOLD = {f"{section.name}.{one.key}".lstrip("."): one for section in describe_settings() for one in section.settings}
BEYOND = {"or more": -1, "above": 0, "at most": 1, "below": 0}
"""Of a limit's words: by how much the nearest value that is refused lies beyond the limit."""


def refused_values() -> list[tuple[str, float]]:
    """A value beyond every limit that is told of a number."""
    found = []
    for key, one in TOLD.items():
        if one.allowed.startswith(("whole number", "number")):
            for above, least, or_more in re.findall(r", (above |at most |below )?([-.\d]+)( or more)?", one.allowed):
                number = float(least) + BEYOND[(above or or_more).strip()]
                found.append((key, int(number) if one.allowed.startswith("whole") else number))
    return found


def test_every_key_is_told_with_its_default_and_a_meaning():
    assert list(TOLD) != []
    assert set(TOLD) == set(_known_keys(Config, ""))
    assert [key for key, one in TOLD.items() if not one.meaning] == []
    assert make_config(tomllib.loads(settings_as_toml())) == Config()


def test_every_key_stands_below_a_comment_and_in_its_section():
    lines = settings_as_toml().splitlines()
    section, found = "", {}
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif " = " in line and not line.startswith("#"):
            key, _, default = line.partition(" = ")
            found[section + key] = default
            assert before.startswith("# "), line
    assert found == {key: one.default for key, one in TOLD.items()}
    assert max(map(len, lines)) < 120


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("seed", "whole number"),
        ("codec.options", "table, each: text or whole number or number or true or false"),
        ("model.width", "whole number, 1 or more"),
        ("model.dropout", "number, 0 or more, below 1"),
        ("model.memory.sharpness", "number, 0.1 or more, at most 1000"),
        ("train.step", "typical, mean or sample"),
        ("train.detach", "true or false"),
        ("score.sigma_min", "number, above 0"),
        ("experiments.lags", "list, each: whole number, 1 or more"),
        ("experiments.memories", "list, each: blend, alone, concentration or magnitude"),
        ("experiments.representations", "list, each: as [codec]"),
        ("experiments.correction.levels", "list, each: number, above 0"),
    ],
)
def test_what_a_value_may_be_is_told_in_words(key, allowed):
    assert TOLD[key].allowed == allowed


@pytest.mark.parametrize(("key", "value"), refused_values())
def test_what_lies_beyond_a_limit_is_refused(key, value):
    with pytest.raises(UsageError, match=re.escape(key)):
        read_config(settings=(f"{key}={value}",))


def test_limits_of_both_ends_are_tried():
    assert len(refused_values()) > 40
    assert {(key, value) for key, value in refused_values() if key == "data.max_failed"} == {
        ("data.max_failed", -1.0),
        ("data.max_failed", 2.0),
    }


def test_what_the_command_prints_is_a_file_that_a_run_takes(tmp_path, capsys):
    assert cli.main(["settings"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = tmp_path / "all.toml"
    path.write_text(out.replace("\nwidth = 512", "\nwidth = 64", 1))
    assert read_config(path) == read_config(settings=("model.width=64",))


def test_the_command_prints_json_alone(capsys):
    assert cli.main(["settings", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    told = json.loads(out)
    assert set(told) == set(TOLD)
    assert told["experiments.lags"]["default"] == [1, 2, 4, 8]
    assert set(told["seed"]) == {"default", "allowed", "meaning"}


def test_a_word_too_many_is_refused_in_one_line(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["settings", "model"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err == "engram: unrecognized arguments: model; see engram --help\n"
