"""Clusters of contexts and of directions on the page: what is drawn, what is listed, and how whole numbers are told."""

import re
from collections.abc import Iterator
from pkgutil import resolve_name

import pytest
from fake_run import record

from audio_engram import cluster_criteria
from audio_engram.experiments import cluster_moments
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report.clusters import archetype_tables, archetypes, structure, structure_tables
from audio_engram.report.tables import shown
from audio_engram.report.words import metric

CLUSTERS = ("mean pool, k-means 64", "PCA 8, k-means 256")


def ratios() -> Iterator[Measurement]:
    """Two ways to cluster at two lags, with nulls; of the second way shuffled frames leave no cluster."""
    for lag in (1, 2):
        for clusters in CLUSTERS:
            for data, value in (("real", 0.9), ("shuffled_within", 0.98), ("phase_randomised", 0.97)):
                gone = data == "shuffled_within" and clusters == CLUSTERS[1]
                yield record("structure", clusters, "variance_ratio", None if gone else value, 0.01, lag=lag, data=data)
                if data != "real":
                    difference = None if gone else 0.9 - value
                    yield record("structure", clusters, "variance_ratio_excess", difference, 0.02, lag=lag, data=data)
            yield record("structure", clusters, "clusters_kept", 5.0, 0.0, lag=lag)


def x_of(text: str, svg: str) -> float:
    found = re.search(rf'x="([-0-9.]+)"[^>]*>{text}</text>', svg)
    assert found, text
    return float(found[1])


def test_a_panel_of_ratios_shows_threshold_and_nothing_on_one_axis_for_every_lag() -> None:
    [drawn] = structure(Measurements(ratios()), "s")
    assert [panel.title for panel in drawn.panels] == ["Variance ratio at lag 1", "Variance ratio at lag 2"]
    places = [[x_of(text, panel.svg) for text in ("wanted: 0.6", "nothing")] for panel in drawn.panels]
    assert places[0] == places[1]
    assert places[0][1] - places[0][0] > 90  # of the 400 across: what differs by hundredths can be told apart
    assert not re.search(r">0</text>", drawn.panels[0].svg)


def test_clusters_are_named_once_and_what_has_no_ratio_has_no_row() -> None:
    [drawn] = structure(Measurements(ratios()), "s")
    labels = re.findall(r"text-anchor: end[^>]*>([a-zA-Z][^<]*)</text>", drawn.panels[0].svg)
    assert labels == [
        *("mean pool, k 64, real", "shuffled within", "same spectrum"),
        *("PCA 8, k 256, real", "same spectrum"),
    ]
    assert [label for label, _ in drawn.legend] == ["real", "shuffled within", "same spectrum"]


def test_what_is_wanted_and_left_out_is_what_the_experiments_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, threshold in (("EXPLAINS", 0.42), ("TIGHT", 0.43), ("FORETOLD", 0.44)):
        criterion = getattr(cluster_criteria, name)
        place = f"audio_engram.report.clusters.{name}"
        assert resolve_name(place.replace(".clusters.", ".clusters:")) is criterion
        monkeypatch.setattr(place, criterion.model_copy(update={"threshold": threshold}))
    monkeypatch.setattr("audio_engram.report.clusters.SMALLEST", 321)
    [ratio], [along] = structure(Measurements(ratios()), "s"), archetypes(along_k(), "a")
    shown = [re.findall(r"wanted: ([\d.]+)", panel.svg) for panel in (*ratio.panels, *along.panels)]
    assert shown == [["0.42"], ["0.42"], ["0.43"], ["0.44"], []]
    assert "no cluster of 321 training frames" in ratio.caption
    assert any("clusters of 321 frames and more" in table.caption for table in structure_tables(Measurements(ratios())))
    assert cluster_moments.SMALLEST is cluster_criteria.SMALLEST


@pytest.mark.filterwarnings("error")
def test_without_any_ratio_there_is_no_figure() -> None:
    none = Measurements(record("structure", CLUSTERS[0], "variance_ratio", None, 0.0, lag=lag) for lag in (1, 2))
    assert structure(none, "s") == []


def test_the_differences_that_decide_stand_in_the_first_table_in_the_order_of_the_figure() -> None:
    table = structure_tables(Measurements(ratios()))[0]
    assert table.columns[2:] == (
        *("real", "shuffled within", "same spectrum"),
        *("less shuffled within", "less same spectrum"),
    )
    assert [row[:2] for row in table.rows] == [(name, lag) for lag in ("1", "2") for name in CLUSTERS]
    assert table.rows[0][5:] == ("−0.0800 [−0.1000, −0.0600]", "−0.0700 [−0.0900, −0.0500]")


def test_whole_numbers_are_told_as_such_and_none_found_is_none() -> None:
    assert shown(record("archetypes", "gap", "found_k", 64.0, 0.0)) == "64"
    assert shown(record("archetypes", "gap", "found_k", None, 0.0)) == "none"
    assert shown(record("structure", "m", "clusters_kept", 5.0, 0.0)) == "5"
    assert shown(record("structure", "m", "variance_ratio", None, 0.0)) == "not finite"
    kept = next(t for t in structure_tables(Measurements(ratios())) if "clusters kept" in t.columns)
    assert {row[-1] for row in kept.rows} == {"5"}


def along_k() -> Measurements:
    found = {
        ("tightness", "real"): 0.8,
        ("tightness", "gaussian"): 0.7,
        ("membership_accuracy", "real"): 0.6,
        ("membership_accuracy", "random_pairs"): 0.2,
        ("eta_squared_energy_change", "real"): 0.5,
        ("eta_squared_flux", "real"): 0.2,
        ("eta_squared_pitch_change", "real"): -0.3,
    }
    return Measurements(
        record("archetypes", f"K = {k}", name, value, 3.0 if "pitch" in name else 0.05, data=data)
        for k in (32, 64)
        for (name, data), value in found.items()
    )


def test_every_panel_along_k_has_a_legend_of_its_own() -> None:
    [drawn] = archetypes(along_k(), "a")
    assert drawn.legend == ()
    tight, foretold, heard = ([label for label, _ in panel.legend] for panel in drawn.panels)
    assert tight == ["band of the nulls", "real", "Gaussian null"]
    assert foretold == ["band of the nulls", "membership foretold", "membership foretold, random pairs"]
    assert heard == ["η², change of level", "η², spectral flux", "η², change of pitch"]
    # What is not the same does not look the same; "real" is what is foretold of real increments.
    looks = {style: label for panel in drawn.panels for label, style in panel.legend}
    assert len(looks) == len({*tight, *foretold, *heard}) - 1


def test_a_long_interval_does_not_set_the_axis_of_what_is_heard() -> None:
    heard = archetypes(along_k(), "a")[0].panels[2]
    ticks = [float(t.replace("−", "-")) for t in re.findall(r">([−\d.]+)</text>", heard.svg)]
    assert min(ticks) >= -0.5
    assert "below 0" in archetypes(along_k(), "a")[0].caption
    worse = Measurements(r.model_copy(update={"value": -9.0}) if "flux" in r.metric else r for r in along_k())
    ticks = [
        float(t.replace("−", "-")) for t in re.findall(r">([−\d.]+)</text>", archetypes(worse, "a")[0].panels[2].svg)
    ]
    assert min(ticks) == -1.0


def test_where_nothing_is_heard_the_caption_is_silent_about_it() -> None:
    silent = Measurements(r for r in along_k() if "eta" not in r.metric)
    [drawn] = archetypes(silent, "a")
    assert len(drawn.panels) == 2
    assert "η²" not in drawn.caption


def test_a_greek_letter_stays_small() -> None:
    columns = [column for table in archetype_tables(along_k()) for column in table.columns]
    assert "η², change of level" in columns
    assert "Tightness" in columns
    assert metric("delta_nll").title == "ΔNLL"
