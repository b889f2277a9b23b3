"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

EVERY = 30.0


class Progress:
    """Counts items, each called `unit` on a terminal; elsewhere it says one line every `EVERY` seconds."""

    def __init__(self, what: str, total: int, unit: str = "utt") -> None:
        self._what, self._total, self._done = what, total, 0
        self._next_line = time.monotonic() + EVERY
        self._bar = tqdm(total=total, desc=what, unit=unit, disable=None, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, items: int) -> None:
        """Count `items` more."""
        self._done += items
        self._bar.update(items)
        if self._bar.disable and time.monotonic() >= self._next_line:
            print(f"{self._what}: {self._done} of {self._total}", file=sys.stderr, flush=True)
            self._next_line = time.monotonic() + EVERY
