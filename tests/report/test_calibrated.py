"""What the page of a calibration says beside its figures."""

import os
from pathlib import Path

from html_reading import Elements

from audio_engram.calibration import Passed, Recovered
from audio_engram.calibration_plan import PLAN, Row
from audio_engram.report.calibrated import KNOWN, recovery, verdicts, write_page

ARCHETYPES = Row("archetypes", "archetypes", True)
FOUND = (
    [Passed(ARCHETYPES, {"fail": 2}), Passed(Row("archetypes", "chained", False), {"pass": 2})],
    [
        Recovered(ARCHETYPES, "found_k", 64.0, 64.0, None, None, 2),
        Recovered(ARCHETYPES, "membership_accuracy, K = 64", 0.95, 0.9, 0.01, 0.0, 2),
    ],
)


def test_every_world_of_the_plan_is_described() -> None:
    assert {row.world for row in PLAN} <= set(KNOWN)


def test_a_world_that_may_not_pass_may_have_known_figures() -> None:
    assert [row[2] for row in verdicts(FOUND[0]).rows] == ["no", "yes"]
    table = recovery(FOUND[1])
    assert [row[2:4] for row in table.rows] == [("K found", ""), ("membership foretold", "K = 64")]
    assert "no part of whether calibration holds" in table.caption


def test_the_page_tells_how_it_was_made(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    for name, day in (("settings", 0), ("a-noise-0000", 1), ("a-noise-0001", 3)):
        (tmp_path / f"trials/{name}.json").write_text("{}")
        os.utime(tmp_path / f"trials/{name}.json", (0, day * 86_400 + 3600))
    write_page(tmp_path / "calibration.html", FOUND, 2, "engram calibrate --seeds 2")
    page = Elements((tmp_path / "calibration.html").read_text()).text
    for said in (
        "engram calibrate --seeds 2",
        "1970-01-02 to 1970-01-04",
        "2 null worlds",
        '"archetype_counts"',
        KNOWN["chained"],
    ):
        assert said in page
    assert KNOWN["noise"] not in page
