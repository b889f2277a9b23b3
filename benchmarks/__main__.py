"""`python -m benchmarks [part...]`: every row of the speed and accuracy table with its demand and what was measured."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import clustering
import distributions
import dynamics
import encode
import pipeline
from timing import Row, single_thread, warm_allocator

PARTS: dict[str, Callable[[], Iterable[Row]]] = {
    "clustering": clustering.rows,
    "distributions": distributions.rows,
    "dynamics": dynamics.rows,
    "encode": encode.rows,
    "pipeline": pipeline.rows,
}


def main(names: list[str]) -> int:
    """Print the rows of the named parts, or of all; 1 if any demand was missed."""
    unknown = set(names) - set(PARTS)
    if unknown:
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    single_thread()
    warm_allocator()
    print(f"{'row':<58} | {'measured':>9} | {'demand':>8} | {'':<6} | note")
    missed = 0
    for name in names or PARTS:
        for one in PARTS[name]():
            print(one, flush=True)
            missed += not one.ok
    print(f"\n{missed} missed" if missed else "\nall demands met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
