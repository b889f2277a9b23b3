"""Runs side by side: the right cells in the right column, and what the reader must know."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import write_run
from html_reading import Elements

from audio_engram import cli
from audio_engram.data import publish
from audio_engram.errors import DataError, UsageError
from audio_engram.measurements import Measurement, Measurements
from audio_engram.numbers import interval
from audio_engram.report.side_by_side import TOLD, Line, as_text, compare, grouped
from audio_engram.report.tables import Table


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("two")
    runs = [write_run(folder / name) for name in ("first", "second")]
    path = runs[1] / "measurements.json"
    records = [
        r.model_copy(update={"value": r.value - 1, "low": r.low - 1, "high": r.high - 1})
        if r.metric == "delta_nll_excess" and r.low is not None
        else r
        for r in Measurements.read(path)
    ]
    Measurements(records).write(path)
    provenance = json.loads((runs[1] / "provenance.json").read_text())
    provenance["seed"] = 11
    (runs[1] / "provenance.json").write_text(json.dumps(provenance))
    return runs


def test_every_cell_is_a_measurement_of_its_run(two: list[Path]) -> None:
    table, cautions = compare(two, "delta_nll_excess")
    assert cautions == ["seed differs: 7, 11"]
    assert table.columns[4:] == tuple(map(str, two))
    for run, column in zip(two, (4, 5), strict=True):
        records = Measurements.read(run / "measurements.json").select(metric="delta_nll_excess")
        wanted = {interval(r.value, r.low, r.high) for r in records if r.split == "test" and r.mode != "analytic"}
        assert {row[column] for row in table.rows} == wanted
    assert all(row[4] != row[5] for row in table.rows)


def test_without_a_metric_verdicts_come_first_and_rollouts_end_at_their_last_step(two: list[Path]) -> None:
    table, _ = compare(two)
    assert table.rows[0][1].startswith("verdict: ")
    assert table.rows[0][4].split(" ")[0] in ("pass", "fail", "undecided", "unattainable")
    steps = {row[3] for row in table.rows if row[0] == "factorisation" and row[1] == "direction cosine"}
    assert steps == {"step 16, free running"}
    assert {row[0] for row in table.rows} >= {"predictability", "magnitude", "factorisation", "injection"}
    assert len({row[:4] for row in table.rows if not row[1].startswith("verdict")}) == len(
        [row for row in table.rows if not row[1].startswith("verdict")]
    )


def test_experiments_without_a_choice_are_told_by_their_verdicts_and_what_these_rest_on(tmp_path: Path) -> None:
    assert "archetypes" not in TOLD
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        decision = json.loads((run / "decision.json").read_text())
        finding = decision["findings"][0]
        finding["criterion"]["experiment"] = finding["measured"]["experiment"] = "archetypes"
        (run / "decision.json").write_text(json.dumps(decision | {"findings": [finding]}))
        record = Measurement.model_validate(finding["measured"])
        beside = record.model_copy(update={"metric": "tightness_full"})
        Measurements([record, beside]).write(run / "measurements.json")
    table, _ = compare(runs)
    (asked, figure) = table.rows
    assert asked[1].startswith("verdict: ")
    assert figure[4] == figure[5] == interval(record.value, record.low, record.high)


def test_rows_stand_under_headings_and_the_terminal_stays_narrow(two: list[Path]) -> None:
    table, _ = compare(two)
    lines = grouped(table)
    assert [line.text for line in lines if line.kind == "group"] == [
        *("Verdicts", "Predictability", "Magnitude", "Factorisation"),
    ]
    assert [line.cells for line in lines if line.kind == "row"] == [row[4:] for row in table.rows]
    assert Line("about", "direction cosine") in lines
    assert not any(line.text.startswith("verdict: ") for line in lines)
    text = as_text(Table(table.caption, (*table.columns[:4], "r/a", "r/b", "r/c", "r/d"), four(table), 4))
    assert max(map(len, text.splitlines())) <= 160
    assert text.split()[:4] == ["a", "b", "c", "d"]
    for line in lines:
        assert all(part in text for part in line.text.split())


def four(table: Table) -> tuple[tuple[str, ...], ...]:
    """The rows with every cell twice."""
    return tuple((*row[:4], *row[4:], *row[4:]) for row in table.rows)


def test_runs_of_one_name_are_told_apart_by_their_paths() -> None:
    table = Table("c", ("experiment", "metric", "model", "at", "a/run", "b/run"), (("x", "m", "", "", "1", "2"),), 4)
    assert as_text(table).split() == ["a/run", "b/run", "X", "m", "all", "1", "2"]


def test_what_one_run_lacks_is_a_dash(two: list[Path], tmp_path: Path) -> None:
    third = write_run(tmp_path / "third")
    records = [r for r in Measurements.read(third / "measurements.json") if r.experiment != "magnitude"]
    Measurements(records).write(third / "measurements.json")
    table, _ = compare([two[0], third])
    assert {row[5] for row in table.rows if row[0] == "magnitude" and not row[1].startswith("verdict")} == {"–"}


@pytest.mark.parametrize(
    ("names", "metric", "kind", "message"),
    [
        (["first"], "", UsageError, "two or more different run folders"),
        (["first", "first"], "", UsageError, "two or more different run folders"),
        (["first", "second"], "delta_nl", UsageError, "no run has measured delta_nl: known are .*delta_nll"),
        (["first", "absent"], "", UsageError, "absent"),
        (["first", "empty"], "", DataError, "config.toml: missing: make it with `engram run"),
    ],
)
def test_bad_input(two: list[Path], names: list[str], metric: str, kind: type[Exception], message: str) -> None:
    (two[0].parent / "empty").mkdir(exist_ok=True)
    with pytest.raises(kind, match=message):
        compare([two[0].parent / name for name in names], metric)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_page_that_cannot_be_written_names_its_own_option(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(publish, "_reach_the_disk", refuse)
    code = cli.main(["compare", *map(str, two), "--html", str(tmp_path / "side.html")])
    said = capsys.readouterr().err.splitlines()
    remedy = f"free some space and {publish.AGAIN}" if number == errno.ENOSPC else "choose another place with --html"
    assert (code, len(said)) == (3 if number == errno.ENOSPC else 2, 1)
    assert said[0].endswith(remedy)


def test_a_name_beyond_the_encoding_of_stdout(two: list[Path], tmp_path: Path) -> None:
    shutil.copytree(two[0], tmp_path / "lauf ü😀")
    for words in (["compare", str(two[1]), "lauf ü😀"], ["compare", str(two[1]), "lauf ü😀", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "audio_engram", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "lauf \\" in done.stdout
    assert "lauf ü😀" in json.loads(done.stdout)["rows"][0]


def test_the_command_prints_a_table_and_writes_a_page(
    two: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "side.html"
    assert cli.main(["compare", *map(str, two), "--html", str(page)]) == 0
    said = capsys.readouterr()
    assert "caution: seed differs" in said.err
    assert "Verdicts\n" in said.out
    reading = Elements(page.read_text(encoding="utf-8"))
    assert not reading.values("src")
    assert "Runs side by side" in page.read_text(encoding="utf-8")
    assert cli.main(["compare", *map(str, two), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["experiment"] == "predictability"
    assert cli.main(["compare", str(two[0])]) == 2
