"""Figures, tables and gauges say what was measured, and nothing that was not."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import decision, folder_of, measurements, record, write_run
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.decision import Condition, Criterion, Finding
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import breakdowns, figures, tables, words
from audio_engram.report.folder import read_run
from audio_engram.report.gauge import gauge
from audio_engram.report.lines import Look, common_limits, line_panel
from audio_engram.report.page import render
from audio_engram.report.sections import sections
from audio_engram.report.series import curves, style_of

EVERYTHING = measurements()


def of(experiment: str) -> Measurements:
    return EVERYTHING.select(experiment=experiment)


def test_a_model_looks_the_same_in_every_figure() -> None:
    looks: dict[str, set[object]] = {}
    for drawn in (
        *figures.predictability(of("predictability"), "p"),
        *figures.factorisation(of("factorisation"), "f"),
    ):
        for label, style in drawn.legend:
            looks.setdefault(label, set()).add(style)
    assert looks["MDN"] == {style_of("mdn")}
    assert all(len(styles) == 1 for styles in looks.values())


def test_no_two_series_of_a_figure_look_alike() -> None:
    for experiment, draw in figures.DRAWN.items():
        for drawn in draw(of(experiment), "x"):
            styles = [style for _, style in drawn.legend]
            assert len(set(styles)) == len(styles), experiment


def test_series_differ_in_more_than_colour() -> None:
    models = [style_of(m)[1:] for m in ("mdn", "mdn_k16", "mdn_k32", "vmf", "vmf_k16", "vmf_k32")]
    assert len(set(models)) == len(models)


def test_surrogates_are_hollow_and_broken() -> None:
    assert style_of("vmf").filled
    assert not style_of("vmf", "shuffled_within").filled
    assert style_of("vmf", "shuffled_within").dash != style_of("vmf", "shuffled_across").dash


@pytest.mark.parametrize("experiment", ["predictability", "magnitude", "factorisation", "injection"])
def test_what_was_not_measured_is_not_drawn(experiment: str) -> None:
    assert figures.DRAWN[experiment](Measurements(), "x") == []


def test_a_single_place_is_drawn_as_a_dash_where_a_line_could_not_be_seen() -> None:
    alone = curves(Measurements([record("x", "state", "y", 1.0, 0.1, lag=1)]), "lag")
    line = curves(Measurements(record("x", "state", "y", 1.0, 0.1, lag=k) for k in (1, 2)), "lag")
    ink = [line_panel("t", "n", drawn, Look("lag")).svg.count("var(--state)") for drawn in (alone, line)]
    assert ink[0] > ink[1] == 2  # the line and its band


def test_the_decomposition_names_its_parts_and_total() -> None:
    drawn = breakdowns.decomposition(of("predictability"), "d")
    assert [panel.title for panel in drawn[0].panels] == ["MDN", "vMF × log-normal"]
    alt = drawn[0].panels[0].alt
    assert "mean reversion: −72.3 [" in alt
    assert "ΔNLL: −96.4 [−100.5, −92.3]" in alt


def test_all_waterfalls_share_one_axis() -> None:
    drawn = breakdowns.decomposition(of("predictability"), "d")[0].panels
    assert len({(place_of("−100", p.svg), place_of("0", p.svg)) for p in drawn}) == 1


def place_of(text: str, svg: str) -> tuple[float, float]:
    """Where a label stands in a drawing."""
    found = re.search(rf'x="([-0-9.]+)" y="([-0-9.]+)"[^>]*>{text}</text>', svg)
    assert found, text
    return float(found[1]), float(found[2])


def test_rollouts_stand_beside_the_ceiling_and_the_threshold() -> None:
    drawn = figures.factorisation(of("factorisation"), "f", 0.6)[0]
    cosine = drawn.panels[0]
    assert "ceiling (direct at that lag): 0.680 at 1" in cosine.alt
    assert "MDN, teacher-forced: 0.610 at 1" in cosine.alt
    assert "threshold 0.6" in cosine.svg
    assert "threshold" not in figures.factorisation(of("factorisation"), "f")[0].panels[0].svg


def test_exploded_values_are_drawn_on_a_scale_that_shows_both() -> None:
    panel = next(p for p in figures.factorisation(of("factorisation"), "f")[0].panels if "ΔNLL" in p.title)
    heights = [place_of(tick, panel.svg)[1] for tick in ("10⁵", "10⁴", "1,000", "100", "0", "−100")]
    assert all(below - above > 15 for above, below in itertools.pairwise(heights))
    assert "not finite at 16" in panel.alt


def test_values_that_are_all_not_finite_leave_an_empty_panel() -> None:
    broken = Measurements(record("injection", "mdn", "delta_nll", None, 0.0, step=s, mode="A") for s in (1, 2))
    for look in (Look("step"), Look("step", "log"), Look("step", "symlog", guides=((0.0, "zero"),))):
        assert line_panel("t", "n", curves(broken, "step"), look).svg.startswith("<svg")
    assert common_limits(list(broken), "linear") is None


def test_limits_hold_every_interval() -> None:
    records = [record("x", "m", "y", v, 1.0) for v in (-3.0, 5.0)]
    low, high = common_limits(records, "linear") or (0.0, 0.0)
    assert low < -4
    assert high > 6
    assert common_limits(records, "log") is None


def test_a_metric_along_the_lag_has_a_cell_for_each() -> None:
    [table] = tables.along(of("predictability"), "delta_nll_excess", "lag")
    assert table.columns == ("model", "lag 1", "lag 2", "lag 4", "lag 8")
    assert table.rows[0][:3] == ("MDN", "−23.0 [−25.0, −21.0]", "−11.0 [−13.0, −9.0]")
    assert table.rows[0][4] == "−1.91 [−3.91, 0.09]"
    assert [row[0] for row in table.rows] == [
        "MDN",
        "vMF × log-normal",
        "MDN, shuffled within",
        "vMF × log-normal, shuffled within",
    ]


def test_long_rollouts_are_thinned_in_small_tables() -> None:
    [table] = tables.along(of("factorisation"), "direction_cosine", "step")
    assert table.columns == ("model", "fed", "step 1", "step 2", "step 4", "step 8", "step 16")
    assert [row[1] for row in table.rows[:2]] == ["free-running", "teacher-forced"]


def test_the_parts_have_real_and_shuffled_beside_each_other() -> None:
    [table] = tables.parts(of("predictability"))
    assert table.columns == ("part", "MDN", "vMF × log-normal")
    assert {row[0]: row[2].partition(" [")[0] for row in table.rows} == {
        **{"mean reversion": "−72.3", "shape": "−11.4", "static": "−9.30", "dynamics": "−11.2", "ΔNLL": "−104"},
        **{"ΔNLL, shuffled within": "−88.0", "ΔNLL, shuffled across": "−79.8"},
    }


def test_the_surrogates_baselines_stay_out_of_the_figure() -> None:
    drawn = figures.predictability(of("predictability"), "p")[0]
    labels = [label for label, _ in drawn.legend]
    assert {"diagonal AR(1)", "MDN, shuffled within"} <= set(labels)
    assert [x for x in labels if "shuffled" in x and not x.startswith(("MDN", "vMF"))] == []


def test_a_row_with_only_the_first_metric_is_left_out() -> None:
    [table] = tables.across(of("predictability"), ("delta_nll", "delta_nll_median"), "c")
    assert {row[0] for row in table.rows} == {"MDN", "vMF × log-normal"}
    assert len(table.rows) == 8


def test_sections_follow_the_ladder_and_unknown_ones_come_last() -> None:
    extra = [record("zebra_stripes", "m", "width", 1.0, 0.1), record("structure", "m", "ratio", 0.9, 0.1)]
    found = sections(folder_of(decision(EVERYTHING), [*EVERYTHING, *extra]))
    assert [s.title for s in found] == [
        *("Predictability", "Magnitude", "Factorisation", "Injection"),
        *("Structure", "Zebra stripes"),
    ]
    assert found[0].question.startswith("How predictable is the next increment")
    assert len(found[0].findings) == 2
    assert found[-1].parts[0].folded[0].rows[0][:3] == ("zebra_stripes", "width", "m")


def test_all_conditions_of_a_verdict_stand_in_a_table_and_the_path_has_a_sentence() -> None:
    found = decision(EVERYTHING)
    assert 'class="conditions"' not in render(folder_of(found, EVERYTHING))
    judged = found.findings[0]
    asked = judged.criterion.model_copy(update={"threshold": judged.measured.high, "relation": "above"})
    both = tuple(Condition(criterion=one, measured=judged.measured) for one in (judged.criterion, asked))
    of_both = judged.model_copy(update={"conditions": both, "caution": "But take care.", "more": "And more."})
    html = render(folder_of(found.model_copy(update={"findings": (of_both,)}), EVERYTHING))
    [table] = re.findall(r'<table class="conditions">.*?</table>', html, re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
    assert [row[0] for row in rows] == ["ΔNLL excess"] * 2
    assert [row[-1] for row in rows] == [judged.verdict, "fail"]
    assert rows[1][2].startswith("above ")
    for said in ("But take care.", "And more."):
        assert html.count(said) == 1


def test_sounds_of_a_rollout_begin_a_row_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path)
    found = read_run(tmp_path)
    clips = [
        found.clips[0].model_copy(update={"group": "rolled", "label": label, "row": row})
        for label, row in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
    ]
    html = render(replace(found, clips=clips))
    assert re.findall(r'<li class="clip( first)?"', html) == [" first", "", " first", ""]
    assert '<ul class="clips rows">' in html
    assert "clips rows" not in render(found)
    assert "clip first" not in render(found)


def test_each_codec_has_its_own_figures() -> None:
    both = [r.model_copy(update={"codec": codec}) for codec in ("mimi", "lyra") for r in of("magnitude")]
    [section] = sections(folder_of(decision(EVERYTHING).model_copy(update={"findings": ()}), both))
    assert [part.codec for part in section.parts] == ["lyra", "mimi"]
    assert all(part.figures for part in section.parts)


def test_validation_numbers_stay_out_of_the_figures() -> None:
    seen = [r.model_copy(update={"split": "validation"}) for r in of("magnitude")]
    [section] = sections(folder_of(decision(EVERYTHING).model_copy(update={"findings": ()}), seen))
    assert section.parts == ()


def test_unknown_words_stay_readable() -> None:
    assert words.metric("a_metric_of_the_future").label == "a metric of the future"
    assert words.metric("found_k_analytic").label == "K found, analytic"
    assert words.metric("frechet_latents_ratio").unit == "times real"
    assert words.model("vmf - mdn") == "vMF × log-normal − MDN"
    assert words.series("x", "half_speed") == "x, half speed"
    assert all(words.metric(part).meaning for part in words.PARTS)


numbers_near_zero = st.floats(-50, 50).map(lambda v: round(v, 3))


@given(numbers_near_zero, st.floats(0, 20), numbers_near_zero, st.sampled_from(["above", "below"]))
def test_the_gauge_shows_the_side_that_the_value_is_on(
    value: float, half: float, threshold: float, relation: str
) -> None:
    measured = Measurement(experiment="x", model="m", metric="y", value=value, low=value - half, high=value + half)
    shown = gauge(finding(measured, threshold, relation))
    assert shown is not None
    assert 0 <= shown.low <= shown.value <= shown.high <= 100
    assert 0 < shown.threshold < 100
    start, end = shown.ends
    assert start + shown.value / 100 * (end - start) == pytest.approx(value, abs=1e-4 * (end - start) + 1e-9)
    if abs(value - threshold) > 0.1:
        inside = shown.good_from < shown.value < shown.good_to
        assert inside == ((value > threshold) if relation == "above" else (value < threshold))


def finding(measured: Measurement, threshold: float, relation: str) -> Finding:
    criterion = Criterion(experiment="x", question="q", metric="y", relation=relation, threshold=threshold, reason="r")
    return Finding(criterion=criterion, measured=measured, verdict="pass", words="w", would_change="c")


def test_a_value_that_was_not_finite_has_no_gauge() -> None:
    assert gauge(finding(Measurement(experiment="x", model="m", metric="y", value=None), 0.0, "above")) is None
