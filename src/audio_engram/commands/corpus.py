"""`engram corpus`: fetch a corpus, or look one over before hours of work."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from os.path import getsize, isfile
from typing import TYPE_CHECKING, Any

from audio_engram.commands.options import Subcommands, place
from audio_engram.config import DataConfig
from audio_engram.errors import DataError, UsageError

if TYPE_CHECKING:
    from audio_engram.data.arrays import ArrayItem
    from audio_engram.data.corpus import Corpus, CorpusItem

SHOWN = 10


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    corpus = commands.add_parser("corpus", help="fetch a corpus, or look one over")
    actions = corpus.add_subparsers(dest="action", required=True, metavar="download|check")
    download = actions.add_parser("download", help="fetch subsets of LibriSpeech; goes on where it was cut off")
    download.add_argument("name", choices=("librispeech",))
    download.add_argument("subsets", nargs="+", metavar="SUBSET", help="e.g. dev-clean train-clean-100")
    download.add_argument("--to", type=place, required=True, metavar="DIR", help="gets a folder LibriSpeech/SUBSET")
    download.add_argument(
        "--mirror",
        metavar="URL|DIR",
        help="another server, or a local folder, that has the archives (default: openslr.org)",
    )
    download.add_argument("--json", action="store_true", help="print JSON")
    download.set_defaults(do=_download)
    check = actions.add_parser("check", help="count utterances and speakers, and name files that are missing")
    check.add_argument("spec", help="demo, folder:PATH, librispeech:PATH, manifest:FILE, lhotse:FILE or latents:FOLDER")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(do=_check)


def _download(options: argparse.Namespace) -> int:
    from audio_engram.data.librispeech import SERVER, SUBSETS, download_librispeech

    if unknown := [subset for subset in options.subsets if subset not in SUBSETS]:
        raise UsageError(f"LibriSpeech has no subset {unknown[0]!r}; known: {', '.join(SUBSETS)}")
    fetched = {s: download_librispeech(s, options.to, options.mirror or SERVER) for s in options.subsets}
    if options.json:
        print(json.dumps({"corpus": f"librispeech:{options.to}", "fetched": fetched}))
        return 0
    for subset, new in fetched.items():
        print(f"{options.to / 'LibriSpeech' / subset}{'' if new else ' (was there)'}")
    print(f"use it with --corpus librispeech:{options.to}")
    return 0


def _check(options: argparse.Namespace) -> int:
    if options.spec.startswith("world:"):
        raise UsageError(f"{options.spec}: is drawn when a run begins, so there is nothing to check")
    facts, problems, remedy = (_arrays if options.spec.startswith("latents:") else _recordings)(options.spec)
    print(json.dumps(facts) if options.json else "\n".join(f"{key:20} {_words(facts, key)}" for key in facts))
    for line in problems[:SHOWN]:
        print(line, file=sys.stderr)
    if problems:
        raise DataError(f"{len(problems)} of {facts['utterances']} utterances {remedy.format(problems[0])}")
    return 0


def _recordings(spec: str) -> tuple[dict[str, Any], list[str], str]:
    from audio_engram.data.corpus import open_corpus

    corpus = open_corpus(spec)
    missing = _missing(corpus)
    return _people(corpus.items) | {"missing": len(missing)}, missing, "have no file, first {}; fetch them"


def _arrays(spec: str) -> tuple[dict[str, Any], list[str], str]:
    """Every array is read, for only its numbers tell whether it is finite."""
    from audio_engram.data.arrays import named_arrays
    from audio_engram.data.progress import Progress

    arrays = named_arrays(spec)
    frames, problems = 0, []
    with Progress(f"read {arrays.name}", len(arrays)) as progress:
        for item in arrays.items:
            try:
                frames += len(arrays.load(item))
            except DataError as error:
                problems.append(str(error))
            progress.step(1)
    found = {"D": arrays.latent_dim, "dtype": arrays.dtype, "frames": frames, "problems": len(problems)}
    return _people(arrays.items) | found, problems, "cannot be used, first {}"


def _people(items: "Sequence[CorpusItem | ArrayItem]") -> dict[str, Any]:
    speakers = Counter(item.speaker for item in items)
    return {
        "utterances": len(items),
        "speakers": len(speakers),
        "most_of_one_speaker": max(speakers.values()),
        "held_out": _held_out(list(speakers)),
        "subsets": dict(sorted(Counter(item.subset for item in items if item.subset).items())),
    }


def _held_out(speakers: list[str]) -> int:
    """How many would be test speakers by default; none if there are too few to divide."""
    from audio_engram.data.splits import split_speakers

    data = DataConfig()
    try:
        splits = split_speakers(dict.fromkeys(speakers, 1), data.validation, data.test)
    except DataError:
        return 0
    return sum(split == "test" for split in splits.values())


def _words(facts: dict[str, Any], key: str) -> str:
    from audio_engram.decision import MIN_SPEAKERS

    value = facts[key]
    if key == "subsets":
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    if key != "held_out":
        return str(value)
    what = "enough" if value >= MIN_SPEAKERS else "too few" if value else "too few to divide, and"
    held_out = f"{value} speaker{'' if value == 1 else 's'} at data.test = {DataConfig().test:g}"
    return f"{held_out}: {what} for verdicts, which need {MIN_SPEAKERS}"


def _missing(corpus: "Corpus") -> list[str]:
    """Utterances whose file is not there or empty; the audio is not read."""
    files = [(item.id, item.file) for item in corpus.items]
    return [f"{name}: {file}" for name, file in files if file and not (isfile(file) and getsize(file))]
