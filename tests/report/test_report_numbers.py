"""Numbers are written one way everywhere."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_engram import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-77.5, "−77.5"),
        (-75.0, "−75.0"),
        (0.0123, "0.0123"),
        (0.0, "0"),
        (-0.0, "0"),
        (100.0, "100"),
        (99.96, "100"),
        (999.7, "1,000"),
        (1234.5, "1,230"),
        (999_999.0, "1.00×10⁶"),
        (42_000_000.0, "4.20×10⁷"),
        (-0.000042, "−4.20×10⁻⁵"),
        (None, "not finite"),
        (math.nan, "not finite"),
        (-math.inf, "not finite"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((-77.5, -80.1, -75.0), "−77.5 [−80.1, −75.0]"),
        ((-96.4, -100.4, -92.3), "−96.4 [−100.4, −92.3]"),
        ((0.5, -0.4, 1.4), "0.50 [−0.40, 1.40]"),
        ((0.612, 0.6, 0.624), "0.612 [0.600, 0.624]"),
        ((2000.0, 1900.0, 2100.0), "2,000 [1,900, 2,100]"),
        ((-23.0, -46.0, -0.001), "−23.0 [−46.0, −0.00100]"),
        ((761_868.0, 3.0, 2e6), "762,000 [3.00, 2.00×10⁶]"),
        ((0.3, None, None), "0.300"),
        ((None, 0.1, 0.2), "not finite [0.100, 0.200]"),
    ],
)
def test_interval(ends: tuple[float | None, float | None, float | None], text: str) -> None:
    assert numbers.interval(*ends) == text


def read(text: str) -> float:
    plain = text.replace("−", "-").replace(",", "")
    power = re.fullmatch(r"(-?)(?:([\d.]+)×)?10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", plain)
    if power is None:
        return float(plain)
    exponent = int(power[3].translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")))
    return float(f"{power[1]}{power[2] or 1}e{exponent}")


@given(st.floats(-1e12, 1e12).filter(lambda v: v == 0 or abs(v) > 1e-12))
def test_a_number_can_be_read_back_to_three_digits(value: float) -> None:
    assert read(numbers.number(value)) == pytest.approx(value, rel=5.01e-3)


@given(st.tuples(*[st.floats(-1e5, 1e5).filter(lambda v: v == 0 or abs(v) > 1e-9)] * 3))
def test_an_interval_never_crosses_zero_by_rounding(ends: tuple[float, float, float]) -> None:
    value, rest = numbers.interval(*ends).split(" [")
    low, high = rest.rstrip("]").split(", ")
    for end, text in zip(ends, (value, low, high), strict=True):
        assert math.copysign(1, read(text)) == math.copysign(1, end) or read(text) == end == 0


@given(st.floats(-1e9, 1e9).map(lambda v: float(f"{v:.3g}")).filter(lambda v: v == 0 or abs(v) >= 0.01))
def test_a_tick_says_its_place(value: float) -> None:
    assert read(numbers.tick(value)) == pytest.approx(value, rel=1e-6)


def test_units() -> None:
    assert numbers.duration(4.24) == "4.2 s"
    assert numbers.duration(59.96) == "60.0 s"
    assert numbers.duration(192.0) == "3 min 12 s"
    assert numbers.duration(7452.3) == "2 h 04 min"
    assert numbers.size(1_312_000_000) == "1.31 GB"
    assert numbers.plural(1, "speaker") == "1 speaker"
    assert numbers.plural(31204, "frame") == "31,204 frames"
    assert numbers.plural(24, "stretch") == "24 stretches"
    assert numbers.plural(1, "stretch") == "1 stretch"
    assert numbers.threshold(-0.347) == "−0.347"
    assert [numbers.threshold(v) for v in (1.0, 25.6, -100.0, 0.001)] == ["1", "25.6", "−100", "0.001"]
    assert numbers.threshold(-0.01 * 2.8134567) == "−0.0281"
