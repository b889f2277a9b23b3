"""Encode a corpus into a latent store; every item ends up encoded, skipped or failed, with its reason."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.data.batches import device_kind, encode_batch, plan_batches
from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.data.manifest import MANIFEST, Part, Problem, StoreInfo, Utterance, read_manifest
from audio_engram.data.progress import Progress
from audio_engram.data.shards import DTYPES, all_finite
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import DataError

NOT_FINITE = "the codec's latents are not finite in"
SILENCE = 2.0**-15
"""Peak of one 16-bit step: what dither alone leaves of digital silence."""


class ExtractConfig(BaseModel):
    """How a corpus becomes latents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: str = Field(default="float16", pattern="^(float16|float32)$", description="type on disk")
    min_frames: int = Field(default=9, ge=1, description="shorter utterances are skipped; a context of 8 and one step")
    max_seconds: float = Field(
        default=600.0, gt=0, description="longer utterances are skipped: they would not fit memory"
    )
    max_failed: float = Field(default=0.01, ge=0, le=1, description="share of failed items above which the run fails")
    batch_seconds: float = Field(default=30.0, gt=0, description="audio in one batch, padding included")
    window: int = Field(default=64, ge=1, description="items whose lengths are sorted together")
    readers: int = Field(default=2, ge=1, description="threads that read audio ahead of the codec")
    shard_frames: int = Field(default=32768, ge=1, description="a shard ends with the utterance that reaches this")


@dataclass(frozen=True)
class _Sound:
    """One usable utterance in memory."""

    utterance: Utterance
    audio: Tensor


def extract(corpus: Corpus, codec: Codec, out: str | Path, config: ExtractConfig | None = None) -> LatentStore:
    """Encode `corpus` into the store `out`; an unfinished store is resumed, a finished one reused.

    Utterances keep the order of the corpus. A codec runs on the device that it is on.

    Raises: DataError when more than `max_failed` of the items failed (the manifest with every reason is
    written first), nothing could be encoded or the disk is full; UsageError when `out` holds other latents.
    """
    config = config or ExtractConfig()
    info = store_info(corpus, codec, config)
    store = finished_store(Path(out), info)
    if store is None:
        store = _encode(corpus, codec, StoreWriter(out, info, [device_kind(codec)]), config)
    refuse_too_many_failures(store, config.max_failed)
    return store


def extract_part(corpus: Corpus, codec: Codec, parts: Path, part: Part, config: ExtractConfig) -> LatentStore:
    """Encode one part of `corpus` into its own store in the folder `parts`; resumed and reused like any store.

    Several processes may do the same part at once. How many items may fail is asked of the whole corpus, at the merge.

    Raises: DataError when the disk is full; UsageError when the part's folder holds other latents.
    """
    out = parts / part.folder
    info = store_info(corpus, codec, config, part)
    store = finished_store(out, info)
    if store is None:
        writer = StoreWriter(out, info, [device_kind(codec)], shared=True)
        store = _encode(corpus, codec, writer, config)
    return store


def store_info(corpus: Corpus, codec: Codec, config: ExtractConfig, part: Part | None = None) -> StoreInfo:
    """What decides the latents; a store that disagrees is never reused."""
    fields = {
        "codec": codec.name,
        "codec_fingerprint": codec.fingerprint(),
        "tap": codec.tap,
        "sample_rate": codec.sample_rate,
        "frame_rate": float(codec.frame_rate),
        "latent_dim": codec.latent_dim,
        "dtype": config.dtype,
        "corpus": corpus.name,
        "corpus_hash": corpus.fingerprint() if part is None else part_hash(corpus, part),
        "synthetic": corpus.synthetic,
        "shard_frames": config.shard_frames,
        "settings": {"min_frames": config.min_frames, "max_seconds": config.max_seconds},
        "part": part,
    }
    return StoreInfo.model_validate(fields)


def part_hash(corpus: Corpus, part: Part) -> str:
    """The fingerprint of a part's items alone, so that a part reads no more of the corpus than it encodes."""
    items = corpus.items[part.first : part.first + part.items]
    return Corpus(corpus.name, items, corpus.synthetic).fingerprint() if items else "no items"


def finished_store(out: Path, info: StoreInfo) -> LatentStore | None:
    """The store in `out`, if it is finished.

    Raises: UsageError when it is one of other latents.
    """
    if not (out / MANIFEST).exists():
        return None
    manifest = read_manifest(out)
    info.refuse_disagreement(manifest, out)
    return LatentStore.open(out) if manifest.finished else None


def _encode(corpus: Corpus, codec: Codec, writer: StoreWriter, config: ExtractConfig) -> LatentStore:
    """Encode window by window; a batch depends on the corpus alone, so a resumed run or a part repeats the bytes."""
    what, items = f"encode {corpus.name}", corpus.items
    if part := writer.info.part:
        what, items = f"{what} {part.label}", items[part.first : part.first + part.items]
    windows = [items[i : i + config.window] for i in range(0, len(items), config.window)]
    todo = [window for window in windows if not all(item.id in writer for item in window)]
    problems: list[Problem] = []
    with Progress(what, len(items)) as progress:
        progress.step(len(items) - sum(map(len, todo)))
        for group in _ahead(_groups(todo, codec, config)):
            problems += [one for one in group if isinstance(one, Problem)]
            problems += _encode_group([one for one in group if isinstance(one, _Sound)], codec, writer, config)
            progress.step(len(group))
    return writer.finish(len(items), problems)


def _load_ahead(items: Iterable[CorpusItem], codec: Codec, config: ExtractConfig) -> Iterator[_Sound | Problem]:
    """Load items in threads, in order, a few ahead of the one that is asked for."""
    waiting: deque[Future[_Sound | Problem]] = deque()
    with ThreadPoolExecutor(config.readers) as pool:
        for item in items:
            waiting.append(pool.submit(_load, item, codec, config))
            if len(waiting) > 2 * config.readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _load(item: CorpusItem, codec: Codec, config: ExtractConfig) -> _Sound | Problem:
    try:
        audio = item.audio(codec.sample_rate)
        source = item.content_hash(audio)
    except DataError as error:
        return Problem(id=item.id, status="failed", reason=str(error))
    if reason := _reason_to_skip(audio, codec, config):
        return Problem(id=item.id, status="skipped", reason=reason)
    seconds = len(audio) / codec.sample_rate
    return _Sound(Utterance(item.id, item.speaker, seconds, source, item.subset), audio)


def _reason_to_skip(audio: Tensor, codec: Codec, config: ExtractConfig) -> str:
    seconds = len(audio) / codec.sample_rate
    if codec.n_frames(len(audio)) < config.min_frames:
        return f"too short: {seconds:.2f} s hold fewer than min_frames = {config.min_frames} frames"
    if seconds > config.max_seconds:
        return f"too long: {seconds:.0f} s, max_seconds = {config.max_seconds:g}; cut it into utterances"
    low, high = audio.aminmax()
    return "digitally silent all through" if max(-low, high) <= SILENCE else ""


def _groups(
    windows: Sequence[Sequence[CorpusItem]], codec: Codec, config: ExtractConfig
) -> Iterator[list[_Sound | Problem]]:
    """Load window after window; one is cut where its audio would take too much memory at once."""
    most = config.batch_seconds * codec.sample_rate * 20
    loaded = _load_ahead((item for window in windows for item in window), codec, config)
    for window in windows:
        group: list[_Sound | Problem] = []
        samples = 0.0
        for one in islice(loaded, len(window)):
            group.append(one)
            samples += len(one.audio) if isinstance(one, _Sound) else 0
            if samples > most:
                yield group
                group, samples = [], 0.0
        if group:
            yield group


def _ahead(groups: Iterator[list[_Sound | Problem]]) -> Iterator[list[_Sound | Problem]]:
    """The same groups; the next one loads while the codec works on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, groups, None)
        while (group := coming.result()) is not None:
            coming = pool.submit(next, groups, None)
            yield group


def _encode_group(sounds: list[_Sound], codec: Codec, writer: StoreWriter, config: ExtractConfig) -> list[Problem]:
    """Put a group's latents away in the order of the corpus; return those that are not finite."""
    latents: dict[int, Tensor] = {}
    for batch in plan_batches([len(one.audio) for one in sounds], int(config.batch_seconds * codec.sample_rate)):
        if not all(sounds[i].utterance.id in writer for i in batch):
            latents |= zip(batch, encode_batch(codec, [sounds[i].audio for i in batch]), strict=True)
    problems = []
    for index, values in sorted(latents.items()):
        utterance = sounds[index].utterance
        if not all_finite(values.to(DTYPES[config.dtype])):
            reason = f"{NOT_FINITE} {config.dtype}"
            problems.append(Problem(id=utterance.id, status="failed", reason=reason))
        elif utterance.id not in writer:
            writer.add(utterance, values)
    return problems


def refuse_too_many_failures(store: LatentStore, max_failed: float) -> None:
    """Raises: DataError when a larger share than `max_failed` of the items failed, or nothing could be encoded."""
    counts, where = store.manifest.counts, store.path / MANIFEST
    failures = [problem for problem in store.manifest.problems if problem.status == "failed"]
    if counts.failed > max_failed * counts.found:
        of_codec = {problem.reason.startswith(NOT_FINITE) for problem in failures}
        mend = " and ".join(f"the {'codec' if one else 'files'}" for one in sorted(of_codec))
        raise DataError(
            f"{counts.failed} of {counts.found} items failed, more than data.max_failed = {max_failed:g};"
            f" first {failures[0].id}: {failures[0].reason}; all reasons stand in {where}:"
            f" mend {mend}, remove {store.path} and go on with --resume, or raise data.max_failed"
        )
    if counts.ok == 0:
        first = store.manifest.problems[0]
        raise DataError(f"none of {counts.found} items could be used; first {first.id}: {first.reason}; see {where}")
