"""How numbers are written, in sentences and on the page: three significant digits, a true minus sign, intervals."""

import math

MINUS = "\N{MINUS SIGN}"
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
NOT_FINITE = "not finite"
LONGEST_SET = 6  # characters of a number that somebody chose


def number(value: float | int | None) -> str:
    """Three significant digits: `−77.5`, `0.0123`, `1,230`, `4.20×10⁷`; None was not finite."""
    if value is None or value != value or value in (float("inf"), -float("inf")):
        return NOT_FINITE
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    if size == 0:
        return "0"
    if size >= 1e6 or size < 1e-4:
        return scientific(rounded)
    text = f"{size:,.0f}" if size >= 1000 else f"{size:#.3g}".rstrip(".")
    return (MINUS if rounded < 0 else "") + text


def scientific(value: float) -> str:
    """Three significant digits and a power of ten."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", MINUS)


def interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """`−77.5 [−80.1, −75.0]`, with equally many decimals; the value alone if it has no interval."""
    if low is None or high is None:
        return number(value)
    if value is None:
        return f"{NOT_FINITE} [{number(low)}, {number(high)}]"
    ends = (value, low, high)
    first, second, third = _aligned(ends) or tuple(number(end) for end in ends)
    return f"{first} [{second}, {third}]"


def _aligned(values: tuple[float, ...]) -> tuple[str, ...] | None:
    """The values with equally many decimals; None where one would vanish or all are beyond plain notation."""
    largest = max(abs(v) for v in values)
    if not 1e-3 <= largest < 1e6:
        return None
    leading = abs(values[0]) if abs(values[0]) > largest / 2 else largest
    decimals = max(0, 2 - math.floor(math.log10(float(f"{leading:.3g}"))))
    if any(v != 0 and round(v, decimals) == 0 for v in values):
        return None
    rounded = [float(f"{v:.3g}") if abs(v) >= 1000 else v for v in values]
    return tuple(f"{v:,.{decimals}f}".replace("-", MINUS) for v in rounded)


def tick(value: float, _position: object = None) -> str:
    """A label on an axis: short, and a bare power of ten from 10,000 on."""
    size = abs(value)
    if size >= 1e4:
        exponent = math.floor(math.log10(size))
        mantissa = f"{size / 10**exponent:.3g}"
        text = ("" if mantissa == "1" else f"{mantissa}×") + f"10{str(exponent).translate(SUPERSCRIPT)}"
    else:
        text = f"{size:,.6g}" if size < 1000 else f"{size:,.0f}"
    return (MINUS if value < 0 else "") + text


def threshold(value: float) -> str:
    """A threshold as it was set, without padding: `0.6`, `−0.347`; one that was worked out to three digits."""
    as_set = f"{value:g}"
    return as_set.replace("-", MINUS) if len(as_set.lstrip("-")) <= LONGEST_SET else number(value)


def count(value: int) -> str:
    """A whole number with thousands separated."""
    return f"{value:,}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it: `4.2 s`, `3 min 12 s`, `2 h 04 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: int) -> str:
    """Bytes as MB or GB (powers of ten)."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def plural(n: int, noun: str) -> str:
    """`1 speaker`, `12 speakers`, `24 stretches`."""
    ending = "" if n == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count(n)} {noun}{ending}"
