"""`engram train`: train one model of the next increment."""

import argparse
import json
from math import isfinite

from audio_engram.commands.options import Subcommands, add_common, open_run
from audio_engram.errors import NumericalError, UsageError


def add(commands: Subcommands) -> None:
    """Add the command to the parser."""
    train = commands.add_parser("train", help="train one model of the next increment")
    add_common(train)
    train.add_argument("--model", default="mdn", help="mdn, vmf or magnitude (default mdn)")
    train.add_argument("--lag", type=int, default=1, help="frames between context and target (default 1)")
    train.add_argument("--unroll", type=int, default=1, help="train on the model's own states over K steps")
    train.set_defaults(do=_train)


def _train(options: argparse.Namespace) -> int:
    if options.lag < 1 or options.unroll < 1:
        raise UsageError("--lag and --unroll count frames: give 1 or more")
    if options.unroll > 1 and options.lag > 1:
        raise UsageError("--unroll trains next-step prediction: leave --lag at 1")
    from audio_engram.dynamics.model import check_kind

    check_kind(options.model)
    run = open_run(options)
    if options.unroll > 1:
        run.unrolled_model(options.model, options.unroll)
    else:
        run.model(options.model, options.lag)
    best = {name: history.best for name, history in run.histories.items()}
    if never := [name for name, value in best.items() if not isfinite(value)]:
        raise NumericalError(
            f"{', '.join(never)}: no epoch had a finite loss on validation speakers: lower train.learning_rate"
        )
    for name, value in best.items() if not options.json else ():
        print(f"{name}: {value:.3f} nats/frame on validation speakers ({run.folder}/checkpoints/{name}.safetensors)")
    if options.json:
        print(json.dumps(best))
    return 0
