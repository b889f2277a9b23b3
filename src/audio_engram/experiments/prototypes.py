"""Archetypes on disk: centroids as directions among the latents, what they sound like, and examples to hear."""

import json

import torch
from safetensors.torch import save
from torch import Tensor

from audio_engram.archetypes import Space
from audio_engram.data.publish import make_folder, publish_text, published
from audio_engram.experiments.direction_clusters import DirectionClusters
from audio_engram.experiments.meaning import changes
from audio_engram.runs import Run

FOLDER = "prototypes"


def keep_prototypes(run: Run, space: Space, clusters: dict[int, DirectionClusters], best: int) -> None:
    """Write `prototypes/kK.safetensors` for every K, and `archetypes.json` about the best.

    `directions` (K, D) are unit vectors among standardised latents; `share` (K) is the part of training increments.
    """
    folder = run.folder / FOLDER
    make_folder(folder)
    for k, one in clusters.items():
        share = torch.bincount(one.held["train"].labels, minlength=k).double()
        tensors = {"directions": space.back(one.centres).contiguous(), "share": (share / share.sum()).float()}
        with published(folder / f"k{k}.safetensors") as temporary:
            temporary.write_bytes(save(tensors))
    publish_text(run.folder / "archetypes.json", json.dumps(_described(run, clusters[best]), indent=1) + "\n")


def _described(run: Run, of: DirectionClusters) -> list[dict[str, object]]:
    """Every cluster: where its centroid lies in two dimensions, its size, and the mean change at its increments."""
    flat = _plane(of.centres)
    labels = of.held["train"].labels
    n = torch.bincount(labels, minlength=len(of.centres))
    place = of.places("train")
    means = {name: _means(values[place], labels, len(n)) for name, values in changes(run).items()}
    return [
        {"x": float(flat[k, 0]), "y": float(flat[k, 1]), "size": int(n[k])}
        | {name: float(values[k]) if values[k].isfinite() else None for name, values in means.items()}
        for k in range(len(n))
    ]


def _plane(centres: Tensor) -> Tensor:
    """The two principal components of the centroids."""
    about = centres - centres.mean(0)
    _, _, v = torch.linalg.svd(about, full_matrices=False)
    return about @ v[:2].T


def _means(values: Tensor, labels: Tensor, n: int) -> Tensor:
    known = values.isfinite()
    sums = torch.zeros(n, dtype=torch.float64).index_add(0, labels[known], values[known].double())
    return sums / torch.bincount(labels[known], minlength=n)
