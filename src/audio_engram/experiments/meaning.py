"""What clusters of increments sound like: how much of the change in level, spectrum and pitch they explain."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audio_engram.acoustics import measure_acoustics
from audio_engram.archetypes import cluster_mean
from audio_engram.data.progress import Progress
from audio_engram.runs import Run
from audio_engram.statistics import Interval

LEVEL = "energy"
CHANGES = ("energy_change", "flux", "pitch_change")


def heard(run: Run) -> dict[str, Float[Tensor, " N"]]:
    """Level [dB] and `CHANGES` at every frame; empty without recordings."""
    return run.once(("acoustics",), lambda: _measure(run)) if run.corpus is not None else {}


def changes(run: Run) -> dict[str, Float[Tensor, " N"]]:
    """Change of level [dB], spectral flux and change of pitch [semitones] at every frame; empty without recordings.

    NaN where there is none: in the first frame of an utterance, and for pitch where a frame is unvoiced.
    """
    return {name: values for name, values in heard(run).items() if name in CHANGES}


def _measure(run: Run) -> dict[str, Tensor]:
    parts = list(_utterances(run))
    return {name: torch.cat([part[name] for part in parts]) for name in (LEVEL, *CHANGES)}


def _utterances(run: Run) -> Iterator[dict[str, Tensor]]:
    assert run.corpus is not None
    items = {item.id: item for item in run.corpus.items}
    frames, codec = run.frames(), run.codec
    lengths = frames.offsets.diff().tolist()
    with Progress("acoustics", len(lengths)) as progress:
        for name, n in zip(frames.utterances, lengths, strict=True):
            found = measure_acoustics(items[name].audio(codec.sample_rate), codec.sample_rate, codec.hop, n)
            yield {change: getattr(found, change) for change in (LEVEL, *CHANGES)}
            progress.step(1)


def explained(
    run: Run, values: Float[Tensor, " N"], train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], n_clusters: int
) -> Interval:
    """Eta squared on held-out speakers: the share of a change's variance that its cluster's training mean explains.

    `train` and `test` are (places, clusters) of increments. It is below 0 for clusters that mean nothing.
    """
    (x, own), (y, asked) = (_known(values, *pair) for pair in (train, test))
    if not len(x) or not len(y):
        return Interval(float("nan"), None, None, 0, 0)
    means, mean = cluster_mean(x.double().unsqueeze(1), own, n_clusters)
    speaker = run.frames().speaker[test[0][values[test[0]].isfinite()]]
    error, total = (y - means[asked, 0]).square(), (y - mean).square()
    return run.bootstrap(speaker).r2(error, total)


def _known(values: Tensor, place: Int[Tensor, " M"], clusters: Int[Tensor, " M"]) -> tuple[Tensor, Tensor]:
    found = values[place]
    return found[found.isfinite()].double(), clusters[found.isfinite()]
