"""What the known codecs are, as their classes say it: no model is built and no weights are looked for."""

import inspect
from dataclasses import asdict, dataclass, field
from typing import Any

from audio_engram.codecs.base import Codec, find_class, list_codecs
from audio_engram.codecs.hub import HubCodec
from audio_engram.errors import EngramError
from audio_engram.extras import EXTRAS, lacking, remedy

HEADER = ("codec", "audio [Hz]", "frames [Hz]", "D", "causal", "weights", "extra")
UNKNOWN = "?"


@dataclass(frozen=True)
class Entry:
    """A codec's name and what its class says; None and nothing where only the constructor knows."""

    name: str
    where: str
    sample_rate: int | None = None
    offers: dict[float, int | None] = field(default_factory=dict)
    """D at each frame rate [Hz]."""
    causal: bool | None = None
    weights: str = UNKNOWN
    extra: str = ""
    problem: str = ""
    """Why the class cannot be looked at, or what it lacks, with the remedy."""

    def facts(self) -> dict[str, Any]:
        """What JSON holds of it, without its name."""
        rates = [{"frame_rate": rate, "latent_dim": dim} for rate, dim in self.offers.items()]
        said = {key: value for key, value in asdict(self).items() if key not in ("name", "offers")}
        installed = None if not self.extra else not self.problem
        return said | {"rates": rates, "extra_installed": installed}


def read_catalogue() -> list[Entry]:
    """Every codec that can be named; one whose module cannot be imported is listed with the reason."""
    return [_read(name, where) for name, where in list_codecs().items()]


def _read(name: str, where: str) -> Entry:
    try:
        kind = find_class(name)
    except EngramError as error:
        return Entry(name, where, problem=str(error))
    extra = kind.extra if kind.extra in EXTRAS else ""  # another package's extra is not ours to judge
    return Entry(
        name,
        where,
        getattr(kind, "sample_rate", None),
        _offers(kind),
        kind.causal,
        _weights(kind),
        extra,
        f"{reason}: {remedy(extra)}" if extra and (reason := lacking(extra)) else "",
    )


def _offers(kind: type[Codec]) -> dict[float, int | None]:
    if kind.offers:
        return dict(kind.offers)
    rate = getattr(kind, "frame_rate", None)
    return {} if rate is None else {rate: getattr(kind, "latent_dim", None)}


def _weights(kind: type[Codec]) -> str:
    if issubclass(kind, HubCodec):
        return f"hub: {kind.checkpoint.repository}"
    parameter = inspect.signature(kind).parameters.get("weights")
    if parameter is None:
        return "none"
    return "a file: codec.weights" if parameter.default is parameter.empty else "codec.weights, or its own"


def format_catalogue(entries: list[Entry]) -> str:
    """The entries as a plain table, and below it what keeps some from being used."""
    rows = [HEADER, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    problems: dict[str, list[str]] = {}
    for entry in entries:
        if entry.problem:
            problems.setdefault(entry.problem, []).append(entry.name)
    return "\n".join([*lines, *(f"{', '.join(names)}: {problem}" for problem, names in problems.items())])


def _row(entry: Entry) -> tuple[str, ...]:
    dims = list(entry.offers.values())
    dims = dims[:1] if len(set(dims)) == 1 else dims  # the same at every rate
    return (
        entry.name,
        str(entry.sample_rate or UNKNOWN),
        " ".join(f"{rate:g}" for rate in entry.offers) or UNKNOWN,
        " ".join(str(dim or UNKNOWN) for dim in dims) or UNKNOWN,
        UNKNOWN if entry.causal is None else "yes" if entry.causal else "no",
        entry.weights,
        "-" if not entry.extra else f"{entry.extra}, {'not installed' if entry.problem else 'installed'}",
    )
