"""`engram codec`: list codecs, or check one."""

import argparse
import json
from typing import TYPE_CHECKING

from audio_engram.commands.options import Subcommands, add_settings
from audio_engram.config import read_config
from audio_engram.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from audio_engram.config import CodecConfig

WITHOUT_RANDOM = {"mel": "it has no weights", "lyra": "it is checked with real ones: --set codec.weights=FILE"}
DEMO_UTTERANCES = 4


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    codec = commands.add_parser("codec", help="list codecs, or check one against the conformance suite")
    actions = codec.add_subparsers(dest="action", required=True, metavar="list|check")
    listing = actions.add_parser("list", help="codecs that can be named: rates, dimensions, weights, extras")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(do=_codec_list)
    check = actions.add_parser("check", help="look-ahead, batching, padding, round trip, ...")
    check.add_argument("name", help="a codec's name, or package.module:Class")
    weights = check.add_mutually_exclusive_group()
    weights.add_argument(
        "--random", action="store_true", help="small random weights: checks the adapter; sound is measured, not judged"
    )
    weights.add_argument(
        "--real", action="store_true", help="weights from codec.weights or the hub, heard on the demo corpus as well"
    )
    add_settings(check)
    check.set_defaults(do=_codec_check)


def _codec_list(options: argparse.Namespace) -> int:
    from audio_engram.codecs.catalogue import format_catalogue, read_catalogue

    entries = read_catalogue()
    print(json.dumps({e.name: e.facts() for e in entries}) if options.json else format_catalogue(entries))
    return 0


def _codec_check(options: argparse.Namespace) -> int:
    if options.random and options.name in WITHOUT_RANDOM:
        raise UsageError(f"--random: {options.name} takes no random weights, {WITHOUT_RANDOM[options.name]}")
    seed = options.seed or 0
    given = {"codec.name": options.name} | ({"codec.options.random_seed": seed} if options.random else {})
    config = read_config(options.config, tuple(options.settings), given)
    from audio_engram.codecs.base import load_codec
    from audio_engram.codecs.check_result import format_checks, without_sound
    from audio_engram.codecs.conformance import check_codec
    from audio_engram.codecs.derived import with_rate

    _refuse_fitted(config.codec)
    codec = with_rate(load_codec(config.codec), config.codec)
    results = check_codec(codec, seed, _demo_speech(codec.sample_rate) if options.real else None)
    if options.random:
        results = without_sound(results, "random weights")
    if options.json:
        print(json.dumps([vars(r) for r in results], default=str))
    else:
        print(format_checks(results))
    failed = [r.name for r in results if not r.ok]
    if failed:
        raise UsageError(f"codec {codec.name}: failed {', '.join(failed)}: mend the codec, see the table above")
    return 0


def _refuse_fitted(codec: "CodecConfig") -> None:
    """Nothing that is set is ignored: what changes latents after encoding is no part of the check."""
    for name in ("smooth", "hybrid", "smoother", "pca", "whiten"):
        if getattr(codec, name) != type(codec).model_fields[name].default:
            raise UsageError(f"codec.{name}: the check is of the codec itself: leave it out")


def _demo_speech(sample_rate: int) -> "Tensor":
    """A few utterances of the demo corpus, far apart in it, one after another."""
    import torch

    from audio_engram.data.embedded import open_demo

    items = open_demo().items
    return torch.cat([item.audio(sample_rate) for item in items[:: len(items) // DEMO_UTTERANCES]])
