"""`engram codec`: list codecs, or check one."""

import argparse
import json

from audio_engram.commands.options import Subcommands, add_settings
from audio_engram.config import read_config
from audio_engram.errors import UsageError


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    codec = commands.add_parser("codec", help="list codecs, or check one against the conformance suite")
    actions = codec.add_subparsers(dest="action", required=True, metavar="list|check")
    listing = actions.add_parser("list", help="codecs that can be named")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(do=_codec_list)
    check = actions.add_parser("check", help="look-ahead, batching, padding, round trip, ...")
    check.add_argument("name", help="a codec's name, or package.module:Class")
    add_settings(check)
    check.set_defaults(do=_codec_check)


def _codec_list(options: argparse.Namespace) -> int:
    from audio_engram.codecs.base import list_codecs

    codecs = list_codecs()
    if options.json:
        print(json.dumps(codecs))
    else:
        print("\n".join(f"{name:10} {where}" for name, where in codecs.items()))
    return 0


def _codec_check(options: argparse.Namespace) -> int:
    settings = (*options.settings, f"codec.name={json.dumps(options.name)}")
    config = read_config(options.config, settings)
    from audio_engram.codecs.base import load_codec
    from audio_engram.codecs.conformance import check_codec, format_checks

    codec = load_codec(config.codec)
    results = check_codec(codec, seed=options.seed or 0)
    if options.json:
        print(json.dumps([vars(r) for r in results], default=str))
    else:
        print(format_checks(results))
    failed = [r.name for r in results if not r.ok]
    if failed:
        raise UsageError(f"codec {codec.name}: failed {', '.join(failed)}: mend the codec, see the table above")
    return 0
