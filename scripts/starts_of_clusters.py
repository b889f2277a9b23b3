"""How far k-means from other starts differ: `python scripts/starts_of_clusters.py runs/mel --counts 32,256`.

Directions of the experiment `archetypes`, put into K clusters from several starts: the mean cosine of held-out
directions to their centroid, of each. Prints the rows of docs/structure.md. The run needs its latents alone.
"""

import argparse
from pathlib import Path

import torch

from audio_engram.archetypes import hold
from audio_engram.breathing import fit_breathing
from audio_engram.config import read_config
from audio_engram.experiments.direction_clusters import Directions
from audio_engram.runs import Run

STARTS = 4


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--counts", default="32,256", help="numbers of clusters")
    given = parser.parse_args()
    run = Run(given.run, read_config(given.run / "config.toml"))
    rows = Directions(run, "real").rows
    print(f"{run.codec_name}: {len(rows['train']):,} training directions, {STARTS} starts")
    for k in map(int, given.counts.split(",")):
        found = []
        for seed in range(STARTS):
            means = fit_breathing(k, rows["train"], torch.Generator().manual_seed(seed))
            held = hold(rows["test"], means.cluster_centers_, rows["train"], means.labels_)
            found.append(float(held.cosine.double().mean()))
        spread = max(found) - min(found)
        print(f"| {k} | {', '.join(f'{one:.4f}' for one in found)} | {spread:.4f} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
