"""`engram tables`: finished runs as tables for a paper."""

import argparse

from audio_engram.commands.options import Subcommands, place

DESCRIPTION = """\
The findings of finished runs and the tables of their report, as LaTeX for \\input or to copy from.
The document needs \\usepackage[utf8]{inputenc} and \\usepackage{booktabs,graphicx}.
Labels are tab:findings, tab:predictability-1 and so on; of several runs tab:run1-findings and so on."""


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    tables = commands.add_parser(
        "tables",
        help="finished runs as tables for a paper",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tables.add_argument("folders", type=place, nargs="+", metavar="RUN", help="run folders")
    tables.add_argument("--latex", action="store_true", required=True, help="as LaTeX; there is no other form")
    tables.add_argument("--experiments", metavar="A,B", help="only these, e.g. predictability,stability (default: all)")
    long = tables.add_mutually_exclusive_group()
    long.add_argument("--all", action="store_true", help="in place of these every measurement: long")
    long.add_argument("--metric", default="", metavar="NAME", help="every measurement of one metric, e.g. delta_nll")
    tables.add_argument("--out", type=place, metavar="FILE", help="write here (default: print)")
    tables.set_defaults(do=_tables)


def _tables(options: argparse.Namespace) -> int:
    from audio_engram.data.publish import publish_text
    from audio_engram.report.latex import latex_tables

    names = () if options.experiments is None else options.experiments.split(",")
    text = latex_tables(options.folders, names, options.all, options.metric)
    if options.out is None:
        print(text, end="")
        return 0
    publish_text(options.out, text)
    print(options.out)
    return 0
