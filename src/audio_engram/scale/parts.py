"""One part of a run's encoding, which schedulers only call; and the merge of all parts into the run's latents."""

import tomllib
from collections.abc import Callable, Iterable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import torch

from audio_engram.codecs.base import Codec, load_codec
from audio_engram.codecs.derived import check_derived
from audio_engram.config import Config, make_config
from audio_engram.data.corpus import Corpus, open_corpus
from audio_engram.data.extract import ExtractConfig, extract_part
from audio_engram.data.manifest import MANIFEST, read_manifest
from audio_engram.data.merge import merge_parts
from audio_engram.data.parts import check_number, plan_part, refuse_no_parts
from audio_engram.data.store import LatentStore
from audio_engram.device import find_device
from audio_engram.errors import DataError, EngramError, MissingError, NumericalError, UsageError, WorkerError
from audio_engram.run_folder import share, take_over

PARTS = "parts"
KINDS = {kind.exit_code: kind for kind in (WorkerError, UsageError, DataError, MissingError, NumericalError)}


@dataclass(frozen=True)
class Task:
    """One part, in a form that travels to another process or machine, which sees the same files."""

    folder: str
    config: str
    """TOML"""
    index: int
    of: int
    place: str
    """Working folder, which relative paths of the configuration start from."""
    threads: int = 1

    @property
    def label(self) -> str:
        """As `--shard` writes it."""
        return f"{self.index}/{self.of}"


@dataclass(frozen=True)
class Outcome:
    """What became of a task: counts, or the one line of its error."""

    label: str
    counts: str = ""
    error: str = ""
    exit_code: int = 0


Engine = Callable[[list[Task]], Iterable[Outcome]]
"""Carries out tasks anywhere, in any order, and yields each outcome as it comes."""


def encode_part(folder: Path, config: Config, index: int, of: int) -> LatentStore:
    """Encode part `index` of `of` into `folder`/parts; done already, it is only looked at.

    Raises: EngramError as a run does.
    """
    corpus, codec, settings = open_corpus_and_codec(config, config.device)
    part = plan_part(len(corpus), index, of, settings)
    share(folder, config)
    check_number(folder / PARTS, of)
    return extract_part(corpus, codec, folder / PARTS, part, settings)


def merge(folder: Path, config: Config) -> LatentStore:
    """Merge the parts in `folder`/parts into `folder`/latents, and make the run this configuration's.

    The codec is only asked who it is, so the machine need not have the configuration's device.

    Raises: DataError and UsageError as `merge_parts` does.
    """
    corpus, codec, settings = open_corpus_and_codec(config, "cpu")
    refuse_no_parts(folder / PARTS)  # before the folder is made this configuration's
    take_over(folder, config)
    return merge_parts(corpus, codec, folder / PARTS, folder / "latents", settings)


def encode_on(engine: Engine, folder: Path, config: Config, of: int, threads: int, log: Callable[[str], None]) -> None:
    """Let `engine` encode the parts that are not finished yet, from a machine that need not have their device.

    Raises: the first failed part's error, after all others have been tried.
    """
    corpus, _, settings = open_corpus_and_codec(
        config, "cpu"
    )  # what is wrong with these must show before anything is scheduled
    plan = [plan_part(len(corpus), index, of, settings) for index in range(1, of + 1)]
    share(folder, config)
    check_number(folder / PARTS, of)
    todo = [part.index for part in plan if not _is_finished(folder / PARTS / part.folder)]
    log(f"encode: {of - len(todo)} of {of} parts are there")
    place = str(Path.cwd())
    tasks = [Task(str(folder.absolute()), config.toml(), index, of, place, threads) for index in todo]
    failed = []
    for done, outcome in enumerate(engine(tasks) if tasks else (), start=of - len(todo) + 1):
        log(f"encode: part {outcome.label}: {outcome.error or outcome.counts} ({done} of {of} parts)")
        failed += [outcome] if outcome.error else []
    if failed:
        first = min(failed, key=lambda one: int(one.label.partition("/")[0]))
        raise KINDS[first.exit_code](
            f"{len(failed)} of {of} parts failed; part {first.label}: {first.error};"
            " the others are kept: mend it and give the same command again"
        )


def carry_out(task: Task) -> Outcome:
    """Do a task here. A mendable problem is an outcome; anything else is the scheduler's to report."""
    torch.set_num_threads(task.threads)
    try:
        with chdir(task.place):
            config = make_config(tomllib.loads(task.config))
            store = encode_part(Path(task.folder), config, task.index, task.of)
    except EngramError as error:
        return Outcome(task.label, error=str(error), exit_code=error.exit_code)
    return Outcome(task.label, counts=counts_text(store))


def counts_text(store: LatentStore) -> str:
    """The items of a store by outcome."""
    counts = store.manifest.counts
    return f"{counts.found} found = {counts.ok} ok + {counts.skipped} skipped + {counts.failed} failed"


def open_corpus_and_codec(config: Config, device: str) -> tuple[Corpus, Codec, ExtractConfig]:
    """What a configuration encodes, with which codec and how.

    Raises: EngramError as a run does, and UsageError for what is no audio.
    """
    if config.data.corpus.startswith(("world:", "latents:")):
        raise UsageError(f"data.corpus: {config.data.corpus} is no audio to be encoded: it has no parts")
    codec = load_codec(config.codec).to(find_device(device)).eval()
    check_derived(codec, config.codec)
    return open_corpus(config.data.corpus), codec, ExtractConfig(max_failed=config.data.max_failed)


def _is_finished(folder: Path) -> bool:
    return (folder / MANIFEST).exists() and read_manifest(folder).finished
