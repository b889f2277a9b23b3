"""The figure and the tables of correctors."""

import pytest

from audio_engram.decision import Criterion, Finding
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import scatter
from audio_engram.report.corrections import CONTEXT, _kind, correction
from audio_engram.report.sections import JUDGED, TABLES

PLAIN = 4.0
NEAR, FAR, NOISY, BROKEN = (
    "Tweedie, σ 0.2",
    "Langevin 1 × 0.5 σ², σ 0.8",
    "Langevin 4 × 0.5 σ² and Tweedie, σ 0.2",
    "odd",
)


def record(model, metric, value, spread=0.1):
    ends = {} if value is None else {"low": value - spread, "high": value + spread}
    known = {"experiment": "correction", "codec": "c", "n_speakers": 9, "n_frames": 24}
    return Measurement(model=model, metric=metric, value=value, **ends, **known)


def measured():
    found = [record("uncorrected", "state_error", PLAIN)]
    tried = {
        NEAR: (-0.4, 0.9),
        FAR: (0.4, 46.0),
        NOISY: (0.8, 0.95),
        BROKEN: (None, None),
        NEAR + CONTEXT: (-1.0, 2.0),
    }
    for name, (error, times) in tried.items():
        found.append(record(f"{name} - uncorrected", "state_error_difference", error))
        found.append(record(f"{name} - uncorrected", "frechet_latents_times", times))
        found.append(record(name, "state_error", None if error is None else PLAIN + error))
    return Measurements(found)


def finding():
    criterion = Criterion(
        **{"experiment": "correction", "question": "?", "metric": "state_error_difference", "relation": "below"},
        **{"threshold": -0.04, "reason": "r"},
    )
    judged = record(f"{NEAR}{CONTEXT} - uncorrected", "state_error_difference", -1.0)
    return Finding(criterion=criterion, measured=judged, verdict="pass", words="w", would_change="x")


def test_every_corrector_has_both_ratios():
    [figure] = correction(measured(), "e0")
    alone, given = figure.panels
    assert "1: 0.900 [0.875, 0.925] across, 0.900 [0.800, 1.000] upwards" in alone.alt
    assert "3: 1.20 [1.18, 1.23] across, 0.950 [0.850, 1.050] upwards" in alone.alt
    assert alone.key == (("1", NEAR), ("2", FAR), ("3", NOISY), ("4", BROKEN))
    assert given.key == (("5", NEAR),)
    assert "5: 0.750" in given.alt
    assert [label for label, _ in figure.legend] == ["Tweedie", "Langevin", "Langevin and Tweedie", "another"]


def test_what_is_far_out_or_no_number_sets_no_axis_and_is_told():
    [figure] = correction(measured(), "e0")
    alone, given = figure.panels
    assert alone.note == "Outside (across and upwards): 2 at 1.10 and 46.0; 4 at not finite and not finite."
    assert given.note == ""
    for panel in figure.panels:
        assert ">2</text>" in panel.svg
        assert ">10</text>" not in panel.svg


def test_the_corner_that_is_wanted_is_shaded(monkeypatch):
    planes = []
    monkeypatch.setattr(scatter, "_corner", lambda on, plane: planes.append((plane, on.get_xlim(), on.get_ylim())))
    correction(measured(), "e0")
    for plane, across, upwards in planes:
        assert plane.wanted == (0.99, 1.0)
        assert across == pytest.approx((0.75 / 1.08, 1.2 * 1.08))
        assert upwards == pytest.approx((0.9 / 1.08, 2.0 * 1.08))
    assert len(planes) == 2


def test_the_judged_corrector_is_named():
    [figure] = JUDGED["correction"](measured(), "e0", (finding(),))
    assert figure.panels[1].key == (("5", f"{NEAR} (judged)"),)
    assert "judged" not in str(figure.panels[0].key)


@pytest.mark.parametrize("missing", ["state_error", "state_error_difference", "frechet_latents_times"])
def test_runs_that_lack_a_number_have_no_figure(missing):
    assert correction(Measurements(r for r in measured() if r.metric != missing), "e0") == []


@pytest.mark.parametrize(("name", "kind"), [(NEAR + CONTEXT, "Tweedie"), (FAR, "Langevin"), (BROKEN, "another")])
def test_kinds_come_from_names(name, kind):
    assert _kind(name) == kind


def test_rows_are_correctors():
    against, alone = TABLES["correction"](measured())
    assert [row[0] for row in against.rows] == [NEAR, FAR, NOISY, BROKEN, NEAR + CONTEXT]
    assert against.columns[0] == "corrector"
    assert [row[0] for row in alone.rows][:2] == ["uncorrected", NEAR]
