"""The table and figures of trainings against drift."""

from audio_engram.measurements import Measurement, Measurements
from audio_engram.regimes import REGIMES
from audio_engram.report.panels import color
from audio_engram.report.remedies import _limits, _looks, anchors, remedies, stability


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
    found += [record("shuffled frames", "frechet_latents_ratio", 1.2, 62)]
    return Measurements(found)


def test_the_longest_lived_training_stands_first_and_of_equals_the_cheaper():
    (table,) = remedies(measured())
    assert [row[0] for row in table.rows] == ["MDN, semi-tied covariances", "vMF × log-normal", "MDN"]
    assert table.columns == ("training", "ΔNLL excess", "surviving", "Fréchet distance")
    assert table.rows[0][2].startswith("0.9")  # at the last horizon, where the first has 1
    assert table.rows[0][3].startswith("1.4")


def test_anchors_have_a_table_of_their_own():
    (table,) = anchors(measured())
    assert [row[0] for row in table.rows] == ["real", "shuffled frames"]
    assert table.rows[1][table.columns.index("Fréchet distance")].startswith("1.2")


def test_panels_draw_the_trainings_and_speech_and_no_other_stretch():
    (figure,) = stability(measured(), "e0")
    titles = [panel.title for panel in figure.panels]
    assert titles == ["Surviving (share)", "Fréchet distance (times real)"]
    assert "real: 1.00 at 62, 1.00 at 250" in figure.panels[0].alt
    assert "shuffled" not in "".join(panel.alt for panel in figure.panels)


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
