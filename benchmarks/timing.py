"""Times as ratios to a floor measured in the same run, so that a row means the same on every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table: a measured figure and the most it may be (None: no demand)."""

    name: str
    measured: float
    demand: float | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the demand is met."""
        return self.demand is None or self.measured <= self.demand

    def __str__(self) -> str:
        demand = "-" if self.demand is None else f"{self.demand:.3g}"
        verdict = "ok" if self.ok else "MISSED"
        return f"{self.name:<58} | {self.measured:>9.3g} | {demand:>8} | {verdict:<6} | {self.note}"


def row(name: str, value: float, demand: float | None, note: str = "") -> Row:
    """A row of the table; smaller is better."""
    return Row(name, value, demand, note)


def single_thread() -> None:
    """Keep torch on one thread, as all ratios are stated."""
    torch.set_num_threads(1)


def warm_allocator(n_bytes: int = 32 << 20, rounds: int = 4) -> None:
    """Raise the C library's mapping threshold by freeing blocks of nearly its 32 MB maximum.

    Until it has seen such blocks it maps every temporary of about 1 MB anew, and its page faults are timed.
    """
    for _ in range(rounds):
        for size in (n_bytes // 16, n_bytes // 4, n_bytes - (1 << 16)):
            torch.ones(size, dtype=torch.uint8)


def ratio(work: Work, floor: Work, rounds: int = 15) -> float:
    """Best time of `work` over best time of `floor`, run in turn so that a slow spell hits both.

    On one thread it is processor time, which other programs on the machine disturb less; else wall time.
    """
    work(), floor()
    pairs = [(seconds(work), seconds(floor)) for _ in range(rounds)]
    return min(w for w, _ in pairs) / min(f for _, f in pairs)


def seconds(work: Work) -> float:
    """Time of one call: the processor's on one thread, else the clock's."""
    clock = process_time if torch.get_num_threads() == 1 else perf_counter
    start = clock()
    work()
    return clock() - start
