"""Figures and tables that set representations side by side."""

import re

import pytest
from fake_run import record

from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import compared
from audio_engram.report.labels import Box, places
from audio_engram.report.scales import linear_to
from audio_engram.report.tables import shown

CODECS = ("mel 12.5 Hz", "mel 50 Hz", "mel 12.5 Hz · PCA 32")
LOST = -172_000.0


def representation() -> Measurements:
    found = []
    for place, codec in enumerate(CODECS):
        for head in ("mdn", "vmf"):
            for metric, value in {
                "dynamics_per_second": (-1800.0, -6200.0, -37.0)[place],
                "advantage_kept": LOST if place == 2 and head == "mdn" else 0.4 - 0.1 * place,
                "direction_cosine": 0.6,
            }.items():
                found.append(record("representation", head, metric, value, abs(value) / 10, codec=codec))
    for codec, head, ratio in zip(CODECS, ("vmf", "mdn", "vmf"), (1.0, 3.4, 0.02), strict=True):
        found.append(record("representation", head, "dynamics_ratio", ratio, 0.01, codec=codec))
    return Measurements(found)


def test_each_representation_has_a_row_of_the_head_that_was_chosen() -> None:
    [table] = compared.comparison(representation(), "representation")
    assert [row[:3] for row in table.rows] == [
        ("mel 12.5 Hz", "vMF × log-normal", "the run's own"),
        ("mel 50 Hz", "MDN", "no: other frame rate"),
        ("mel 12.5 Hz · PCA 32", "vMF × log-normal", "yes"),
    ]
    assert all("–" not in row for row in table.rows)
    assert "negative is better" in table.caption


def test_behind_the_figures_stands_a_narrow_table_for_each_metric() -> None:
    found = compared.numbers_behind(representation(), "representation")
    assert [table.columns for table in found] == [("representation", "MDN", "vMF × log-normal")] * 3
    assert found[0].rows[0] == ("mel 12.5 Hz", *["−1,800 [−1,980, −1,620]"] * 2)


def test_only_one_frame_rate_stands_in_a_panel_and_its_key_names_the_numbers() -> None:
    scatter, dots = compared.representation(representation(), "x")
    assert [panel.title.rpartition(", ")[2] for panel in scatter.panels] == ["12.5 Hz", "50 Hz"]
    assert [panel.key for panel in scatter.panels] == [(("1", CODECS[0]), ("3", CODECS[2])), (("2", CODECS[1]),)]
    assert [label for label, _ in scatter.legend] == ["MDN", "vMF × log-normal"]
    assert len({style.marker for _, style in scatter.legend}) == 2
    assert [panel.title.partition(", ")[2] for panel in dots.panels] == ["12.5 Hz", "50 Hz"]


def test_what_lies_far_below_is_an_arrow_with_its_value_and_sets_no_axis() -> None:
    panel = compared.representation(representation(), "x")[0].panels[0]
    assert panel.note == "Further down: 3 (MDN) at −172,000."
    assert "172,000" not in panel.svg
    assert "10⁵" not in panel.svg
    assert "0.5" in re.findall(r">([-−0-9.,]+)</text>", panel.svg)


def test_the_axis_of_what_is_kept_ends_where_the_values_do() -> None:
    kept = [record("representation", "mdn", "advantage_kept", value, 0.1) for value in (-0.2, -0.6)]
    assert compared._limits(kept) == pytest.approx((-0.7, 0.1))
    more = record("representation", "vmf", "advantage_kept", 0.5, 0.3)
    assert compared._limits([*kept, more]) == pytest.approx((-0.7, 0.9))
    assert compared._limits([record("representation", "mdn", "advantage_kept", LOST, 0.1)])[0] == compared.LEAST


def smoothing() -> Measurements:
    found = [
        record("smoothing", model, "direction_cosine", 0.5, 0.1, codec=codec, data=data)
        for codec in CODECS
        for model in ("ar1", "vmf")
        for data in ("real", "shuffled_within")
    ]
    found.append(record("smoothing", "vmf", "cosine_gain", 0.1, 0.05, codec=CODECS[1]))
    return Measurements([*found, record("smoothing", "codec", "distortion_ratio", 7.7, 2.0, codec=CODECS[1])])


def test_smoothing_has_one_row_for_each_way() -> None:
    cosines, heard = compared.comparison(smoothing(), "smoothing")
    assert cosines.rows[1] == (CODECS[1], *["0.500 [0.400, 0.600]"] * 3, "0.100 [0.050, 0.150]")
    assert cosines.rows[0][4] == "–"
    assert heard.rows == ((CODECS[1], "–", "7.70 [5.70, 9.70]"),)
    assert compared.comparison(Measurements(list(smoothing())[:-1]), "smoothing") == [cosines]


def test_what_was_not_measured_is_not_called_infinite() -> None:
    nothing = Measurement(experiment="x", model="m", metric="y", value=None)
    assert shown(nothing) == "not measured"
    assert shown(nothing.model_copy(update={"n_frames": 3})) == "not finite"


@pytest.mark.parametrize(
    ("values", "threshold"),
    [([-5.0, -9.0], None), ([-1800.0, -37.0], 10.0), ([0.0, 3.0], None), ([], None), ([1e9, 1.0], 1e6)],
)
def test_an_axis_is_linear_until_values_differ_by_much(values: list[float], threshold: float | None) -> None:
    assert linear_to(values) == threshold


ROOM = Box(200.0, 150.0, 400.0, 300.0)


@pytest.mark.parametrize("spread", [5.0, 20.0, 100.0])
def test_labels_stay_inside_and_apart(spread: float) -> None:
    """Also where points crowd in a corner."""
    points = [(12.0 + spread * (place % 3), 12.0 + spread * (place // 3)) for place in range(9)]
    offsets = places(points, ["12"] * len(points), ROOM)
    boxes = [Box(x + dx, y + dy, 16.0, 13.0) for (x, y), (dx, dy) in zip(points, offsets, strict=True)]
    assert all(box.overlap(ROOM) == pytest.approx(16 * 13) for box in boxes)
    for place, box in enumerate(boxes):
        assert all(box.overlap(other) < 1e-3 for other in boxes[:place])


def test_a_label_alone_stands_beside_its_point() -> None:
    [(dx, dy)] = places([(200.0, 150.0)], ["1"], ROOM)
    assert dx**2 + dy**2 < 20**2
