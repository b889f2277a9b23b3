"""The table and figures of trainings against drift."""

import pytest

from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import REGIMES
from audio_engram.report.panels import color
from audio_engram.report.remedies import BESIDE, _limits, _looks, anchors, remedies, stability
from audio_engram.report.sections import SHOWN, TABLES
from audio_engram.report.tables import all_records, rests_on


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


def test_the_longest_lived_training_stands_first_and_of_equals_the_cheaper():
    (table,) = remedies(measured())
    assert [row[0] for row in table.rows] == ["MDN, semi-tied covariances", "vMF × log-normal", "MDN"]
    assert table.columns == ("training", "ΔNLL excess", "surviving", "Fréchet distance")
    assert table.rows[0][2].startswith("0.9")  # at the last horizon, where the first has 1
    assert table.rows[0][3].startswith("1.4")


def test_anchors_have_a_table_of_their_own():
    (table,) = anchors(measured())
    assert [row[0] for row in table.rows] == ["recordings", "true frames in random order", "standing still"]
    assert table.rows[1][table.columns.index("Fréchet distance")].startswith("1.2")
    # By their latents they survive, by their sound they are speech: one row has both.
    assert [cell[:4] for cell in table.rows[0][1:]] == ["1.00", "–", "0.80"]


def test_anchors_stand_open_beside_the_trainings():
    assert SHOWN["stability"](measured()) == [*remedies(measured()), *anchors(measured())]
    assert anchors(measured())
    assert "stability" not in TABLES  # where nothing but the list of measurements is folded away


def test_what_recordings_are_too_short_for_is_not_measured():
    nothing = record("real", "survival", 1.0, 750).model_copy(update={"value": None, "low": None, "high": None})
    unknown = nothing.model_copy(update={"n_frames": 0, "n_speakers": 0})
    (table,) = anchors(Measurements([*measured(), unknown]))
    assert table.rows[0][1] == "not measured"
    (figure,) = stability(Measurements([*measured(), unknown]), "e0")
    assert "recordings: 1.00 at 62, 1.00 at 250." in figure.panels[0].alt
    # What rollouts of broken numbers gave is another matter.
    (table,) = anchors(Measurements([*measured(), nothing]))
    assert table.rows[0][1] == "not finite"


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


def test_one_broken_rollout_does_not_flatten_all_others():
    found = [record("mdn", "frechet_latents_ratio", v, step) for step, v in ((62, 1.2), (250, 2.0))]
    broken = found[0].model_copy(update={"step": 750, "value": 7.0, "low": 1e-6, "high": 1e8})
    low, high = _limits(Measurements([*found, broken]))
    assert 0.3 < low < 1.1
    assert 20 < high < 25
    low, high = _limits(Measurements(found))
    assert 1.0 < low < 1.1
    assert 2.1 < high < 2.3
    assert _limits(Measurements(found), ((0.5, 4.0),)) == (0.5 / 1.05, 4.0 * 1.05)


def test_nothing_measured_is_nothing_shown():
    assert remedies(Measurements([])) == anchors(Measurements([])) == []
    assert stability(Measurements([]), "e0") == []
