"""`engram compare`: finished runs side by side."""

import argparse
import json
import sys

from audio_engram.commands.options import Subcommands, place


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    compare = commands.add_parser("compare", help="set finished runs side by side")
    compare.add_argument("folders", type=place, nargs="+", metavar="RUN", help="two or more run folders")
    compare.add_argument("--metric", default="", help="all records of one metric, e.g. delta_nll (default: a choice)")
    compare.add_argument("--html", type=place, metavar="FILE", help="write a page as well")
    compare.add_argument("--json", action="store_true", help="print JSON")
    compare.set_defaults(do=_compare)


def _compare(options: argparse.Namespace) -> int:
    from audio_engram.report.side_by_side import as_text, compare, write_comparison

    table, cautions = compare(options.folders, options.metric)
    if options.html:
        write_comparison(table, cautions, options.html)
    if options.json:
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        print(json.dumps({"cautions": cautions, "rows": rows}))
        return 0
    for caution in cautions:
        print(f"caution: {caution}", file=sys.stderr)
    print(as_text(table))
    return 0
