"""`engram encode`: extract the latents of a corpus and stop there; all of it, one part, or all parts by a scheduler."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from audio_engram.commands.options import Subcommands, add_common, find_folder, open_run, read_options
from audio_engram.config import ENCODING, Config, read_config
from audio_engram.errors import UsageError

if TYPE_CHECKING:
    from audio_engram.data.store import LatentStore
    from audio_engram.scale.parts import Engine

OF_ENGINES = {
    "shards": ("ray", "slurm"),
    "cpus_per_task": ("ray", "slurm"),
    "gpus_per_task": ("ray", "slurm"),
    "address": ("ray",),
    "cluster": ("slurm",),
    "partition": ("slurm",),
    "minutes": ("slurm",),
}


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    encode = commands.add_parser("encode", help="extract the latents of a corpus and stop there")
    add_common(encode)
    _add_parts(encode)
    encode.set_defaults(do=_encode)


def _add_parts(encode: argparse.ArgumentParser) -> None:
    parts = encode.add_argument_group("in parts", "N parts, merged, are the bytes of one process; see docs/scale.md")
    how = parts.add_mutually_exclusive_group()
    how.add_argument("--shard", metavar="I/N", help="encode part I of N (from 1/N to N/N) into OUT/parts; resumes")
    how.add_argument("--merge", action="store_true", help="prove that all parts are there, and join them")
    how.add_argument("--engine", choices=("ray", "slurm"), help="let Ray or Slurm encode the parts, then merge them")
    parts.add_argument("--remove-parts", action="store_true", help="delete the parts after the merge")
    parts.add_argument("--shards", type=int, metavar="N", help="with --engine: number of parts")
    parts.add_argument("--cpus-per-task", type=int, metavar="K", help="with --engine: cores for a part (default 1)")
    parts.add_argument("--gpus-per-task", type=int, metavar="K", help="with --engine: GPUs for a part (default 0)")
    parts.add_argument("--address", help="Ray: local (default; a cluster of this machine), auto or HOST:PORT")
    parts.add_argument("--cluster", choices=("slurm", "local"), help="Slurm: local runs the jobs on this machine")
    parts.add_argument("--partition", help="Slurm: the partition")
    parts.add_argument("--minutes", type=int, metavar="M", help="Slurm: time limit of a part (default 1440)")


def _encode(options: argparse.Namespace) -> int:
    _check(options)
    in_parts = options.shard is not None or options.merge or options.engine
    store = _encode_parts(options) if in_parts else open_run(options).store
    counts = store.manifest.counts
    facts = {"latents": str(store.path), **counts.model_dump(), "frames": store.manifest.frames}
    for problem in store.manifest.problems:
        print(f"{problem.status}: {problem.id}: {problem.reason}", file=sys.stderr)
    text = (
        f"{counts.found} found = {counts.ok} ok + {counts.skipped} skipped + {counts.failed} failed; "
        f"{store.manifest.frames} frames in {store.path}"
    )
    print(json.dumps(facts) if options.json else text)
    if (derived := _derived(store.path.parent / "config.toml")) and not options.json:
        print(f"The store holds the codec's own latents; {', '.join(derived)} are applied when they are read.")
    return 0


def _derived(config: Path) -> list[str]:
    """Settings that do not change what is stored; a part's folder has no configuration."""
    if not config.is_file():
        return []
    said = read_config(config).codec.model_dump(exclude_defaults=True, exclude=set(ENCODING))
    return [f"codec.{name}" for name in said]


def _check(options: argparse.Namespace) -> None:
    """Raises: UsageError for options that would be ignored."""
    for name, engines in OF_ENGINES.items():
        value = getattr(options, name)
        if value is None:
            continue
        flag = "--" + name.replace("_", "-")
        if options.engine not in engines:
            raise UsageError(f"{flag}: needs --engine {' or '.join(engines)}")
        least = 0 if name == "gpus_per_task" else 1
        if isinstance(value, int) and value < least:
            raise UsageError(f"{flag} {value}: give {least} or more")
    if options.engine and options.shards is None:
        raise UsageError(f"--engine {options.engine}: say with --shards N into how many parts to cut the corpus")
    if options.remove_parts and not (options.merge or options.engine):
        raise UsageError("--remove-parts: needs --merge or --engine")
    if options.overwrite and (options.shard is not None or options.merge):
        raise UsageError("--overwrite: deletes what other parts wrote: leave it out, --shard and --merge always resume")


def _encode_parts(options: argparse.Namespace) -> "LatentStore":
    from audio_engram.data.parts import read_part

    part = read_part(options.shard) if options.shard is not None else None
    config = read_options(options)
    folder = find_folder(options, config)
    from audio_engram.scale.parts import PARTS, encode_part, merge

    if part:
        return encode_part(folder, config, *part)
    if options.engine:
        _schedule(options, folder, config)
    store = merge(folder, config)
    if len(store.manifest.devices) > 1:
        kinds = " and ".join(store.manifest.devices)
        print(f"warning: encoded on {kinds}: they may differ in the last bit of a latent", file=sys.stderr)
    if options.remove_parts:
        from audio_engram.data.merge import verify_merged
        from audio_engram.data.parts import remove_parts

        verify_merged(store)  # it may have been merged long ago
        remove_parts(folder / PARTS)
    return store


def _schedule(options: argparse.Namespace, folder: Path, config: Config) -> None:
    from audio_engram.run_folder import clear
    from audio_engram.scale.parts import encode_on, open_corpus_and_codec

    engine = _engine(options, folder)  # before anything is deleted: its package may be missing
    if options.overwrite:
        open_corpus_and_codec(config, "cpu")  # so may they
        clear(folder)
    with redirect_stdout(sys.stderr):  # on which Ray also says what becomes of its workers
        encode_on(engine, folder, config, options.shards, options.cpus_per_task or 1, _log)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _engine(options: argparse.Namespace, folder: Path) -> "Engine":
    given = {"cpus": options.cpus_per_task, "gpus": options.gpus_per_task}
    if options.engine == "ray":
        from audio_engram.scale.on_ray import OnRay

        given |= {"address": options.address}
        return OnRay(**{key: value for key, value in given.items() if value is not None})
    from audio_engram.data.parts import LOGS
    from audio_engram.scale.on_slurm import OnSlurm
    from audio_engram.scale.parts import PARTS

    given |= {"cluster": options.cluster, "partition": options.partition, "minutes": options.minutes}
    logs = (folder / PARTS / LOGS).absolute()
    return OnSlurm(logs, **{key: value for key, value in given.items() if value is not None})
