"""Write latents that somebody else made into a latent store; every array ends up ok, skipped or failed."""

import hashlib
import math
from pathlib import Path

from audio_engram.data.arrays import Arrays
from audio_engram.data.extract import finished_store, refuse_too_many_failures
from audio_engram.data.manifest import Problem, StoreInfo, Utterance
from audio_engram.data.progress import Progress
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import DataError, UsageError

MIN_FRAMES = 9
"""As for audio: a context of 8 and one step."""


def write_arrays(arrays: Arrays, frame_rate: float, folder: Path, max_failed: float = 0.01) -> LatentStore:
    """Write arrays of `frame_rate` [Hz] into the store `folder`; an unfinished store is resumed, a finished one reused.

    Raises: DataError when more than `max_failed` of the arrays failed (the manifest with every reason is written
    first), none is left or the disk is full; UsageError for a rate of 0 or when `folder` holds other latents.
    """
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise UsageError(f"latents: a frame rate of {frame_rate:g} Hz; say how many frames there are in a second")
    info = _store_info(arrays, frame_rate)
    store = finished_store(folder, info)
    if store is None:
        writer = StoreWriter(folder, info)
        store = writer.finish(len(arrays), _write(arrays, frame_rate, writer))
    refuse_too_many_failures(store, max_failed)
    return store


def _write(arrays: Arrays, frame_rate: float, writer: StoreWriter) -> list[Problem]:
    problems = []
    with Progress(f"read {arrays.name}", len(arrays)) as progress:
        for item in arrays.items:
            progress.step(1)
            if item.id in writer:
                continue
            try:
                latents = arrays.load(item)
            except DataError as error:
                problems.append(Problem(id=item.id, status="failed", reason=str(error)))
                continue
            if len(latents) < MIN_FRAMES:
                reason = f"too short: {len(latents)} of at least {MIN_FRAMES} frames"
                problems.append(Problem(id=item.id, status="skipped", reason=reason))
                continue
            source = hashlib.blake2b(latents.contiguous().numpy().tobytes(), digest_size=16).hexdigest()
            writer.add(Utterance(item.id, item.speaker, len(latents) / frame_rate, source, item.subset), latents)
    return problems


def _store_info(arrays: Arrays, frame_rate: float) -> StoreInfo:
    fingerprint = arrays.fingerprint()
    fields = {
        "codec": "latents",
        "codec_fingerprint": f"latents:{fingerprint}",
        "tap": "",
        # There is no audio. One frame is the finest thing that is known, so its rate stands here, rounded up.
        "sample_rate": math.ceil(frame_rate),
        "frame_rate": frame_rate,
        "latent_dim": arrays.latent_dim,
        "dtype": arrays.dtype,
        "corpus": f"latents:{arrays.name}",
        "corpus_hash": fingerprint,
        "settings": {"min_frames": MIN_FRAMES},
    }
    return StoreInfo.model_validate(fields)
