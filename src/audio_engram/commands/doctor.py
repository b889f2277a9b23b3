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
    from audio_engram.doctor import examine, examine_extras

    facts, problems = examine()
    extras = examine_extras()
    if options.json:
        print(json.dumps({"facts": facts, "problems": problems, "extras": extras}))
    else:
        print("\n".join(f"{name:14} {value}" for name, value in facts.items()))
        for name, extra in extras.items():
            state = extra["remedy"] or f"{extra['package']} {extra['version']}"
            print(f"{f'extra {name}':14} {state} (for {extra['for']})")
        print("\n".join(f"missing: {p}" for p in problems) or _nothing(extras))
    if problems:
        things = "1 thing is" if len(problems) == 1 else f"{len(problems)} things are"
        raise MissingError(f"{things} missing: the lines above say how to get what is")
    return 0


def _nothing(extras: dict[str, dict[str, str]]) -> str:
    absent = [name for name, extra in extras.items() if extra["remedy"]]
    if not absent:
        return "Nothing is missing."
    return f"Nothing that every run needs is missing; of the optional extras: {', '.join(absent)}."
