"""The map of archetypes, their sizes, the band of their nulls and their sounds on the page."""

import json
import re
from pathlib import Path

import pytest
from fake_run import measurements, record, write_run
from html_reading import Elements
from hypothesis import given
from hypothesis import strategies as st

from audio_engram.archetype_map import Archetype, ArchetypeMap, Moment
from audio_engram.errors import DataError
from audio_engram.measurements import Measurements
from audio_engram.report import write_report
from audio_engram.report.clusters import archetypes, archetypes_shown, null_band
from audio_engram.report.diverging import classes
from audio_engram.report.maps import CLASS, maps
from audio_engram.report.series import Curve, style_of

MOMENT = Moment(utterance="<u>7", speaker="s1", frame=9, second=0.72, cosine=0.9)
FOUND = ArchetypeMap(
    plane=0.5312,
    average_flux=0.2,
    null_sizes={"gaussian": (20, 40, 30), "random_pairs": (30, 30, 30)},
    archetypes=(
        Archetype(x=0.0, y=0.0, size=10, energy_change=-9.0, flux=0.1, nearest=(MOMENT,)),
        Archetype(x=2.0, y=0.0, size=40, energy_change=0.5, flux=0.2, pitch_change=1.5),
        Archetype(x=0.0, y=1.0, size=40, energy_change=3.0, flux=0.31, pitch_change=-0.5),
    ),
)


def marks(svg: str) -> dict[int, tuple[str, list[float], str]]:
    """Class, numbers of the shape and what is said when pointed at, of every archetype on a map."""
    found = re.findall(r'<path class="([^"]*)" d="([^"]*)"><title>Archetype (\d+): ([^<]*)</title></path>', svg)
    return {int(k): (look, [float(v) for v in re.findall(r"-?[\d.]+", d)], said) for look, d, k, said in found}


def test_every_effect_has_a_map_and_no_sound_has_none() -> None:
    titles = ["Change of level (dB)", "Spectral flux, less the average of 0.200", "Change of pitch (semitones)"]
    assert [panel.title for panel in maps(FOUND)] == titles
    silent = ArchetypeMap(plane=1, archetypes=(Archetype(x=0, y=0, size=1), Archetype(x=1, y=1, size=1)))
    assert maps(silent) == []
    [shown] = archetypes_shown(silent, "a")
    assert [panel.title for panel in shown.panels] == ["Sizes of K = 2 clusters over their mean"]
    assert shown.caption.endswith("the largest has 1.")


def test_colours_follow_what_is_heard() -> None:
    level, flux, pitch = (marks(panel.svg) for panel in maps(FOUND))
    # Half a class is 2 dB (9 / 5, rounded up), 0.03 of flux, 0.3 semitones.
    assert [level[k][0] for k in range(3)] == ["l2", "mid", "h1"]
    assert [flux[k][0] for k in range(3)] == ["l2", "mid", "h2"]
    assert [pitch[k][0] for k in range(3)] == ["unknown", "h2", "l1"]


def test_points_keep_their_places_and_areas() -> None:
    shapes = {k: numbers for k, (_, numbers, _) in marks(maps(FOUND)[2].svg).items()}
    # Circles begin at their left end: x - r, y. Triangles begin at their tip.
    radius = {0: shapes[0][2]}
    tip = {k: (shapes[k][0], shapes[k][1]) for k in (1, 2)}
    assert tip[1][0] - (shapes[0][0] + radius[0]) == pytest.approx(2 * (400 - 44) / 2, abs=0.2)
    assert tip[2][0] == pytest.approx(shapes[0][0] + radius[0], abs=0.2)
    assert tip[2][1] < shapes[0][1]  # y = 1 is above y = 0
    for k, sign in ((1, 1), (2, -1)):
        half, down, wide = shapes[k][2], shapes[k][3], shapes[k][4]
        assert down * sign > 0  # a triangle that points up goes down from its tip
        assert wide == pytest.approx(-2 * half, abs=0.15)
        assert abs(down * wide) / 2 == pytest.approx(4 * 3.14159 * radius[0] ** 2, rel=0.05)  # four times the size


def test_pointing_at_an_archetype_says_what_it_is() -> None:
    said = marks(maps(FOUND)[0].svg)
    assert said[0][2] == "10 increments; level −9.00 dB, spectral flux 0.100"
    assert said[1][2] == "40 increments; level +0.500 dB, spectral flux 0.200, pitch +1.50 semitones"


def test_only_what_can_be_heard_is_numbered() -> None:
    for panel in maps(FOUND):
        rings = re.findall(r'<path class="heard[^"]*" d="([^"]*)"/>', panel.svg)
        assert rings == re.findall(r'd="([^"]*)"><title>Archetype 0:', panel.svg)
        labels = re.findall(r'<text x="[^"]*" y="[^"]*" text-anchor="middle">([^<]*)</text>', panel.svg)
        assert labels == ["0"]


def test_the_outline_of_what_is_heard_is_dashed_where_nothing_is_known() -> None:
    level, _, pitch = (re.findall(r'<path class="(heard[^"]*)"', panel.svg) for panel in maps(FOUND))
    assert (level, pitch) == (["heard"], ["heard unknown"])


def test_the_key_shows_every_class_and_the_limits_between() -> None:
    svg = maps(FOUND)[0].svg
    assert re.findall(r'<path class="(?!heard)(\w+)" d="[^"]*"/>', svg) == list(CLASS.values())
    assert re.findall(r'class="limit"[^>]*>([^<]*)<', svg) == ["−10", "−6", "−2", "2", "6", "10"]


def test_a_map_is_told_in_words() -> None:
    assert maps(FOUND)[0].alt == (
        "Change of level (dB). Of 3 archetypes 1 are above 2 and 1 below −2. "
        "Highest: 3.00 at number 2. Lowest: −9.00 at number 0."
    )


@given(st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 4)), max_size=30), st.floats(-1e6, 1e6))
def test_classes_are_between_their_limits_and_the_same_on_both_sides(values: list[float], value: float) -> None:
    found = classes(values)
    assert found.half > 0
    assert found.limits == [-limit for limit in reversed(found.limits)]
    assert found.of(value) == -found.of(-value)
    inside = sum(limit < value for limit in found.limits) - 3
    near = min(abs(value - limit) for limit in found.limits) < 1e-6 * found.half + 1e-9 * abs(value)
    assert near or found.of(value) == inside


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60))
def test_few_values_lie_beyond_the_outermost_limit_and_not_all_below_half_of_it(values: list[float]) -> None:
    outermost = classes(values).limits[-1]
    assert sum(v > outermost * (1 + 1e-6) for v in values) <= 0.05 * len(values)
    assert max(values) >= 0.6 * outermost


def test_sizes_are_sorted_beside_those_of_the_nulls_and_equal_ones() -> None:
    [shown] = archetypes_shown(FOUND, "a")
    assert [label for label, _ in shown.legend] == ["real", "Gaussian null", "random pairs"]
    assert len({style for _, style in shown.legend}) == 3
    assert [panel.title for panel in shown.panels[:1]] == ["Sizes of K = 3 clusters over their mean"]
    assert "real: 1.33 at 1, 0.333 at 3." in shown.panels[0].alt
    assert "Gaussian null: 1.33 at 1, 0.667 at 3. random pairs: 1.00 at 1, 1.00 at 3." in shown.panels[0].alt
    assert "equal sizes" in shown.panels[0].svg
    assert "which hold 53% of the variance" in shown.caption
    assert "the largest has 40" in shown.caption


def test_the_band_holds_every_null_with_its_interval() -> None:
    found = Measurements(
        record("archetypes", f"K = {k}", metric, value + k / 1000, spread, data=data)
        for k in (32, 64)
        for metric, data, value, spread in (
            ("tightness", "real", 0.9, 0.01),
            ("tightness", "gaussian", 0.5, 0.02),
            ("tightness", "random_pairs", 0.4, 0.3),
            ("membership_accuracy", "real", 0.7, 0.01),
            ("membership_linear", "real", 0.6, 0.01),
            ("membership_majority", "real", 0.1, 0.0),
            ("membership_accuracy", "random_pairs", 0.2, 0.01),
        )
    )
    [drawn] = archetypes(found, "a")
    tight, foretold = drawn.panels
    assert "band of the nulls: 0.532 at 32, 0.564 at 64." in tight.alt
    assert "band of the nulls: 0.232 at 32, 0.264 at 64." in foretold.alt


def test_the_band_goes_from_the_lowest_to_the_highest_that_a_null_reaches() -> None:
    wide = tuple(record("archetypes", "m", "tightness", 0.4, 0.3, lag=k) for k in (32, 64))
    exact = (
        record("archetypes", "m", "tightness", 0.9, 0.0, lag=32),
        record("archetypes", "m", "x", None, 0.0, lag=64),
    )
    [band] = null_band([Curve("one", style_of("mdn"), wide), Curve("two", style_of("vmf"), exact)])
    assert [(r.lag, r.low, r.value, r.high) for r in band.records] == [
        (32, pytest.approx(0.1), 0.9, 0.9),
        (64, pytest.approx(0.1), 0.4, pytest.approx(0.7)),
    ]
    assert null_band([]) == null_band([Curve("none", style_of("mdn"), ())]) == []


def mapped(folder: Path, found: ArchetypeMap = FOUND) -> Path:
    """A run that measured archetypes, and can play one."""
    write_run(folder)
    more = [record("archetypes", f"K = {k}", "tightness", 0.7, 0.1, data=d) for k in (32, 64) for d in ("real",)]
    Measurements([*measurements(), *more]).write(folder / "measurements.json")
    (folder / "archetypes.json").write_text(found.model_dump_json())
    index = json.loads((folder / "audio/index.json").read_text())
    clip = {**index[0], "group": "Archetypes", "kind": "archetype", "label": "Archetype 0"}
    clip["parts"] = ["<u>7 at 0.72 s, speaker s1, cosine 0.900"]
    (folder / "audio/index.json").write_text(json.dumps([*index, clip]))
    return folder


def test_the_page_shows_maps_and_players(tmp_path: Path) -> None:
    html = write_report(mapped(tmp_path / "run")).read_text()
    page = Elements(html)
    panels = [a["aria-label"] for _, a in page.tags if a.get("class") == "panel"]
    assert sum("archetypes" in text for text in panels) == 3
    assert [a["class"] for a in page.named("svg") if a.get("class") == "map"] == ["map"] * 3
    assert "Archetypes: Archetype 0" in page.values("aria-label")
    assert "<li>&lt;u&gt;7 at 0.72 s, speaker s1, cosine 0.900</li>" in html
    assert page.text.count("nearest to its centroid") == 1
    used = set(re.findall(r"var\((--[a-z0-9-]+)", html))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", html))
    looks = {name for a in page.named("path") for name in a.get("class", "").split()}
    assert looks & set(CLASS.values()) == set(CLASS.values())
    assert all(f".map .{name} " in html for name in CLASS.values())


def test_a_page_without_archetypes_says_nothing_of_them(page: str) -> None:
    assert 'class="map"' not in page
    assert "nearest to its centroid" not in page


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"plane": 0.5, "archetypes": []}',
        '{"plane": 0.5, "archetypes": [{"x": 0, "y": NaN, "size": 1}, {"x": 0, "y": 0, "size": 1}]}',
        '{"plane": 0.5, "archetypes": [{"x": 0, "y": 1, "size": -1}, {"x": 0, "y": 0, "size": 1}]}',
    ],
)
def test_a_map_that_cannot_be_understood_is_named(tmp_path: Path, text: str) -> None:
    folder = mapped(tmp_path / "run")
    (folder / "archetypes.json").write_text(text)
    with pytest.raises(DataError, match=r"archetypes\.json: .*engram run --resume"):
        write_report(folder)


def test_points_in_one_place_and_clusters_without_increments_are_drawn(tmp_path: Path) -> None:
    empty = Archetype(x=0.0, y=0.0, size=0, energy_change=0.0)
    alone = ArchetypeMap(plane=0, null_sizes={"gaussian": ()}, archetypes=(empty, empty))
    html = write_report(mapped(tmp_path / "run", alone)).read_text()
    assert "nan" not in html[html.index('class="map"') :][:2000]
