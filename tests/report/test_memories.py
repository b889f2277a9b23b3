"""The figure and the tables of memories and their placebos."""

import re

import pytest

from audio_engram.decision import Criterion, Finding
from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import MEMORIES, PLACEBOS, ROLES, memory_regime, placebos
from audio_engram.report import bars, words
from audio_engram.report.latex_table import as_latex
from audio_engram.report.memories import ROWS, memory, memory_tables
from audio_engram.report.sections import JUDGED, TABLES

BAR = -0.32


def record(model, metric, value, spread=0.01):
    ends = {} if value is None else {"low": value - spread, "high": value + spread}
    known = {"experiment": "memory", "codec": "c", "n_speakers": 9, "n_frames": 24}
    return Measurement(model=model, metric=metric, value=value, **ends, **known)


def of_role(role):
    name, found = memory_regime(role).name, []
    found.append(record(name, "delta_nll", -2.0))
    found.append(record(f"{name} - vmf", "delta_nll_difference", 0.01))
    for place, placebo in enumerate(placebos(role)):
        other = memory_regime(role, placebo).name
        found.append(record(other, "delta_nll", -1.0))
        found.append(record(f"{name} - {other}", "delta_nll_difference", -0.1 * (place + 1)))
    return found


def measured(*roles):
    found = [record("vmf", "delta_nll", -2.2)]
    found += [r for role in roles or ROLES for r in of_role(role)]
    found += [
        record("residual-memory", "delta_nll", -2.6),
        record("residual-memory - vmf", "delta_nll_difference", -0.4),
    ]
    found += [record("anchor-0.1 - towards-mean-0.1", "frechet_latents_times", 0.85)]
    return Measurements(found)


def finding(role="blend"):
    criterion = Criterion(
        **{"experiment": "memory", "question": "?", "metric": "delta_nll_difference", "relation": "below"},
        **{"threshold": BAR, "reason": "r"},
    )
    judged = record(f"memory-{role} - memory-{role}-matched", "delta_nll_difference", 0.03)
    return Finding(criterion=criterion, measured=judged, verdict="fail", words="w", would_change="x")


def test_each_role_is_a_panel_with_its_placebos_and_the_model_without_last():
    [figure] = memory(measured(), "e0", (finding(),))
    assert [panel.title for panel in figure.panels] == [
        *("Memory blended into the direction (judged)", "Memory as the direction"),
        *("Memory for the concentration", "Memory for the magnitude", "Residual memory"),
    ]
    blend, _, concentration, _, residual = (panel.alt for panel in figure.panels)
    labels = re.findall(r"[.] ([a-z ]+): ", blend)
    assert labels == ["shuffled keys", "random prototypes", "one prototype", "a further layer", "no memory"]
    assert "one prototype: −0.300 [−0.310, −0.290]" in blend
    assert "random" not in concentration
    assert residual.endswith("no memory: −0.400 [−0.410, −0.390].")


def test_the_bar_stands_in_every_panel_and_in_the_caption():
    [figure] = JUDGED["memory"](measured(), "e0", (finding(),))
    assert "Wanted is below −0.32, against every placebo." in figure.caption
    assert all(">wanted: below −0.32<" in panel.svg for panel in figure.panels)
    [without] = memory(measured(), "e0")
    assert "Wanted" not in without.caption
    assert not any("wanted" in panel.svg or "judged" in panel.title for panel in without.panels)


def test_only_placebos_are_full(monkeypatch):
    seen = []
    monkeypatch.setattr("audio_engram.report.memories.dot_panel", lambda *of: seen.append(of) or bars.dot_panel(*of))
    memory(measured("blend"), "e0", (finding(),))
    (_, _, rows, across), _ = seen
    assert [row.style.filled for row in rows] == [True] * 4 + [False]
    assert across.lines == ((0.0, ""), (BAR, "wanted: below −0.32"))
    assert (across.any_size, across.finest) == (True, 0.32)


@pytest.mark.parametrize(("finest", "linear"), [(0.32, True), (0.0, False)])
def test_sizes_below_the_bar_need_no_axis_of_their_own(finest, linear):
    rows = [bars.Row(name, record("m", "x", v), bars.Style("mdn")) for name, v in (("a", -0.001), ("b", 0.1))]
    drawn = bars.dot_panel("t", "n", rows, bars.Across(any_size=True, finest=finest)).svg
    assert ("0.001" not in re.findall(r">(−?[\d.]+)</text>", drawn)) == linear


def test_rows_are_grouped_by_the_memory():
    alone, differences = memory_tables(measured("blend"))
    assert alone.heads == differences.heads == 2
    role = "memory blended into the direction"
    assert [row[:2] for row in alone.rows] == [
        *(("no memory", ""), (role, ""), (role, "placebo: shuffled keys"), (role, "placebo: random prototypes")),
        *((role, "placebo: one prototype"), (role, "placebo: a further layer"), ("residual memory", "")),
    ]
    assert [row[:2] for row in differences.rows] == [
        *((role, "no memory"), (role, "placebo: shuffled keys"), (role, "placebo: random prototypes")),
        *((role, "placebo: one prototype"), (role, "placebo: a further layer"), ("residual memory", "no memory")),
        ("anchor, 0.1 a step", "towards the mean, 0.1 a step"),
    ]
    assert TABLES["memory"](measured("blend")) == [alone, differences]


def test_what_is_not_known_keeps_its_name():
    [table] = memory_tables(Measurements([record("later - memory-blend-one", "delta_nll_difference", 1.0)]))
    assert table.rows[0][:2] == ("later", "placebo: one prototype")
    [table] = memory_tables(Measurements([record("memory-blend-one - vmf", "delta_nll_difference", 1.0)]))
    assert table.rows[0][:2] == ("memory blended into the direction, placebo: one prototype", "no memory")
    assert memory_tables(Measurements([])) == memory(Measurements([]), "e0") == []


def test_every_memory_and_placebo_has_a_row_of_its_own():
    assert set(MEMORIES) <= set(ROWS)
    assert len({ROWS[name] for name in MEMORIES}) == len(MEMORIES)


def test_a_difference_names_its_memory_once():
    name = "memory blended into the direction"
    assert words.model("memory-blend - memory-blend-one") == f"{name} − placebo: {PLACEBOS['one']}"
    assert words.model("memory-blend - memory-magnitude-one").count("memory") == 2
    assert words.model("memory-blend - vmf") == f"{name} − vMF × log-normal"


def test_all_memories_fit_on_a_page():
    """Full tables of all roles, as wide as they get."""
    alone, _ = memory_tables(measured())
    wide = [f"−2.69 [−2.90, −2.{n}]" for n in range(10, 15)]
    rows = tuple((*row[:2], *wide) for row in alone.rows)
    columns = (
        "memory",
        "in its place",
        "parameters",
        "ΔNLL",
        "ΔNLL in rollout",
        "Fréchet distance",
        "magnitude, median",
    )
    assert len(as_latex(type(alone)(alone.caption, columns, rows, 2), "memory")) == 1
