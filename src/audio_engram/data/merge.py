"""Merge the parts of a corpus into the store that one process would have written, byte for byte."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from audio_engram.codecs.base import Codec
from audio_engram.data.corpus import Corpus, CorpusItem
from audio_engram.data.extract import ExtractConfig, finished_store, part_hash, refuse_too_many_failures, store_info
from audio_engram.data.manifest import Manifest, Part, Problem, StoreInfo, read_manifest
from audio_engram.data.parts import plan_part, refuse_missing, refuse_no_parts
from audio_engram.data.progress import Progress
from audio_engram.data.publish import remove_leftovers
from audio_engram.data.shards import read_shard, shard_checksum, shard_path
from audio_engram.data.store import LatentStore, StoreWriter
from audio_engram.errors import DataError


def merge_parts(corpus: Corpus, codec: Codec, parts: Path, out: Path, config: ExtractConfig) -> LatentStore:
    """Join the stores in the folder `parts` into the store `out`; unfinished it is resumed, finished it is reused.

    Before a latent is written it is proven that the parts are of these settings and that every item of the corpus is
    in exactly one of them: encoded, skipped or failed. Latents pass through memory one shard at a time.

    Raises: DataError when a part is missing, unfinished or damaged, or too many items failed; UsageError when parts
    are of another codec, corpus, number or setting.
    """
    info = store_info(corpus, codec, config)
    store = finished_store(out, info)
    if store is None:
        manifests = _check_parts(corpus, info, parts, config)
        devices = sorted({device for manifest in manifests for device in manifest.devices})
        store = _join(parts, manifests, StoreWriter(out, info, devices))
    refuse_too_many_failures(store, config.max_failed)
    return store


def verify_merged(store: LatentStore) -> None:
    """Read the merged store once more: after this its parts may go.

    Raises: DataError when a shard is not the one that was written.
    """
    for index, checksum in enumerate(store.manifest.shard_checksums):
        path = shard_path(store.path, index)
        if shard_checksum(path) != checksum:
            raise DataError(f"{path} is damaged, so the parts are kept; remove {store.path} and merge again")


def _check_parts(corpus: Corpus, info: StoreInfo, parts: Path, config: ExtractConfig) -> list[Manifest]:
    of = refuse_no_parts(parts)
    plan = [plan_part(len(corpus), index, of, config) for index in range(1, of + 1)]
    refuse_missing(parts, plan)
    # Who made each part is asked of all before the first is read: that is quick, and the likelier mistake.
    for part in plan:
        wanted = info.model_copy(update={"part": part, "corpus_hash": part_hash(corpus, part)})
        wanted.refuse_disagreement(read_manifest(parts / part.folder), parts / part.folder)
    return [_check_part(parts / part.folder, part, corpus.items[part.first : part.first + part.items]) for part in plan]


def _check_part(folder: Path, part: Part, items: Sequence[CorpusItem]) -> Manifest:
    store = _open(folder, part)
    encoded = [one.id for one in store.utterances]
    left_out = [problem.id for problem in store.manifest.problems]
    wanted = [item.id for item in items]
    found = set(encoded) | set(left_out)
    problem = ""
    if missing := [name for name in wanted if name not in found]:
        problem = f"has not utterance {missing[0]}"
    elif len(encoded) + len(left_out) > len(found):
        problem = "has an utterance more than once"
    elif foreign := found - set(wanted):
        problem = f"has utterance {min(foreign)}, which is not one of its own"
    elif encoded != [name for name in wanted if name in store]:
        problem = "has its utterances in another order"
    if problem:
        raise DataError(f"part {part.label}: {folder} {problem}; remove it and encode the part again")
    return store.manifest


def _join(parts: Path, manifests: list[Manifest], writer: StoreWriter) -> LatentStore:
    found = sum(manifest.counts.found for manifest in manifests)
    problems: list[Problem] = []
    with Progress(f"merge {writer.info.corpus}", found) as progress:
        for manifest in manifests:
            assert manifest.part is not None
            _copy(parts / manifest.part.folder, manifest.part, writer)
            problems += manifest.problems
            progress.step(manifest.counts.found)
    store = writer.finish(found, problems)
    for manifest in manifests:
        assert manifest.part is not None
        remove_leftovers(parts / manifest.part.folder)
    return store


def _copy(folder: Path, part: Part, writer: StoreWriter) -> None:
    store = _open(folder, part)
    todo = (one for one in store.utterances if one.id not in writer)
    for shard, utterances in groupby(todo, key=lambda one: one.shard):
        try:
            latents = read_shard(shard_path(folder, shard), store.manifest.shard_checksums[shard])
        except DataError as error:
            raise DataError(f"part {part.label}: {error}, then merge again") from error
        for one in utterances:
            writer.add(one, latents[one.offset : one.offset + one.frames])


def _open(folder: Path, part: Part) -> LatentStore:
    try:
        return LatentStore.open(folder)
    except DataError as error:
        raise DataError(f"part {part.label}: {error}, then merge again") from error
