"""The result of one check of a codec, and the table that shows measured value, demand and verdict."""

from pydantic import BaseModel, ConfigDict

# What only trained weights can do.
OF_SOUND = ("round_trip", "round_trip_audio", "codes", "delay", "gain")
MEASURES = {
    "look_ahead": "audio after its end that changes a frame",
    "look_back": "audio before its end that changes a frame",
    "batch": "change of latents by what shares their batch",
    "right_padding": "change of latents by zeros after the audio",
    "determinism": "largest difference between two calls",
    "length": "lengths that are not N = T // hop",
    "dtype": "outputs that are not float32",
    "finite": "signals that give NaN or infinity",
    "round_trip": "distance of decoded audio to its original",
    "round_trip_audio": "distance of decoded speech to its original",
    "codes": "distance of decoded audio to that of the codes",
    "delay": "lag of decoded audio behind its original",
    "gain": "error of a change of loudness by 6 dB",
    "gradient": "latents that a loss on decoded audio reaches",
}
HEADER = ("check", "measures", "value", "demand", "verdict", "note")
LEGEND = "sd: standard deviations of the latents; hop: samples in a frame; distances are log-spectral"


class CheckResult(BaseModel):
    """One property of a codec: what was measured, what is demanded of it, and whether it will do."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    unit: str
    ok: bool
    note: str = ""
    demand: str = ""
    """In words, with its unit."""
    judged: bool = True
    """False: measured, and `ok` whatever the value."""

    @property
    def verdict(self) -> str:
        """One word for the table."""
        return ("ok" if self.ok else "FAILED") if self.judged else "-"


def without_sound(results: list[CheckResult], reason: str) -> list[CheckResult]:
    """Return the results with those of sound measured but not judged, for that reason."""
    return [
        result.model_copy(
            update={"ok": True, "judged": False, "note": f"not judged: {reason}; {result.note}".strip("; ")}
        )
        if result.name in OF_SOUND and result.value is not None
        else result
        for result in results
    ]


def format_checks(results: list[CheckResult]) -> str:
    """Return the results as a plain table with a header, and what its words mean below."""
    rows = [HEADER, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"ok and FAILED are judged, - is not. {LEGEND}."])


def _row(result: CheckResult) -> tuple[str, ...]:
    value = "none" if result.value is None else f"{result.value:.4g} {result.unit}".strip()
    return result.name, MEASURES[result.name], value, result.demand or "any", result.verdict, result.note
