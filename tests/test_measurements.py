"""Tidy records: one per key, found by their fields, the same bytes for the same numbers."""

import json

import pytest
from pydantic import ValidationError

from audio_engram.errors import DataError, UsageError
from audio_engram.measurements import Measurement, Measurements

FIRST = Measurement(
    experiment="predictability", model="mdn", metric="delta_nll", value=-7.25, low=-7.9, high=-6.6, n_speakers=8
)
OTHERS = [
    FIRST.model_copy(update={"lag": 2, "value": -1.0}),
    FIRST.model_copy(update={"model": "vmf"}),
    FIRST.model_copy(update={"metric": "direction_cosine", "value": 0.7}),
    FIRST.model_copy(update={"data": "shuffled_within"}),
    FIRST.model_copy(update={"step": 4, "mode": "free_running", "value": None, "low": None, "high": None}),
]


@pytest.fixture
def measured():
    return Measurements([FIRST, *OTHERS])


def test_written_and_read_again(measured, tmp_path):
    path = tmp_path / "measurements.json"
    measured.write(path)
    assert list(Measurements.read(path)) == list(measured)
    first = path.read_bytes()
    Measurements.read(path).write(path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["measurements.json"]
    records = json.loads(first)
    assert len(records) == 6
    assert set(records[0]) == set(Measurement.model_fields)
    assert records[0]["value"] == -7.25
    assert records[-1]["value"] is None


def test_no_records_are_an_empty_list(tmp_path):
    Measurements().write(tmp_path / "m.json")
    assert len(Measurements.read(tmp_path / "m.json")) == 0


def test_select_and_one(measured):
    assert list(measured.select(metric="direction_cosine")) == [OTHERS[2]]
    assert len(measured.select(model="mdn", lag=1)) == 4
    assert measured.one(lag=2).value == -1.0
    with pytest.raises(UsageError, match=r"0 measurements match \{'lag': 3\}"):
        measured.one(lag=3)
    with pytest.raises(UsageError, match="5 measurements match"):
        measured.one(lag=1)
    assert measured[0] == FIRST
    assert len(measured[1:3]) == 2


def test_one_record_per_key():
    with pytest.raises(DataError, match=r"measured twice: \('predictability', 'mdn', 'delta_nll'"):
        Measurements([FIRST, FIRST.model_copy(update={"value": 1.0})])
    for field, other in {
        "experiment": "x", "model": "x", "metric": "x", "codec": "x", "data": "x", "lag": 9, "step": 9,
        "mode": "x", "split": "x",
    }.items():  # fmt: skip
        assert len(Measurements([FIRST, FIRST.model_copy(update={field: other})])) == 2


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        Measurements([FIRST.model_copy(update={"value": float("nan")})]).write(tmp_path / "m.json")
    assert list(tmp_path.iterdir()) == []


def test_records_are_frozen_and_know_no_other_fields():
    with pytest.raises(ValidationError):
        FIRST.value = 2.0
    with pytest.raises(ValidationError):
        Measurement(experiment="x", model="x", metric="x", value=0.0, p_value=0.01)


def test_a_table_for_notebooks(measured):
    html = measured._repr_html_()
    assert html.count("<tr>") == 7
    assert "-7.25" in html
    assert "6 measurements" in html
