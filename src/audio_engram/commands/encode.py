"""`engram encode`: extract the latents of a corpus and stop there."""

import argparse
import json
import sys

from audio_engram.commands.options import Subcommands, add_common, open_run


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    encode = commands.add_parser("encode", help="extract the latents of a corpus and stop there")
    add_common(encode)
    encode.set_defaults(do=_encode)


def _encode(options: argparse.Namespace) -> int:
    run = open_run(options)
    store = run.store
    counts = store.manifest.counts
    facts = {"latents": str(store.path), **counts.model_dump(), "frames": store.manifest.frames}
    for problem in store.manifest.problems:
        print(f"{problem.status}: {problem.id}: {problem.reason}", file=sys.stderr)
    text = (
        f"{counts.found} found = {counts.ok} ok + {counts.skipped} skipped + {counts.failed} failed; "
        f"{store.manifest.frames} frames in {store.path}"
    )
    print(json.dumps(facts) if options.json else text)
    return 0
