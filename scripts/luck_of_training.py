"""How far one training differs from another by luck: `python scripts/luck_of_training.py runs/demo`.

A memory and the layer in its place, trained from four streams of random numbers (order of examples, dropout) each: NLL
of held-out frames less that of the first training, nats per dimension. Prints a row of the table of docs/memory.md.
The trainings go into the run's folder, which should be a copy.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from audio_engram.config import read_config
from audio_engram.regimes import Regime, memory_regime
from audio_engram.runs import Run

STREAMS = ("memory", "second", "third", "fourth")
REGIMES = (memory_regime("blend"), memory_regime("blend", "matched"))


def nats(run: Run, regime: Regime) -> float:
    """Mean NLL of held-out frames, per dimension."""
    model, windows = run.trained(regime), run.windows("test", 1)
    batches = windows.batches(windows.with_valid_target(), 4096)
    with torch.no_grad():
        nll = torch.cat([-model(one.context).log_prob(one.delta[:, 0]) for one in batches])
    return float(nll.double().mean()) / run.frames().dim


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run
    run = Run(folder, read_config(folder / "config.toml"))
    found = {
        regime.name: [nats(run, replace(regime, name=f"{regime.name}-{s}", stream=s)) for s in STREAMS]
        for regime in REGIMES
    }
    first, *others = found["memory-blend"]
    cells = [", ".join(f"{value - first:+.4f}" for value in some) for some in (others, found["memory-blend-matched"])]
    place = f"{run.config.data.corpus}, width {run.config.model.width}"
    frames = len(run.windows("train", 1).with_valid_target())
    print(f"| {place} | {run.frames().dim} | {frames:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
