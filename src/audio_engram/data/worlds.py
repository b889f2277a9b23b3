"""Latent processes whose truth is known, so that the ladder can be calibrated on them.

`ar`         rotating linear-Gaussian process: ΔNLL, cosine and rollout decay are known at every lag
`archetypes` increments along planted directions with log-normal magnitudes
`chained`    the same directions, each followed by the next: foretold by contexts
`headings`   directions are foretold, magnitudes are not: cosine and ΔNLL are known
`strides`    magnitudes are foretold, directions are not but for regression to the mean: R² of log m is known
`regimes`    states that follow one another, which clusters of contexts find and no linear rule does
`correlated` a Gaussian process with few axes: nothing to find but its covariance
`planes`     a resonance in one of four planes, drawn for every utterance: no direction is preferred in any
`pulses`     pulses through a first-order filter: nothing to find but the filter
`noise`      independent Gaussian frames: nothing to find
`resonance`  white noise through a resonator: nothing to find but the filter
`shuffled`   frames of a process with speaker offsets and loudness, in random order: nothing dynamic to find
`walk`       a walk by independent increments: nothing to find, nor to return to
"""

import re
from pathlib import Path

from audio_engram.data.deceptive_worlds import Planes, Pulses
from audio_engram.data.manifest import MANIFEST, StoreInfo, Utterance, read_manifest
from audio_engram.data.planted import Archetypes, Chained, Correlated, Regimes
from audio_engram.data.polar_worlds import Headings, Strides
from audio_engram.data.processes import AR, Noise, Resonance, Shuffled, Walk, World
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import UsageError

_GAUSSIAN: tuple[type[World], ...] = (AR, Noise, Resonance, Shuffled, Walk)
_PLANTED: tuple[type[World], ...] = (Archetypes, Chained, Correlated, Regimes, Headings, Strides, Planes, Pulses)
WORLDS = {w.name: w for w in sorted(_GAUSSIAN + _PLANTED, key=lambda w: w.name)}


def world(spec: str) -> World:
    """The world of a corpus name such as `world:ar`, or `world:ar:24` for one of 24 speakers.

    Raises:
        UsageError: for an unknown name, or what is no number of speakers.
    """
    name, _, speakers = spec.removeprefix("world:").partition(":")
    if name not in WORLDS:
        raise UsageError(f"corpus world:{name}: no such world: use one of {', '.join(sorted(WORLDS))}")
    process = WORLDS[name]()
    if speakers:
        if not re.fullmatch(r"[1-9][0-9]{0,5}", speakers):
            raise UsageError(f"corpus {spec}: {speakers} is no number of speakers: write world:{name}:24")
        process.speakers = int(speakers)
    return process


def write_world(process: World, seed: int, folder: Path) -> LatentStore:
    """Draw a world into a latent store, or open the one that stands there."""
    info = StoreInfo(
        codec=f"world:{process.name}",
        codec_fingerprint=f"world:{process.name}:{seed}",
        tap="",
        sample_rate=16_000,
        frame_rate=process.frame_rate,
        latent_dim=process.dim,
        dtype="float32",
        corpus=f"world:{process.name}",
        corpus_hash=f"seed {seed}, {process.speakers} speakers",
        synthetic=True,
    )
    if (folder / MANIFEST).exists() and read_manifest(folder).finished:
        info.refuse_disagreement(read_manifest(folder), folder)
        return LatentStore.open(folder)
    writer, drawn = StoreWriter(folder, info), process.draw(seed)
    for name, speaker, latents in drawn:
        if name not in writer:
            writer.add(Utterance(name, speaker, len(latents) / process.frame_rate), latents)
    return writer.finish(len(drawn))
