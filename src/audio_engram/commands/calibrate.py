"""`engram calibrate`: the experiments on worlds whose answers are known."""

import argparse
import json
import os
import sys
from pathlib import Path

from audio_engram.commands.options import Subcommands, place
from audio_engram.errors import UsageError

QUICK, FULL = 4, 200


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    calibrate = commands.add_parser("calibrate", help="ask the experiments about worlds whose answers are known")
    calibrate.add_argument("--quick", action="store_true", help=f"{QUICK} null worlds instead of {FULL}")
    calibrate.add_argument("--seeds", type=int, metavar="N", help="so many null worlds of each experiment")
    calibrate.add_argument("--jobs", type=int, metavar="N", help="processes at a time (default: one for each core)")
    calibrate.add_argument("--only", metavar="A,B", help="only these experiments")
    calibrate.add_argument("--out", type=place, default=Path("runs/calibration"), help="default runs/calibration")
    calibrate.add_argument("--overwrite", action="store_true", help="forget the trials (of --only) in --out")
    calibrate.add_argument("--json", action="store_true", help="print JSON")
    calibrate.set_defaults(do=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    if options.quick and options.seeds is not None:
        raise UsageError("--quick: says the number of seeds: leave --seeds out")
    seeds = options.seeds if options.seeds is not None else QUICK if options.quick else FULL
    for name, value in (("--seeds", seeds), ("--jobs", 1 if options.jobs is None else options.jobs)):
        if value < 1:
            raise UsageError(f"{name} {value}: give 1 or more")
    from audio_engram.calibration import calibrate, described, plan_of, summary
    from audio_engram.provenance import default_command
    from audio_engram.report.calibrated import as_text, write_page
    from audio_engram.trials import clear

    only = [] if options.only is None else options.only.split(",")
    plan = plan_of(only)
    if options.overwrite:
        clear(options.out, only)
    calibrate(options.out, seeds, options.jobs or os.cpu_count() or 1, _log, plan)
    found = summary(options.out, seeds, plan)
    facts = described(options.out, found)
    write_page(options.out / "calibration.html", found, seeds, default_command())
    print(json.dumps(facts) if options.json else as_text(found))
    if not options.json:
        print(f"\nReport: {options.out / 'calibration.html'}")
    return 0


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
