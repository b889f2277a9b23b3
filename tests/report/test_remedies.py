"""The table and figures of trainings against drift."""

import re

import pytest
from fake_run import decision, folder_of, measurements
from jinja2 import Environment, PackageLoader

from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import REGIMES
from audio_engram.report.drift_figure import BESIDE, _limits, _looks, stability
from audio_engram.report.lines import Look
from audio_engram.report.panels import color
from audio_engram.report.remedies import anchors, no_trainings, remedies
from audio_engram.report.sections import TABLES, sections, tables_to_read
from audio_engram.report.series import MODELS
from audio_engram.report.tables import all_records, rests_on
from audio_engram.report.words import experiment


def record(model, metric, value, step=1, mode="sampled"):
    return Measurement(
        **{"experiment": "stability", "model": model, "metric": metric, "value": value, "low": value - 0.1},
        **{"high": value + 0.1, "step": step, "mode": mode, "n_speakers": 9, "n_frames": 9, "codec": "c"},
    )


def measured():
    found = []
    for model, excess, lived, far in (("mdn", -5.0, 0.2, 2.5), ("mdn-tied", -7.0, 0.9, 1.4), ("vmf", -9.0, 0.2, 5.0)):
        found.append(record(model, "delta_nll_excess", excess, mode="teacher_forced"))
        for step in (62, 250):
            found.append(record(model, "survival", lived if step == 250 else 1.0, step))
            found.append(record(model, "frechet_latents_ratio", far, step))
    found += [record("real", "survival", 1.0, step) for step in (62, 250)]
    found += [record("shuffled frames", "frechet_latents_ratio", 1.2, 31)]
    found += [record("standing still", "frechet_latents_ratio", 9.0, 31), record("original", "speech_share", 0.8, 31)]
    return Measurements(found)


def broken(model, step, alive):
    """A training whose rollouts leave the finite numbers from a step on: survivors look like speech."""
    far = [record(model, "frechet_latents_ratio", v, s) for s, v in ((62, 2e17), (250, 6.7), (750, 1.33))]
    first = [far[0].model_copy(update={"low": None, "high": None}), *far[1:]]
    lived = [record(model, "survival", 0.0, s) for s in (62, 250, 750)]
    finite = record(model, "finite_share", alive / 24, 750).model_copy(update={"n_frames": 24})
    cost = record(model, "delta_nll_excess", 1.0, mode="teacher_forced")
    return [cost, *first, *lived, finite, record(model, "first_nonfinite_step", step, 750)]


def test_the_longest_lived_training_stands_first_and_of_equals_the_cheaper():
    (table,) = remedies(measured(), 12.5)
    assert [row[0] for row in table.rows] == ["MDN, semi-tied covariances", "vMF × log-normal", "MDN"]
    assert table.columns == ("training", "ΔNLL excess", "surviving, 20 s", "Fréchet distance, 20 s")
    assert table.rows[0][2].startswith("0.9")  # at 20 s, where at 5 s it has 1
    assert table.rows[0][3].startswith("1.4")
    assert "finite" not in table.caption


def test_figures_are_those_of_the_horizon_that_is_judged():
    later = [record("mdn", m, 8.0, 750) for m in ("survival", "frechet_latents_ratio")]
    more = Measurements([*measured(), *later])
    (table,) = remedies(more, 12.5)
    assert table == remedies(measured(), 12.5)[0]
    (unknown,) = remedies(more, None)
    assert unknown.columns[2:] == ("surviving, step 750", "Fréchet distance, step 750")
    assert unknown.rows[0][:3:2] == ("MDN", "8.00 [7.90, 8.10]")
    # Where the least horizon is beyond 20 s it is the one that is judged.
    (slow,) = remedies(more, 2.0)
    assert slow.columns[2] == "surviving, 31 s"


def test_of_rollouts_that_broke_no_distance_stands_as_a_plain_number():
    whole = [record(m, "finite_share", 1.0, 750).model_copy(update={"n_frames": 24}) for m in ("mdn", "mdn-tied")]
    (table,) = remedies(Measurements([*measured(), *whole, *broken("mdn-noise", 61, 10)]), 12.5)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert table.rows[-1][0] == "MDN, noise on contexts"
    assert rows["MDN, noise on contexts"]["Fréchet distance, 20 s"] == "6.70 [6.60, 6.80] (10 of 24)"
    assert [rows[name]["finite rollouts, 60 s"] for name in rows] == ["24 of 24", "–", "24 of 24", "10 of 24"]
    assert rows["MDN"]["Fréchet distance, 20 s"] == "2.50 [2.40, 2.60]"
    assert "may look better than it is" in table.caption
    (table,) = remedies(Measurements([*measured(), *whole]), 12.5)
    assert table == remedies(measured(), 12.5)[0]  # where none broke there is nothing to tell


def no_training():
    """Two correctors, what they are held against, two stages and what two stages fill in, and one of another codec."""
    found = []
    for model, lived in (("uncorrected", 0.3), ("Tweedie, σ 0.8", 0.95), ("Langevin 4 × 0.5 σ², σ 0.8", 0.6)):
        found += [record(model, "survival", lived, step) for step in (62, 250)]
        found.append(record(model, "frechet_latents_ratio", 1.9, 250))
        found.append(record(model, "state_error", 3.0, 16, "free_running"))
    found.append(record("Tweedie, σ 0.8 - uncorrected", "frechet_latents_times", 0.7, 250))
    found = [r.model_copy(update={"experiment": "correction"}) for r in found]
    stages = [record(name, "survival", 0.1, 250) for name in ("two_stage", "vmf")]
    stages.append(record("two_stage_true_directions", "frechet_latents_ratio", 2.2, 62))
    found += [r.model_copy(update={"experiment": "two_stage"}) for r in stages]
    return Measurements([*found, found[2].model_copy(update={"codec": "d", "value": 0.5})])


def test_correctors_and_two_stages_stand_among_the_trainings():
    everything = Measurements([*measured(), *no_training()])
    others = no_trainings(everything, "c")
    (table,) = remedies(measured(), 12.5, others)
    assert table.columns == ("remedy", "ΔNLL excess", "surviving, 20 s", "Fréchet distance, 20 s")
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows)[:3] == ["Tweedie, σ 0.8", "MDN, semi-tied covariances", "Langevin 4 × 0.5 σ², σ 0.8"]
    assert set(rows) == {*(row[0] for row in remedies(measured(), 12.5)[0].rows), *list(rows)[:3:2], "two stages"}
    assert rows["Tweedie, σ 0.8"] == ("–", "0.950 [0.850, 1.050]", "1.90 [1.80, 2.00]")
    assert "a corrector leaves likelihood as it is" in table.caption
    shown = [table for _, table in tables_to_read("stability", folder_of(decision(measurements()), everything))]
    assert shown[0] == table


def test_the_figure_has_the_judged_corrector_and_two_stages_beside_the_trainings():
    finding = decision(measurements()).findings[0]
    judged = finding.measured.model_copy(update={"model": "Tweedie, σ 0.8 - uncorrected"})
    asked = finding.criterion.model_copy(update={"experiment": "correction"})
    found = decision(measurements()).model_copy(
        update={"findings": (finding.model_copy(update={"criterion": asked, "measured": judged}),)}
    )
    run = folder_of(found, [*measured(), *no_training()])
    (part,) = next(s for s in sections(run) if s.title == experiment("stability").title).parts
    alt = part.figures[0].panels[0].alt
    assert "Tweedie, σ 0.8: 0.950 at 62, 0.950 at 250" in alt
    assert "two stages: 0.100 at 250" in alt
    assert "Langevin" not in alt
    assert "uncorrected" not in alt


def test_two_stages_far_away_leave_the_axis_to_the_trainings():
    far = [record("two_stage", "frechet_latents_ratio", value, step) for value, step in ((53.6, 62), (729.0, 250))]
    near = record("Tweedie, σ 0.8", "frechet_latents_ratio", 1.9, 250).model_copy(update={"experiment": "correction"})
    others = Measurements([near, *(r.model_copy(update={"experiment": "two_stage"}) for r in far)])
    (figure,) = stability(measured(), "e0", others)
    panel = figure.panels[1]
    assert panel.note == "Beyond the axis: two stages 53.6 at 62, 729 at 250."
    assert "Tweedie, σ 0.8: 1.90 at 250" in panel.alt
    assert "hollow and" not in figure.caption


def test_anchors_have_a_table_of_their_own():
    (table,) = anchors(measured(), 12.5)
    assert [row[0] for row in table.rows] == ["recordings", "true frames in random order", "standing still"]
    assert table.rows[1][table.columns.index("Fréchet distance")].startswith("1.2")
    # By their latents they survive, by their sound they are speech: one row has both.
    assert [cell[:4] for cell in table.rows[0][1:]] == ["1.00", "0.80", "–"]
    assert table.rows[0][1].endswith("by 20 s")


def test_anchors_stand_open_beside_the_trainings():
    shown = tables_to_read("stability", folder_of(decision(measurements()), measured()))
    assert [table for _, table in shown] == [*remedies(measured(), 12.5), *anchors(measured(), 12.5)]
    assert anchors(measured(), 12.5)
    assert "stability" not in TABLES  # where nothing but the list of measurements is folded away


def test_recordings_that_are_too_short_have_the_last_horizon_they_reach():
    nothing = record("real", "survival", 1.0, 250).model_copy(update={"value": None, "low": None, "high": None})
    unknown = nothing.model_copy(update={"n_frames": 0, "n_speakers": 0})
    without = [r for r in measured() if (r.model, r.step) != ("real", 250)]
    (table,) = anchors(Measurements([*without, unknown]), 12.5)
    assert table.rows[0][1] == "1.00 [0.90, 1.10] by 5 s"
    (figure,) = stability(Measurements([*without, unknown]), "e0")
    assert "recordings: 1.00 at 62." in figure.panels[0].alt
    never = [unknown, unknown.model_copy(update={"step": 62})]
    (table,) = anchors(Measurements([*(r for r in without if r.model != "real"), *never]), 12.5)
    assert table.rows[0][1] == "not measured"
    # What rollouts of broken numbers gave is another matter.
    (table,) = anchors(Measurements([*without, nothing]), 12.5)
    assert table.rows[0][1] == "not finite by 20 s"


def test_marks_of_rollouts_that_broke_are_hollow_and_not_joined(monkeypatch):
    drawn = []
    monkeypatch.setattr("audio_engram.report.lines._plot", lambda on, line, style, *_: drawn.append((style, line)))
    (figure,) = stability(Measurements([*measured(), *broken("mdn-noise", 100, 10)]), "e0")
    far = figure.panels[1]
    assert far.note == "Beyond the axis: MDN, noise on contexts 2.00×10¹⁷ at 62, 6.70 at 250."
    assert "marks are hollow and no line joins" in figure.caption
    look = dict(figure.legend)["MDN, noise on contexts"]
    hollow = [y for style, (_, y) in drawn if style == look._replace(dash="none", filled=False)]
    assert hollow == [[1.33]]  # the others would make an axis of many decades, and stand in the note
    assert not figure.panels[0].note
    # Up to where they broke they are a line like any other.
    drawn.clear()
    whole = [r for r in broken("mdn-noise", 300, 10) if r.value != 2e17]
    (figure,) = stability(Measurements([*measured(), *whole]), "e0")
    assert [y for style, (_, y) in drawn if style == look._replace(dash="none", filled=False)] == [[1.33]]
    assert [y[:1] for style, (_, y) in drawn if style == look][-1] == [6.7]
    (figure,) = stability(measured(), "e0")
    assert "hollow and" not in figure.caption


def test_panels_draw_the_trainings_speech_and_three_anchors():
    (figure,) = stability(measured(), "e0")
    titles = [panel.title for panel in figure.panels]
    assert titles == ["Surviving (share)", "Fréchet distance (times real)"]
    assert "recordings: 1.00 at 62, 1.00 at 250" in figure.panels[0].alt
    assert figure.panels[1].alt.endswith("Beside: true frames in random order: 1.20.")
    assert "random" not in figure.panels[0].alt
    assert "standing still" not in "".join(panel.alt for panel in figure.panels)
    (style,) = (style for label, style in figure.legend if label == "true frames in random order")
    assert (style.dash, style.filled) == ("none", False)


def test_anchors_are_drawn_before_the_first_step_each_in_its_own_place(monkeypatch):
    drawn = {}
    monkeypatch.setattr("audio_engram.report.lines._plot", lambda on, line, style, *_: drawn.update({style: line}))
    values = {"teacher-forced": 1.3, "shuffled frames": 1.2, "Gaussian frames": 1.4}
    more = [record(name, "frechet_latents_ratio", v, 62) for name, v in values.items() if name != "shuffled frames"]
    stability(Measurements([*measured(), *more]), "e0")
    places = []
    for name, value in values.items():
        (x,), (y,) = drawn[BESIDE[name]]
        assert y == value
        places.append(x)
    assert places == sorted(set(places))
    assert len(places) == 3
    assert places[-1] < 62


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"model": "mdn", "mode": "sampled"}, "24 rollouts"),
        ({"model": "mdn", "mode": "mean"}, "24 rollouts"),
        ({"model": "mdn", "mode": "teacher_forced"}, "24 frames"),
        ({"model": "vmf", "mode": "free_running"}, "24 frames"),
        ({"model": "real", "mode": "sampled"}, "24 stretches"),
        ({"model": "shuffled frames", "mode": "sampled"}, "24 stretches"),
        ({"model": "truth", "mode": "analytic", "n_frames": 0}, "–"),
    ],
)
def test_rollouts_are_not_called_frames(what, told):
    one = Measurement(**({"experiment": "stability", "metric": "x", "value": 1.0, "n_frames": 24} | what))
    assert rests_on(one) == told
    table = all_records(Measurements([one]))
    assert table.rows[0][table.columns.index("rests on")] == told


def test_every_training_there_is_has_a_look_of_its_own():
    found = Measurements([record(name, "delta_nll_excess", -1.0) for name in REGIMES])
    looks = _looks(found)
    assert len(looks) == len(set(looks.values())) == len(REGIMES)
    assert all(color(style.role) for style in looks.values())
    assert looks["mdn"].marker == "o"  # as everywhere on the page


def test_every_marker_in_a_figure_has_its_shape_in_the_legend():
    found = Measurements([record(name, "delta_nll_excess", -1.0) for name in REGIMES])
    styles = [*_looks(found).values(), *BESIDE.values(), *MODELS.values()]
    macro = Environment(loader=PackageLoader("audio_engram.report", "templates")).get_template("parts.html").module
    drawn = {one.marker: re.findall(r"<(?:path|circle|rect)[^>]*>", macro.swatch(one)) for one in styles if one.marker}
    assert len(drawn) > 8
    assert all(drawn.values())
    assert len({shapes[-1].partition(" class")[0] for shapes in drawn.values()}) == len(drawn)


def test_one_broken_rollout_does_not_flatten_all_others():
    found = [record("mdn", "frechet_latents_ratio", v, step) for step, v in ((62, 1.2), (250, 2.0))]
    broken = found[0].model_copy(update={"step": 750, "value": 7.0, "low": 1e-6, "high": 1e8})
    low, high = _limits([*found, broken], Look("step"))
    assert 0.3 < low < 1.1
    assert 20 < high < 25
    low, high = _limits(found, Look("step"))
    assert 1.0 < low < 1.1
    assert 2.1 < high < 2.3
    assert _limits(found, Look("step", bands=((0.5, 4.0),))) == (0.5 / 1.05, 4.0 * 1.05)
    # A tenth of a logarithmic axis is left below the lowest value, for the name of a guide.
    assert _limits(found, Look("step", "log"))[0] == pytest.approx(1.1 / (2.1 / 1.1) ** 0.1)
    assert _limits(found, Look("step", guides=((0.4, "real"),)))[0] == pytest.approx(0.4 / 1.05)


def test_nothing_measured_is_nothing_shown():
    assert remedies(Measurements([]), 12.5) == anchors(Measurements([]), 12.5) == []
    assert stability(Measurements([]), "e0") == []
