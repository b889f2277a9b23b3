"""`engram run`: encode, measure, decide and report."""

import argparse
import json

from audio_engram.commands.options import Subcommands, add_common, open_run


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    run = commands.add_parser("run", help="encode, measure, decide and write the report")
    add_common(run)
    which = run.add_mutually_exclusive_group()
    which.add_argument("--experiments", metavar="A,B", help="only these experiments")
    for flag, name, words in (
        ("--follow-tree", "tree", "what the decision tree asks for, one after another (default)"),
        ("--all", "all", "every experiment that can be measured here"),
    ):
        which.add_argument(flag, dest="experiments", action="store_const", const=name, help=words)
    run.set_defaults(do=_run)


def _run(options: argparse.Namespace) -> int:
    run = open_run(options)
    from audio_engram.pipeline import climb
    from audio_engram.provenance import default_command

    decision = climb(run, default_command())
    if options.json:
        print(json.dumps(decision.model_dump(mode="json")))
    else:
        print(decision)
        print(f"\nReport: {run.folder / 'report.html'}")
    return 0
