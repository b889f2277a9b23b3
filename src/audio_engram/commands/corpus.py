"""`engram corpus`: fetch a corpus, or look one over before hours of work."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from audio_engram.commands.options import Subcommands
from audio_engram.errors import DataError, UsageError

if TYPE_CHECKING:
    from audio_engram.data.corpus import Corpus

SHOWN = 10


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    corpus = commands.add_parser("corpus", help="fetch a corpus, or look one over")
    actions = corpus.add_subparsers(dest="action", required=True, metavar="download|check")
    download = actions.add_parser("download", help="fetch subsets of LibriSpeech; goes on where it was cut off")
    download.add_argument("name", choices=("librispeech",))
    download.add_argument("subsets", nargs="+", metavar="SUBSET", help="e.g. dev-clean train-clean-100")
    download.add_argument("--to", type=Path, required=True, metavar="DIR", help="gets a folder LibriSpeech/SUBSET")
    download.add_argument("--mirror", metavar="URL", help="folder of the archives (default openslr.org's)")
    download.add_argument("--json", action="store_true", help="print JSON")
    download.set_defaults(do=_download)
    check = actions.add_parser("check", help="count utterances and speakers, and name files that are missing")
    check.add_argument("spec", help="demo, folder:PATH, librispeech:PATH, manifest:FILE or lhotse:FILE")
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
    from audio_engram.data.corpus import open_corpus

    corpus = open_corpus(options.spec)
    missing = _missing(corpus)
    facts = {
        "utterances": len(corpus),
        "speakers": len(corpus.speakers),
        "most_of_one_speaker": max(Counter(item.speaker for item in corpus.items).values()),
        "subsets": dict(sorted(Counter(item.subset for item in corpus.items if item.subset).items())),
        "missing": len(missing),
    }
    print(json.dumps(facts) if options.json else "\n".join(f"{name:20} {value}" for name, value in facts.items()))
    for line in missing[:SHOWN]:
        print(line, file=sys.stderr)
    if missing:
        raise DataError(f"{len(missing)} of {len(corpus)} utterances have no file, first {missing[0]}; fetch them")
    return 0


def _missing(corpus: "Corpus") -> list[str]:
    """Utterances whose file is not there or empty; the audio is not read."""
    files = [(item.id, item.file) for item in corpus.items]
    return [f"{name}: {file}" for name, file in files if file and not (file.is_file() and file.stat().st_size)]
