"""The tidy records that a run measures, and nothing else: what, on what, value, interval, how many."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from audio_engram.data.publish import publish_text
from audio_engram.errors import DataError, UsageError
from audio_engram.statistics import Interval


class Measurement(BaseModel):
    """One number with its 95 % interval over speakers.

    `data` is `real` or a surrogate (`shuffled_within`, `shuffled_across`); `mode` is how the context was fed
    (`teacher_forced`, `free_running`, an injection mode A-D, `analytic`).
    Metrics in nats are per frame, cosines and ratios have no unit. `low` and `high` are None for a number
    that has no sampling error (an analytic value) or too few speakers for an interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    model: str
    metric: str
    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    codec: str = ""
    data: str = "real"
    lag: int = 1
    step: int = 1
    mode: str = "teacher_forced"
    split: str = "test"
    n_frames: int = 0
    n_speakers: int = 0

    @property
    def key(self) -> tuple[str | int, ...]:
        """What the number is of; unique in a run."""
        return (
            self.experiment,
            self.model,
            self.metric,
            self.codec,
            self.data,
            self.lag,
            self.step,
            self.mode,
            self.split,
        )


def measurement(interval: Interval, **what: Any) -> Measurement:
    """A record from an interval; a value that is not finite becomes None, which a reader sees as such."""
    value = interval.value if math.isfinite(interval.value) else None
    return Measurement(
        value=value,
        low=interval.low,
        high=interval.high,
        n_frames=interval.n_frames,
        n_speakers=interval.n_speakers,
        **what,
    )


class Measurements(Sequence[Measurement]):
    """The records of a run; `select(metric="delta_nll", lag=1)` filters them."""

    def __init__(self, records: Iterable[Measurement] = ()) -> None:
        self._records = list(records)
        keys = [record.key for record in self._records]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"measured twice: {twice}: a run must hold one record per key")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def select(self, **fields: str | int) -> "Measurements":
        """The records whose fields all equal those given."""
        return Measurements(r for r in self if all(getattr(r, k) == v for k, v in fields.items()))

    def one(self, **fields: str | int) -> Measurement:
        """The only record with these fields.

        Raises:
            UsageError: if none or several match.
        """
        found = self.select(**fields)
        if len(found) != 1:
            raise UsageError(f"{len(found)} measurements match {fields}: name the fields of exactly one")
        return found[0]

    def write(self, path: Path) -> None:
        """Write as a JSON list, atomically; the same records give the same bytes."""
        lines = ",\n".join(json.dumps(r.model_dump(), allow_nan=False) for r in self)
        publish_text(path, f"[\n{lines}\n]\n")

    @classmethod
    def read(cls, path: Path | str) -> "Measurements":
        """Read what `write` wrote."""
        return cls(Measurement.model_validate(record) for record in json.loads(Path(path).read_text()))

    def _repr_html_(self) -> str:
        fields = ("experiment", "model", "data", "lag", "step", "mode", "metric", "value", "low", "high")
        head = "".join(f"<th>{name}</th>" for name in fields)
        rows = "".join(
            "<tr>" + "".join(f"<td>{_show(getattr(r, name))}</td>" for name in fields) + "</tr>" for r in self[:200]
        )
        return f"<table><tr>{head}</tr>{rows}</table><p>{len(self)} measurements</p>"


def _show(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
