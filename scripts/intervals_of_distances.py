"""How often intervals of the Fréchet ratio miss the truth: `python scripts/intervals_of_distances.py`.

Windows of Gaussian autoregressions, `scale` times as wide as the real ones, so that the distance is known. Beside the
jackknife over speakers stands the bootstrap over speakers of the same ratio, which is not used. Prints the table of
docs/manifold.md.
"""

import argparse
from math import sqrt

import torch
from torch import Tensor

from audio_engram.against_real import Figure, Halves
from audio_engram.group_moments import Points, finite_pairs
from audio_engram.set_distances import Frechet, frechet_figure
from audio_engram.statistics import Interval, SpeakerBootstrap

SPEAKERS, WINDOWS, DIM, MEMORY = 24, 24, 8, 0.7
SCALES = (1.0, 0.7, 0.5)
RESAMPLES = 200


def autoregressions(generator: torch.Generator) -> Tensor:
    """One trajectory of windows a speaker, each dimension of variance 1."""
    noise = torch.randn(SPEAKERS, WINDOWS, DIM, generator=generator, dtype=torch.float64)
    windows = [noise[:, 0]]
    for one in noise[:, 1:].unbind(1):
        windows.append(MEMORY * windows[-1] + sqrt(1 - MEMORY**2) * one)
    return torch.stack(windows, dim=1)


def resampled(pair: tuple[Points, Points], bootstrap: SpeakerBootstrap, halves: Halves, biases: float) -> Interval:
    """The ratio's interval from speakers drawn with replacement, less the same bias in every draw."""
    between = Frechet(*pair, halves.n_groups)
    counts = torch.cat([torch.ones_like(bootstrap.counts[:1]), bootstrap.counts])
    first, second = ((counts[:, None] * half).flatten(0, 1) for half in (halves.first, halves.second))

    def mean(one: str, other: str) -> Tensor:
        return between(one, other, first, second).view(len(counts), -1).mean(1)  # type: ignore[arg-type]

    generated = (mean("generated", "real") + mean("real", "generated")) / 2
    return bootstrap.interval((generated - biases) / mean("real", "real"), halves.n)


def figures(scale: float, trial: int) -> tuple[Figure, Interval]:
    """The ratio of one draw with its two intervals."""
    generator = torch.Generator().manual_seed(trial)
    bootstrap = SpeakerBootstrap(torch.arange(SPEAKERS), RESAMPLES, trial)
    halves = Halves(bootstrap, generator)
    pair = finite_pairs(scale * autoregressions(generator), autoregressions(generator), halves.group)
    figure = frechet_figure(pair, halves)
    taken_off = figure.generated.value - figure.ratio.value * figure.real.value
    return figure, resampled(pair, bootstrap, halves, taken_off)


def told(intervals: list[Interval], truth: float) -> str:
    """Mean ends, and how many intervals lie beside the truth."""
    ends = [(i.low, i.high) for i in intervals if i.low is not None and i.high is not None]
    low, high = (torch.tensor(some).mean() for some in zip(*ends, strict=True))
    return f"{low:.2f} to {high:.2f} | {sum(not a <= truth <= b for a, b in ends)}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=150)
    trials = parser.parse_args().trials
    print("| scale | true ratio | mean | jackknife: mean ends | misses | bootstrap: mean ends | misses |")
    print("|---|---|---|---|---|---|---|")
    for scale in SCALES:
        found = [figures(scale, trial) for trial in range(trials)]
        yardstick = torch.tensor([figure.real.value for figure, _ in found]).mean()
        truth = float(1 + DIM * (1 - scale) ** 2 / yardstick)
        mean = torch.tensor([figure.ratio.value for figure, _ in found]).mean()
        jackknife, bootstrap = (
            told(list(some), truth) for some in ([f.ratio for f, _ in found], [i for _, i in found])
        )
        print(f"| {scale:g} | {truth:.2f} | {mean:.2f} | {jackknife} of {trials} | {bootstrap} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
