"""Archetypes on disk: centroids as directions among the latents, what they sound like, and where to hear them."""

import json

import torch
from safetensors.torch import save
from torch import Tensor

from audio_engram.archetype_map import FILE, KNOWN, Archetype, ArchetypeMap, Moment
from audio_engram.data.publish import make_folder, publish_text, published
from audio_engram.experiments.direction_clusters import DirectionClusters
from audio_engram.experiments.meaning import changes
from audio_engram.runs import Run

FOLDER = "prototypes"
PLAYED = 6
NEAREST = 10


def keep_prototypes(run: Run, clusters: dict[int, list[DirectionClusters]], shown: int) -> None:
    """Write `prototypes/kK.safetensors` for every K, and `archetypes.json` about the one that is shown.

    `clusters` are the real ones of each K, then those of the nulls. `directions` (K, D) are unit vectors among
    latents that are standardised by `loc` and `scale` (D); `share` (K) is the part of training increments.
    """
    folder = run.folder / FOLDER
    make_folder(folder)
    for k, (real, *_) in clusters.items():
        share = _sizes(real).double()
        tensors = {
            "directions": real.prototypes.contiguous(),
            "share": (share / share.sum()).float(),
            "loc": run.frames().loc.contiguous(),
            "scale": run.frames().scale.contiguous(),
        }
        with published(folder / f"k{k}.safetensors") as temporary:
            temporary.write_bytes(save(tensors, metadata={"about": _about(run, k)}))
    real, *nulls = clusters[shown]
    publish_text(run.folder / FILE, _described(run, real, nulls).model_dump_json(indent=1) + "\n")


def _about(run: Run, k: int) -> str:
    """What the tensors are of, in one entry: several would stand in another order in every process."""
    fingerprint = run.store.manifest.codec_fingerprint
    of = {"k": k, "codec": run.codec_name, "codec_fingerprint": fingerprint, "frame_rate": run.codec.frame_rate}
    return json.dumps(of | {"directions": "unit increments of latents less loc, over scale"})


def _described(run: Run, real: DirectionClusters, nulls: list[DirectionClusters]) -> ArchetypeMap:
    sizes, place, heard = _sizes(real), real.places("train"), changes(run)
    flat, plane = _plane(real.prototypes)
    means = {name: _means(values[place], real.held["train"].labels, real.k) for name, values in heard.items()}
    # By size and not by sound: else those would be heard that were chosen for how they sound.
    played = sizes.argsort(descending=True, stable=True)[:PLAYED].tolist() if run.corpus is not None else []
    return ArchetypeMap(
        plane=plane,
        average_flux=_known(heard["flux"][place].nanmean()) if heard else None,
        null_sizes={null.of.kind: tuple(_sizes(null).tolist()) for null in nulls},
        archetypes=tuple(
            Archetype(
                x=float(flat[k, 0]),
                y=float(flat[k, 1]),
                size=int(sizes[k]),
                nearest=_nearest(real, k) if k in played else (),
                **{name: _known(values[k]) for name, values in means.items()},
            )
            for k in range(real.k)
        ),
    )


def _nearest(of: DirectionClusters, k: int) -> tuple[Moment, ...]:
    """The held-out increments of a cluster that are nearest to its centroid, at most one of each speaker."""
    frames = of.run.frames()
    mine = (of.held["test"].labels == k).nonzero().flatten()
    cosine = torch.nn.functional.normalize(of.of.parts["test"].delta[mine], dim=1) @ of.prototypes[k]
    cosine, order = cosine.sort(descending=True, stable=True)
    mine = mine[order]
    first: dict[int, tuple[int, float]] = {}
    for one, near in zip(mine.tolist(), cosine.tolist(), strict=True):
        first.setdefault(int(of.of.parts["test"].speaker[one]), (one, near))
    found = []
    for speaker, (one, near) in list(first.items())[:NEAREST]:
        place = int(of.places("test")[one])
        utterance = int(torch.searchsorted(frames.offsets, place, right=True)) - 1
        frame = place - int(frames.offsets[utterance])
        found.append(
            Moment(
                utterance=frames.utterances[utterance],
                speaker=frames.speakers[speaker],
                frame=frame,
                second=frame / of.run.codec.frame_rate,
                cosine=near,
            )
        )
    return tuple(found)


def _sizes(of: DirectionClusters) -> Tensor:
    return torch.bincount(of.held["train"].labels, minlength=of.k)


def _plane(centres: Tensor) -> tuple[Tensor, float]:
    """The centroids' two principal components, and the share of their variance that these hold."""
    about = centres.double() - centres.double().mean(0)
    _, s, v = torch.linalg.svd(about, full_matrices=False)
    flat = torch.zeros(len(centres), 2, dtype=torch.float64)
    flat[:, : len(v[:2])] = about @ v[:2].T
    return flat, float(s[:2].square().sum() / s.square().sum().clamp(min=1e-30))


def _means(values: Tensor, labels: Tensor, n: int) -> Tensor:
    known = values.isfinite()
    sums = torch.zeros(n, dtype=torch.float64).index_add(0, labels[known], values[known].double())
    count = torch.bincount(labels[known], minlength=n)
    return torch.where(count >= KNOWN, sums / count, torch.nan)


def _known(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None
