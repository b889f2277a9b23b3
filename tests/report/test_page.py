"""The page shows everything in the run folder, nothing from outside, and the same bytes each time."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import measurements, write_run
from html_reading import Elements

from audio_engram.errors import DataError, UsageError
from audio_engram.measurements import Measurements
from audio_engram.report import write_report
from audio_engram.report.words import MANIFOLD, METRICS


def test_it_opens_with_the_decision_and_the_warnings(page: str) -> None:
    text = Elements(page).text
    places = [
        text.index(part)
        for part in (
            "Local structure is real but short",
            "Keep the direction × magnitude head",
            "Six of 24 test speakers",
            "Verdicts",
        )
    ]
    head = text.rindex("Local structure is real", 0, places[1])
    assert [head, *places[1:-1]] == sorted([head, *places[1:-1]])


def test_every_finding_has_verdict_value_criterion_and_what_would_change_it(page: str) -> None:
    text = Elements(page).text
    for verdict in ("pass", "fail", "undecided", "unattainable"):
        assert f'class="verdict {verdict}"' in page
        assert verdict in text
    assert "−23.0 [−25.0, −21.0]" in text
    assert "24 speakers, 31,204 frames" in text
    assert "ΔNLL excess below 0 nats/frame. Below zero a model knows more" in text
    assert "About three times as many speakers." in text
    assert "An AR(2) baseline that reaches" not in text  # a pass stands
    assert "0.0644 [0.0344, 0.0944]" in text  # the ceiling


def test_every_metric_that_has_words_is_explained(page: str) -> None:
    start = page.index("<summary>The metrics</summary>")
    text = Elements(page[start : page.index("</details>", start)]).text
    # Without a meaning of its own a label says all.
    for one in (METRICS | MANIFOLD).values():
        assert not one.meaning or one.label in text, one.label
    assert "Rollouts that stopped moving." in text


def test_no_measurement_is_left_out(page: str) -> None:
    table = page[page.index('<table class="everything"') :]
    rows = table[table.index("<tbody>") : table.index("</tbody>")].count("<tr>")
    assert rows == len(measurements())
    assert "a_metric_of_the_future" in table
    assert "4.20×10⁷" in table


def test_the_download_holds_the_same_records(page: str, tmp_path: Path) -> None:
    link = next(a for a in Elements(page).named("a") if a.get("download") == "measurements.json")
    (tmp_path / "m.json").write_bytes(base64.b64decode(link["href"].removeprefix("data:application/json;base64,")))
    assert list(Measurements.read(tmp_path / "m.json")) == list(measurements())


def test_nothing_is_fetched_from_elsewhere(page: str) -> None:
    found = Elements(page)
    for attribute in ("src", "href", "xlink:href", "srcset", "poster", "action"):
        assert all(value.startswith(("data:", "#")) for value in found.values(attribute)), attribute
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    assert len(found.named("link")) == 1
    policy = next(m["content"] for m in found.named("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_references_within_the_page_resolve(page: str) -> None:
    found = Elements(page)
    ids = found.values("id")
    assert len(set(ids)) == len(ids)
    inside = {value[1:] for value in found.values("href") if value.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]*)\)", page)) | set(found.values("for"))
    assert inside <= set(ids)


def test_plots_have_words_and_take_their_colours_from_the_page(page: str) -> None:
    found = Elements(page)
    panels = [a for _, a in found.tags if a.get("class") == "panel"]
    noted = page.count('</svg><p class="panel-note">')
    assert len(panels) == page.count("</svg></div>") + noted >= 25
    assert noted == 2  # the losses of both trainings were still falling
    assert all(len(panel["aria-label"]) > 30 for panel in panels)
    assert any("MDN: −96.4 at 1, −9.10 at 8." in panel["aria-label"] for panel in panels)
    assert "#0101" not in page
    used = set(re.findall(r"var\((--[a-z0-9-]+)", page))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", page))


def test_audio_is_inside(page: str, run: Path) -> None:
    players = Elements(page).named("audio")
    assert len(players) == 16
    assert players[0]["preload"] == "metadata"
    assert base64.b64decode(players[0]["src"].removeprefix("data:audio/flac;base64,")) == (
        (run / "audio" / "0.flac").read_bytes()
    )
    assert "2.0 s · −23.0 dB RMS" in page


def test_the_same_files_give_the_same_bytes_in_another_process(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    code = "import sys, pathlib, audio_engram.report as r; r.write_report(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "99"})
    assert (tmp_path / "run" / "report.html").read_bytes() == (run / "report.html").read_bytes()


def small(folder: Path) -> Path:
    """A run with only the files that must be there, and only one measurement in them."""
    write_run(folder, world=True)
    (folder / "training.json").unlink()
    one = measurements()[0]
    Measurements([one]).write(folder / "measurements.json")
    decision = json.loads((folder / "decision.json").read_text())
    (folder / "decision.json").write_text(json.dumps(decision | {"findings": [], "path": [], "priors": []}))
    return folder


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    page = write_report(small(tmp_path / "run")).read_text()
    anchors = set(Elements(page).values("id"))
    assert not anchors & {"listen", "training", "path", "priors"}
    assert "No criterion was judged" in page
    assert list(tmp_path.glob("run/.*tmp")) == []


@pytest.mark.parametrize("name", ["config.toml", "measurements.json", "decision.json", "provenance.json"])
def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path, name: str) -> None:
    folder = small(tmp_path / "run")
    (folder / "report.html").write_text("the report before")
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: missing: .*`engram run --resume --out .*run`"):
        write_report(folder)
    assert (folder / "report.html").read_text() == "the report before"


def record(**changes: str) -> str:
    """A list of one measurement, its fields as JSON."""
    fields = {"experiment": '"x"', "model": '"x"', "metric": '"x"', "value": "1.5"} | changes
    return "[{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}]"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("measurements.json", "[", "Invalid JSON"),
        ("measurements.json", "[]", "holds no measurement"),
        ("measurements.json", "{}", "valid array"),
        ("measurements.json", "null", "valid array"),
        ("measurements.json", "5", "valid array"),
        ("measurements.json", "[" * 100_000, "recursion limit"),
        ("measurements.json", "9" * 5000, "."),
        ("measurements.json", record(value="NaN"), "0.value: .*finite"),
        ("measurements.json", record(low="-Infinity"), "0.low: .*finite"),
        ("measurements.json", record(lag="9" * 5000), "."),
        ("measurements.json", record(value="9" * 5000), "out of range"),
        ("measurements.json", record(model='"\\ud800"'), "Invalid JSON"),
        ("measurements.json", f"[{record()[1:-1]}, {record()[1:-1]}]", "measured twice: .*one record per key"),
        ("measurements.json", '[{"experiment": "x"}]', "model: Field required"),
        ("decision.json", "{}", "headline"),
        ("provenance.json", '{"version": 3}', "version"),
        ("training.json", '{"mdn": [{"train": 1}]}', "mdn.0.epoch"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    folder = small(tmp_path / "run")
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: .*{says}.*engram run --resume"):
        write_report(folder)


def test_bytes_that_are_no_text_are_a_data_error(tmp_path: Path) -> None:
    folder = small(tmp_path / "run")
    (folder / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"config\.toml"):
        write_report(folder)


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("file", "says"),
    [("../../secret.flac", "outside"), ("gone.flac", "missing"), ("index.json", "neither FLAC nor WAV")],
)
def test_audio_that_may_not_or_cannot_be_shown(tmp_path: Path, file: str, says: str) -> None:
    folder = small(tmp_path / "run")
    (tmp_path / "secret.flac").write_bytes(b"fLaC")
    (folder / "audio").mkdir()
    clip = {
        "group": "g",
        "label": "l",
        "kind": "k",
        "file": file,
        "seconds": 1.0,
        "rms_db": -20.0,
        "note": "",
    }
    (folder / "audio" / "index.json").write_text(json.dumps([clip]))
    with pytest.raises(DataError, match=says):
        write_report(folder)


def test_a_world_shows_its_truth(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "world", world=True)).read_text()
    assert "analytic truth (diagonal AR(1))" in page
