"""`engram settings`: every setting with its default and its meaning."""

import argparse
import json
from typing import Any

from audio_engram.commands.options import Subcommands


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    settings = commands.add_parser("settings", help="every setting with its default and its meaning, as TOML")
    settings.add_argument("--json", action="store_true", help="print JSON")
    settings.set_defaults(do=_settings)


def _settings(options: argparse.Namespace) -> int:
    from audio_engram.settings import settings_as_toml

    print(json.dumps(_facts()) if options.json else settings_as_toml(), end="\n" if options.json else "")
    return 0


def _facts() -> dict[str, dict[str, Any]]:
    from audio_engram.settings import describe_settings

    return {
        f"{section.name}.{one.key}".lstrip("."): {
            "default": json.loads(one.default),
            "allowed": one.allowed,
            "meaning": one.meaning,
        }
        for section in describe_settings()
        for one in section.settings
    }
