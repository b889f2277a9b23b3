"""Which part of a model's residual carries the voice: `python scripts/what_carries_the_voice.py runs/lyra-residuals`.

On true contexts of held-out speakers increments are the MDN's mean and something in the place of the true residual;
what these decode to is measured by its share of speech. Then the same over the bandwidth of stored residuals, beside
the nats of held-out frames. The run must have a model `mdn` and recordings.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from audio_engram.clips import heard
from audio_engram.config import read_config
from audio_engram.distributions import Residuals, SmoothedBootstrap
from audio_engram.experiments.trajectories import Trajectories, find_trajectories
from audio_engram.runs import Run
from audio_engram.sound_figures import sound_figures

TRAJECTORIES, STORED, HELD_OUT, PARTS = 16, 20_000, 2_000, 4
BANDWIDTHS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


def residuals(run: Run, split: str, count: int) -> Tensor:
    """What the MDN leaves over on true contexts of a split."""
    model, windows = run.model("mdn"), run.windows(split, 1)
    index = windows.with_valid_target()
    some = index[torch.linspace(0, len(index) - 1, min(count, len(index))).long()]
    with torch.no_grad():
        return torch.cat([s.delta[:, 0] - model(s.context).mean for s in windows.batches(some, 4096)]).double()


def by_part(known: Tensor, rows: int, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Residuals from elsewhere, of which less and less is left together."""
    law = Residuals.of(known)

    def drawn(of: Tensor) -> Tensor:
        return of[torch.randint(len(of), (rows,), generator=generator)]

    def each(of: Tensor, width: int) -> Tensor:
        return torch.cat([drawn(part) for part in of.split(width, dim=1)], dim=1)

    dim = known.shape[1]
    yield "nothing", torch.zeros(rows, dim)
    yield "a residual of another frame", drawn(known)
    yield f"its {PARTS} parts from {PARTS} frames", each(known, dim // PARTS)
    yield "each principal axis from another frame", law.coloured(each(law.white, 1))
    yield "each dimension from another frame", each(known, 1)
    noise = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    yield "a Gaussian of its full covariance", law.coloured(noise)


def speech(some: Trajectories, latents: Tensor) -> float:
    """Mean share of speech of the decoded stretches."""
    run, found = some.run, []
    for context, z in zip(some.context, latents.float(), strict=False):
        audio = heard(run.codec, torch.cat([context, z]), run.frames(), len(context))
        if not isinstance(audio, str):
            found.append(sound_figures(audio[-len(z) * run.codec.hop :], run.codec.sample_rate)["speech_share"])
    return float(torch.tensor(found).nanmean())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run
    run = Run(folder, read_config(folder / "config.toml"))
    some, generator = find_trajectories(run), torch.Generator().manual_seed(0)
    context, real = some.context[:TRAJECTORIES], some.real[:TRAJECTORIES]
    n, steps, dim = real.shape
    whole = torch.cat([context, real], dim=1)
    before = whole.unfold(1, context.shape[1], 1)[:, :steps].movedim(-1, 2).flatten(0, 1)
    with torch.no_grad():
        expected = before[:, -1].double() + run.model("mdn")(before).mean.double()

    print("in place of the residual | share of speech")
    print(f"true frames | {speech(some, real):.2f}")
    noise = 0.7 * torch.randn(real.shape, generator=generator)
    print(f"true frames and white noise of 0.7 | {speech(some, real + noise):.2f}")
    known, held = residuals(run, "train", STORED), residuals(run, "test", HELD_OUT)
    for name, left in by_part(known, n * steps, generator):
        print(f"{name} | {speech(some, (expected + left).view(n, steps, dim)):.2f}", flush=True)

    print("\nbandwidth | nats a frame | share of speech")
    for bandwidth in BANDWIDTHS:
        law = SmoothedBootstrap(torch.zeros(1, dim), torch.ones(1), Residuals.of(known), bandwidth)
        nats = -float(law.log_prob(held.unsqueeze(1)).mean())
        left = law.sample(torch.Size([n * steps]), generator)[:, 0].double()
        share = speech(some, (expected + left).view(n, steps, dim))
        print(f"{bandwidth:g} | {nats:.1f} | {share:.2f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
