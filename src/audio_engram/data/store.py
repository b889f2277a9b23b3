"""Latents on disk: shards of one flat (frames, D) array, one line per utterance and a manifest.

A shard carries the lines of its utterances in its own header, so the rename that publishes it publishes both,
and a killed extraction resumes from the whole shards it left. The manifest says `finished` last of all.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from audio_engram.data.manifest import (
    MANIFEST,
    UTTERANCES,
    Counts,
    Manifest,
    Problem,
    StoreInfo,
    Utterance,
    read_manifest,
    read_utterances,
    text_checksum,
    utterance_lines,
)
from audio_engram.data.publish import make_folder, publish_text, remove_leftovers
from audio_engram.data.shards import (
    DTYPES,
    all_finite,
    check_shard,
    map_shard,
    noted_checksum,
    shard_checksum,
    shard_path,
    utterances_in_shard,
    verify_shard,
    write_shard,
)
from audio_engram.errors import DataError, UsageError


class LatentStore:
    """Latents of a corpus: `store[id]` is one utterance (N, D), `frames()` all of them, one after another."""

    def __init__(self, path: Path, manifest: Manifest, utterances: list[Utterance]) -> None:
        self.path = path
        self.manifest = manifest
        self.utterances = utterances
        self._by_id = {one.id: one for one in utterances}
        self._open_shards: dict[int, Tensor] = {}

    @classmethod
    def open(cls, path: str | Path) -> "LatentStore":
        """Open a finished store and check its lines and sizes; no latents are read yet.

        Raises: DataError when the store is missing, unfinished, damaged or of another version.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        if not manifest.finished:
            raise DataError(f"the latent store in {folder} is unfinished; run the same extraction again to resume it")
        store = cls(folder, manifest, read_utterances(folder, manifest.utterances_checksum))
        _check_sizes(store)
        return store

    def __len__(self) -> int:
        return len(self.utterances)

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._by_id

    def __getitem__(self, utterance_id: str) -> Float[Tensor, "N D"]:
        """The latents of one utterance, float32.

        Raises: KeyError for an unknown id, DataError for values that are not finite.
        """
        one = self._by_id[utterance_id]
        latents = self._shard(one.shard)[one.offset : one.offset + one.frames].float()
        return _finite(latents, f"utterance {utterance_id} in {self.path}")

    def frames(self, dtype: torch.dtype | None = torch.float32) -> Float[Tensor, "total D"]:
        """All latents in the order of `utterances`; `dtype=None` keeps the stored type (one shard: no copy).

        Raises: DataError for a shard that is not the one that was written.
        """
        m = self.manifest
        dtype = dtype or DTYPES[m.dtype]
        if m.shards == 1:
            return self._verified(0).to(dtype)
        # Shard after shard into one block: all of them and their copy at once would be twice the memory.
        flat = torch.empty(m.frames, m.latent_dim, dtype=dtype)
        start = 0
        for index in range(m.shards):
            shard = self._verified(index)
            flat[start : start + len(shard)] = shard
            start += len(shard)
        return flat

    @cached_property
    def offsets(self) -> Int64[Tensor, "bounds"]:
        """Row of `frames()` where each utterance starts, and the total number of rows last."""
        counts = torch.tensor([0, *(one.frames for one in self.utterances)])
        return counts.cumsum(0)

    @cached_property
    def speakers(self) -> list[str]:
        """Speakers, sorted."""
        return sorted({one.speaker for one in self.utterances})

    @cached_property
    def frames_by_speaker(self) -> dict[str, int]:
        """Number of frames of each speaker."""
        totals = dict.fromkeys(self.speakers, 0)
        for one in self.utterances:
            totals[one.speaker] += one.frames
        return totals

    def _shard(self, index: int) -> Tensor:
        if index not in self._open_shards:
            self._open_shards[index] = map_shard(shard_path(self.path, index))
        return self._open_shards[index]

    def _verified(self, index: int) -> Tensor:
        """A shard that is not kept open: its pages can go when it has been copied."""
        verify_shard(shard_path(self.path, index), self.manifest.shard_checksums[index])
        return map_shard(shard_path(self.path, index))

    def _facts(self) -> dict[str, str]:
        m = self.manifest
        kind = "synthetic" if m.synthetic else "recorded"
        return {
            "corpus": f"{m.corpus} ({kind})",
            "codec": f"{m.codec}, tap {m.tap}",
            "latents": f"{m.frames} frames x {m.latent_dim} at {m.frame_rate:g} Hz, {m.dtype}",
            "utterances": f"{m.counts.ok} of {len(self.speakers)} speakers, {m.seconds / 60:.1f} min",
            "left out": f"{m.counts.skipped} skipped, {m.counts.failed} failed of {m.counts.found}",
            "path": str(self.path),
        }

    def __repr__(self) -> str:
        return f"LatentStore({', '.join(f'{name}: {value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self._facts().items())
        return f"<table>{''.join(rows)}</table>"


class StoreWriter:
    """Writes a store utterance by utterance; on an unfinished store of the same `info` it goes on from there.

    Shards end where the list of utterances says, never where an interruption fell, so a resumed store is,
    byte for byte, one written in one go. `id in writer` tells what an earlier run has already put away; from the
    first shard on that is not the one that was written, that is nothing, and all is written again.
    `devices` are the kinds of device that the latents come from. A `shared` store may be written by several
    processes at once, all of the same bytes: temporary files are left alone, and so is a finished store.
    """

    def __init__(self, path: str | Path, info: StoreInfo, devices: Sequence[str] = (), *, shared: bool = False) -> None:
        self.path = Path(path)
        self.info = info
        self._devices = tuple(devices)
        self._shared = shared
        self._checksums: list[str] = []
        self._published: list[Utterance] = []
        self._waiting: list[tuple[Utterance, Tensor]] = []
        self._waiting_frames = 0
        self._next_shard = 0
        self._start()
        self._ids = {one.id for one in self._published}

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self._ids

    def add(self, utterance: Utterance, latents: Float[Tensor, "N D"]) -> None:
        """Append one utterance; a shard is published when enough frames have come together.

        Raises: DataError for a known id, a wrong size or values that are not finite in the store's type.
        """
        where = f"utterance {utterance.id}"
        if utterance.id in self._ids:
            raise DataError(f"{where} is already in {self.path}; give every utterance its own id")
        if len(latents) == 0 or latents.shape[1] != self.info.latent_dim:
            raise DataError(f"{where} has latents {tuple(latents.shape)}, wanted (1 or more, {self.info.latent_dim})")
        stored = _finite(latents.detach().cpu().to(DTYPES[self.info.dtype]), f"{where} as {self.info.dtype}")
        place = replace(utterance, shard=self._next_shard, offset=self._waiting_frames, frames=len(stored))
        self._waiting.append((place, stored))
        self._waiting_frames += len(stored)
        self._ids.add(utterance.id)
        if self._waiting_frames >= self.info.shard_frames:
            self._publish_shard()

    def finish(self, found: int, problems: Sequence[Problem] = ()) -> LatentStore:
        """Publish the last shard, the lines and the manifest; `found` counts the items of the corpus.

        Raises: ValueError when utterances and problems do not add up to `found`.
        """
        counts = _count(found, len(self._ids), problems)
        if self._waiting:
            self._publish_shard()
        lines = utterance_lines(self._published)
        publish_text(self.path / UTTERANCES, lines)
        self._write_manifest(
            finished=True,
            shards=self._next_shard,
            frames=sum(one.frames for one in self._published),
            seconds=sum(one.seconds for one in self._published),
            counts=counts,
            problems=tuple(problems),
            shard_checksums=tuple(self._checksums),
            utterances_checksum=text_checksum(lines),
        )
        for index in range(self._next_shard):
            noted_checksum(shard_path(self.path, index)).unlink(missing_ok=True)
        return LatentStore.open(self.path)

    def _start(self) -> None:
        make_folder(self.path)
        if not self._shared:
            remove_leftovers(self.path)
        manifest = self.path / MANIFEST
        if not manifest.exists():
            holds = any(self.path.glob("[!.]*" if self._shared else "*"))
            # Looked at again, for a process beside this one may just have begun the store.
            if holds and not manifest.exists():
                raise UsageError(f"{self.path} is no latent store and not empty; choose another folder")
            if not holds:
                self._write_manifest()
        self._go_on(read_manifest(self.path))
        while (path := shard_path(self.path, self._next_shard)).exists():
            checksum = shard_checksum(path)
            if checksum != self._noted(path):
                print(f"warning: {path} is damaged; it and what follows are written again", file=sys.stderr, flush=True)
                break
            self._published += utterances_in_shard(path)
            self._checksums.append(checksum)
            self._next_shard += 1

    def _noted(self, path: Path) -> str:
        """The checksum that a shard had when it was written; empty where nobody knows."""
        try:
            return noted_checksum(path).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            # A process beside this one may have finished the store by now.
            checksums = read_manifest(self.path).shard_checksums
            return checksums[self._next_shard] if self._next_shard < len(checksums) else ""

    def _go_on(self, there: Manifest) -> None:
        self.info.refuse_disagreement(there, self.path)
        if there.finished and not self._shared:
            raise UsageError(f"{self.path} is a finished latent store; open it, or remove it to write it again")
        self._devices = tuple(sorted({*self._devices, *there.devices}))
        if not there.finished and there.devices != self._devices:
            self._write_manifest()

    def _publish_shard(self) -> None:
        utterances = [one for one, _ in self._waiting]
        flat = torch.cat([latents for _, latents in self._waiting])
        self._checksums.append(write_shard(shard_path(self.path, self._next_shard), flat, utterances))
        self._published += utterances
        self._waiting, self._waiting_frames = [], 0
        self._next_shard += 1

    def _write_manifest(self, **outcome: object) -> None:
        manifest = Manifest.model_validate(self.info.model_dump() | {"devices": self._devices} | outcome)
        publish_text(self.path / MANIFEST, manifest.text())


def _count(found: int, ok: int, problems: Sequence[Problem]) -> Counts:
    failed = sum(problem.status == "failed" for problem in problems)
    if ok + len(problems) != found:
        raise ValueError(f"{ok} utterances and {len(problems)} problems do not add up to the {found} items found")
    return Counts(found=found, ok=ok, skipped=len(problems) - failed, failed=failed)


def _finite(values: Tensor, what: str) -> Tensor:
    if not all_finite(values):
        raise DataError(f"{what} has latents that are not finite; check the audio and extract it again")
    return values


def _check_sizes(store: LatentStore) -> None:
    m, remedy = store.manifest, "remove the folder and extract again"
    if len(m.shard_checksums) != m.shards:
        raise DataError(f"{store.path / MANIFEST} has not a checksum for every shard; {remedy}")
    ends = [0] * m.shards
    for row, one in enumerate(store.utterances, start=1):
        if not 0 <= one.shard < m.shards or one.offset != ends[one.shard] or one.frames < 1:
            raise DataError(f"{store.path / UTTERANCES} line {row} ({one.id}) is out of place; {remedy}")
        ends[one.shard] += one.frames
    if len(store._by_id) != len(store) or len(store) != m.counts.ok or sum(ends) != m.frames:
        raise DataError(f"{store.path / UTTERANCES} has not the utterances and frames of {MANIFEST}; {remedy}")
    for index, rows in enumerate(ends):
        check_shard(shard_path(store.path, index), rows, m.latent_dim, m.dtype)
