"""What each figure of rollouts answers to: `python scripts/controls.py runs/lyra`.

True stretches of held-out speakers, ill-treated in one way each, against the same stretches as they are. Prints the
table of docs/manifold.md and how far real halves of the speakers are apart. The run needs its latents alone.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from audio_engram.config import read_config
from audio_engram.controls import gaussian_frames, shuffled_frames, slow_but_correct, stationary, wrong_direction
from audio_engram.experiments.trajectories import Trajectories, find_trajectories
from audio_engram.manifold import Traits
from audio_engram.runs import Run
from audio_engram.statistics import Interval
from audio_engram.survival import survival

FIGURES = ("frechet_latents", "frechet_increments", "magnitude_p50", "frozen", "repetition", "copying_p50")
HALVES = ("frechet_latents", "frechet_increments", "magnitude_p50", "frozen")


def ill_treated(some: Trajectories) -> dict[str, Tensor]:
    """Every control by the name of its row."""
    generator, frames = torch.Generator().manual_seed(0), some.run.frames()
    start, real = some.context[:, -1], some.real
    return {
        "75 % of every increment": slow_but_correct(start, real, 0.75),
        "50 %": slow_but_correct(start, real, 0.5),
        "25 %": slow_but_correct(start, real, 0.25),
        "stationary": stationary(start, real),
        "wrong direction": wrong_direction(start, real, generator),
        "shuffled frames": shuffled_frames(real, generator),
        "Gaussian frames": gaussian_frames(real, frames.z[frames.in_split("train")], generator),
    }


def shown(value: float) -> str:
    """Three digits, and all of them before the point."""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.{1 if value >= 10 else 2}f}"


def with_ends(of: Interval) -> str:
    """A value and its interval."""
    return f"{shown(of.value)} [{shown(of.low)}, {shown(of.high)}]" if of.low is not None else shown(of.value)


def surviving(some: Trajectories, latents: Tensor) -> str:
    """The share that has not diverged at the end of the stretch."""
    end = torch.tensor([float(latents.shape[1])])
    return f"{survival(some.manifold.range.diverge(latents), end, some.bootstrap)[0].value:.2f}"


def row(some: Trajectories, name: str, latents: Tensor, real: Traits) -> str:
    """One line of the table."""
    figures = some.manifold.compare(some.manifold.traits(latents), real, some.bootstrap)
    ratios = [figures[figure].ratio for figure in FIGURES]
    cells = [with_ends(ratios[0]), *(shown(ratio.value) for ratio in ratios[1:]), surviving(some, latents)]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a stretch")
    parser.add_argument("--trajectories", type=int, default=1000, help="at most so many")
    given = parser.parse_args()
    wanted = (f"experiments.stretch_seconds={given.seconds}", f"experiments.trajectories={given.trajectories}")
    run = Run(given.run, read_config(given.run / "config.toml"))
    # After its folder was claimed: other stretches need no other latents.
    run.config = read_config(given.run / "config.toml", wanted)
    some = find_trajectories(run)
    speakers = some.bootstrap.n_speakers
    print(f"{run.codec_name}, {run.frames().dim} dimensions: {len(some.real)} stretches of {speakers} speakers\n")
    real = some.real_traits
    print(f"| | {' | '.join(f'`{figure}`' for figure in FIGURES)} | survive |")
    print("|---|" + "---|" * (len(FIGURES) + 1))
    for name, latents in ill_treated(some).items():
        print(row(some, name, latents, real), flush=True)
    print(f"\nsurvive, real: {surviving(some, some.real)}")
    figures = some.manifold.compare(real, real, some.bootstrap)
    print("real halves, 95 % of 32: " + ", ".join(f"{name} {with_ends(figures[name].halves)}" for name in HALVES))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
