"""`engram tables`: the measurements of finished runs for a paper."""

import argparse

from audio_engram.commands.options import Subcommands, place


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    tables = commands.add_parser("tables", help="measurements of finished runs as tables for a paper")
    tables.add_argument("folders", type=place, nargs="+", metavar="RUN", help="run folders")
    tables.add_argument("--latex", action="store_true", required=True, help="as LaTeX, with booktabs and longtable")
    tables.add_argument("--out", type=place, metavar="FILE", help="write here (default: print)")
    tables.set_defaults(do=_tables)


def _tables(options: argparse.Namespace) -> int:
    from audio_engram.data.publish import publish_text
    from audio_engram.report.latex import latex_tables

    text = latex_tables(options.folders)
    if options.out is None:
        print(text, end="")
        return 0
    publish_text(options.out, text)
    print(options.out)
    return 0
