"""The sentences of findings, and the cause that an experiment gives where it decides nothing."""

import pytest

from audio_engram.experiments.factorisation import STABILITY, _judge_stability
from audio_engram.experiments.outcome import looking_ahead, show
from audio_engram.measurements import Measurement
from audio_engram.spoken import begun, spoken


def record(value, low=None, high=None, model="vmf", n_speakers=8):
    return Measurement(
        experiment="factorisation", model=model, metric="m", value=value, low=low, high=high, n_speakers=n_speakers
    )


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (record(-68.0, -80.2, -53.44), "−68.0 [−80.2, −53.4]"),
        (record(-270.2, -295.0, -241.0), "−270 [−295, −241]"),
        (record(3.3), "3.30 (no interval)"),
        (record(None), "not finite"),
        (record(-1800.4, -2730.0, -749.0), "−1,800 [−2,730, −749]"),
    ],
)
def test_values_are_shown_to_three_digits(measured, text):
    assert show(measured) == text


def test_models_are_spoken_of_by_their_names():
    assert spoken("vmf_k16") == "vMF × log-normal (unrolled, K = 16)"
    assert spoken("ar1") == "ar1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("memory of κ and MDN", "Memory of κ and MDN"),
        ("vMF × log-normal", "vMF × log-normal"),
        ("κ(m)", "κ(m)"),
        ("MDN", "MDN"),
        ("ΔNLL", "ΔNLL"),
        ("", ""),
    ],
)
def test_what_means_something_by_its_case_keeps_it_at_the_beginning(text, told):
    assert begun(text) == told


def test_the_warning_on_look_ahead_agrees_with_how_many_it_names():
    assert looking_ahead([]) == []
    assert looking_ahead(["a"]) == ["a sees frames after its own, which eases prediction."]
    assert looking_ahead(["a", "b", "c"]) == ["a, b and c see frames after their own, which eases prediction."]


@pytest.mark.parametrize(
    ("difference", "high", "verdict", "cause"),
    [
        (record(-3.0, -4.0, -2.0), 0.49, "undecided", "frozen"),
        (record(-3.0, -4.0, -2.0), 0.51, "pass", ""),
        (record(0.0, -1.0, 1.0), 0.51, "undecided", "straddles"),
        (record(-3.0, -4.0, -2.0, n_speakers=4), 0.51, "undecided", "too few speakers"),
    ],
)
def test_a_head_that_stands_still_decides_nothing(difference, high, verdict, cause):
    ratios = [record(0.9, 0.8, 1.0), record(0.3, 0.2, high, model="mdn")]
    found = _judge_stability(STABILITY, difference, ratios)
    assert (found.verdict, found.cause, found.label) == (verdict, cause, "MDN froze" if cause == "frozen" else "")
    assert ("MDN hardly moves, so that the difference decides nothing" in found.words) == (cause == "frozen")
