"""`engram report`: write report.html again."""

import argparse
import json

from audio_engram.commands.options import Subcommands, place


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    report = commands.add_parser("report", help="write report.html again from a finished run")
    report.add_argument("folder", type=place, help="the run's folder")
    report.add_argument("--json", action="store_true", help="print JSON")
    report.set_defaults(do=_report)


def _report(options: argparse.Namespace) -> int:
    from audio_engram.report.page import write_report

    path = write_report(options.folder)
    print(json.dumps({"report": str(path)}) if options.json else path)
    return 0
