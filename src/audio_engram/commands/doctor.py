"""`engram doctor`: versions, device, and what is missing."""

import argparse
import json

from audio_engram.commands.options import Subcommands
from audio_engram.errors import MissingError


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    doctor = commands.add_parser("doctor", help="versions, device, and what is missing with its remedy")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(do=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from audio_engram.doctor import examine

    facts, problems = examine()
    if options.json:
        print(json.dumps({"facts": facts, "problems": problems}))
    else:
        print("\n".join(f"{name:14} {value}" for name, value in facts.items()))
        print("\n".join(f"missing: {p}" for p in problems) or "Nothing is missing.")
    if problems:
        raise MissingError(f"{len(problems)} things are missing: the lines above say how to get them")
    return 0
