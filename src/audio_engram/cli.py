"""The command `engram`. Results go to stdout, progress to stderr; PyTorch is imported only where it is needed."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from audio_engram import __version__
from audio_engram.config import Config, read_config
from audio_engram.data.publish import FULL
from audio_engram.errors import DataError, EngramError, MissingError, UsageError

if TYPE_CHECKING:
    from audio_engram.runs import Run

BUG, INTERRUPT = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code = int(options.do(options) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be said that it failed
        return code
    except EngramError as error:
        print(f"engram: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("engram: interrupted; finished work is kept: go on with --resume", file=sys.stderr)
        return INTERRUPT
    except BrokenPipeError:
        # The reader of stdout has left (`engram ... | head`); there is nobody to tell.
        _drop_stdout()
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        _drop_stdout()
        print(f"engram: disk full ({error.strerror}); free some space and go on with --resume", file=sys.stderr)
        return DataError.exit_code


def _drop_stdout() -> None:
    """What is left in its buffer would fail again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here is said."""

    def error(self, message: str) -> NoReturn:
        """Leave with the exit code of a wrong option."""
        self.exit(UsageError.exit_code, f"engram: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="engram",
        description="Find out why a continuous-latent audio model drifts or freezes. "
        "`engram run` without arguments is the demo.",
        epilog="Exit codes: 0 done (whatever the verdict), 1 bug, 2 usage or configuration, 3 data, "
        "4 something missing, 5 numerical failure, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"engram {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_encode(commands)
    _add_train(commands)
    _add_report(commands)
    _add_codec(commands)
    doctor = commands.add_parser("doctor", help="versions, device, and what is missing with its remedy")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(do=_doctor)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="encode, measure, decide and write the report")
    _add_common(run)
    run.add_argument("--experiments", metavar="A,B", help="only these experiments")
    run.set_defaults(do=_run)


def _add_encode(commands: Any) -> None:
    encode = commands.add_parser("encode", help="extract the latents of a corpus and stop there")
    _add_common(encode)
    encode.set_defaults(do=_encode)


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train one model of the next increment")
    _add_common(train)
    train.add_argument("--model", default="mdn", help="mdn, vmf or magnitude (default mdn)")
    train.add_argument("--lag", type=int, default=1, help="frames between context and target (default 1)")
    train.add_argument("--unroll", type=int, default=1, help="train on the model's own states over K steps")
    train.set_defaults(do=_train)


def _add_report(commands: Any) -> None:
    report = commands.add_parser("report", help="write report.html again from a finished run")
    report.add_argument("folder", type=Path, help="the run's folder")
    report.add_argument("--json", action="store_true", help="print JSON")
    report.set_defaults(do=_report)


def _add_codec(commands: Any) -> None:
    codec = commands.add_parser("codec", help="list codecs, or check one against the conformance suite")
    actions = codec.add_subparsers(dest="action", required=True, metavar="list|check")
    listing = actions.add_parser("list", help="codecs that can be named")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(do=_codec_list)
    check = actions.add_parser("check", help="look-ahead, batching, padding, round trip, ...")
    check.add_argument("name", help="a codec's name, or package.module:Class")
    _add_settings(check)
    check.set_defaults(do=_codec_check)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="a TOML file")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. model.width=512",
    )
    parser.add_argument("--seed", type=int, help="root seed of every random stream")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default auto")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", help="demo, librispeech:PATH, folder:PATH or world:NAME (default: the demo corpus)")
    parser.add_argument("--codec", help="see `engram codec list` (default mel)")
    parser.add_argument("--out", type=Path, help="the run's folder (default runs/CORPUS-CODEC)")
    parser.add_argument("--max-failed", type=float, metavar="SHARE", help="failed inputs allowed (default 0.01)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run in --out")
    again.add_argument("--overwrite", action="store_true", help="delete the run in --out first")
    _add_settings(parser)


def _config(options: argparse.Namespace) -> Config:
    """The file and the settings, with the plain options on top; nothing at all is the demo."""
    settings = list(options.settings)
    for key, name in (("data.corpus", "corpus"), ("codec.name", "codec")):
        if getattr(options, name, None) is not None:
            settings.append(f"{key}={json.dumps(getattr(options, name))}")
    for key, name in (("seed", "seed"), ("device", "device"), ("data.max_failed", "max_failed")):
        if getattr(options, name, None) is not None:
            settings.append(f"{key}={getattr(options, name)}")
    if getattr(options, "experiments", None):
        settings.append(f"experiments.names={json.dumps(options.experiments.split(','))}")
    return read_config(options.config or _demo_config(options), tuple(settings))


def _demo_config(options: argparse.Namespace) -> Path | None:
    """The small settings that fit the small demo corpus; any other corpus gets the defaults."""
    is_demo = getattr(options, "corpus", None) in (None, "demo")
    return Path(str(files("audio_engram").joinpath("demo.toml"))) if is_demo else None


def _open_run(options: argparse.Namespace) -> "Run":
    config = _config(options)
    # After the configuration is read: a wrong option need not wait for PyTorch.
    from audio_engram.experiments import check_names
    from audio_engram.runs import Run

    check_names(config.experiments.names)
    folder = options.out or Path("runs") / _folder_name(config)
    return Run(folder, config, resume=options.resume, overwrite=options.overwrite)


def _folder_name(config: Config) -> str:
    corpus = config.data.corpus.rstrip("/").replace(":", "-").rpartition("/")[2]
    if config.data.corpus.startswith("world:"):
        return corpus
    return f"{corpus}-{config.codec.name}".replace(":", "-").replace("/", "-")


def _run(options: argparse.Namespace) -> int:
    run = _open_run(options)
    from audio_engram.pipeline import climb, default_command

    decision = climb(run, default_command())
    if options.json:
        print(decision.model_dump_json())
    else:
        print(decision)
        print(f"\nReport: {run.folder / 'report.html'}")
    return 0


def _encode(options: argparse.Namespace) -> int:
    run = _open_run(options)
    store = run.store
    counts = store.manifest.counts
    facts = {"latents": str(store.path), **counts.model_dump(), "frames": store.manifest.frames}
    for problem in store.manifest.problems:
        print(f"{problem.status}: {problem.id}: {problem.reason}", file=sys.stderr)
    text = (
        f"{counts.found} found = {counts.ok} ok + {counts.skipped} skipped + {counts.failed} failed; "
        f"{store.manifest.frames} frames in {store.path}"
    )
    print(json.dumps(facts) if options.json else text)
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.lag < 1 or options.unroll < 1:
        raise UsageError("--lag and --unroll count frames: give 1 or more")
    if options.unroll > 1 and options.lag > 1:
        raise UsageError("--unroll trains next-step prediction: leave --lag at 1")
    from audio_engram.dynamics.model import check_kind

    check_kind(options.model)
    run = _open_run(options)
    if options.unroll > 1:
        run.unrolled_model(options.model, options.unroll)
    else:
        run.model(options.model, options.lag)
    best = {name: history.best for name, history in run.histories.items()}
    for name, value in best.items() if not options.json else ():
        print(f"{name}: {value:.3f} nats/frame on validation speakers ({run.folder}/checkpoints/{name}.safetensors)")
    if options.json:
        print(json.dumps(best))
    return 0


def _report(options: argparse.Namespace) -> int:
    from audio_engram.report.page import write_report

    path = write_report(options.folder)
    print(json.dumps({"report": str(path)}) if options.json else path)
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
