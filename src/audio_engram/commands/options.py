"""The options that several commands share, and what they amount to: a configuration and a run."""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audio_engram.config import Config, read_config
from audio_engram.data.publish import check_name
from audio_engram.errors import UsageError

if TYPE_CHECKING:
    from audio_engram.runs import Run

Subcommands = Any  # argparse's own type for it is private
PLAIN = {
    "data.corpus": "corpus",
    "codec.name": "codec",
    "seed": "seed",
    "device": "device",
    "data.max_failed": "max_failed",
}
"""Keys of the configuration that have an option of their own."""
DESCRIBING = ("config", "settings", "corpus", "latents", "codec", "experiments")
"""Options that say what run is meant, where that is not the one that stands in --out."""


def place(text: str) -> Path:
    """A path as an option gives it."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a path")
    try:
        check_name(Path(text))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of every command that has a configuration."""
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


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command that works in a run's folder."""
    parser.add_argument(
        "--corpus",
        help="demo, librispeech:PATH, folder:PATH, manifest:FILE, lhotse:FILE, latents:FOLDER or world:NAME"
        " (default demo)",
    )
    parser.add_argument(
        "--latents", metavar="FOLDER", help="arrays instead of audio and a codec: --corpus latents:FOLDER"
    )
    parser.add_argument("--codec", help="see `engram codec list` (default mel)")
    parser.add_argument("--out", type=place, help="the run's folder (default runs/CORPUS-CODEC)")
    parser.add_argument("--max-failed", type=float, metavar="SHARE", help="failed inputs allowed (default 0.01)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on with the run in --out; by itself, with its settings"
    )
    again.add_argument("--overwrite", action="store_true", help="delete the run in --out first")
    add_settings(parser)


def read_options(options: argparse.Namespace) -> Config:
    """The file and the settings, with the plain options on top; nothing at all is the run to resume, or the demo."""
    given: dict[str, Any] = {}
    if getattr(options, "latents", None) is not None:
        if options.corpus is not None:
            raise UsageError("--latents is a corpus of its own: leave --corpus out")
        options.corpus = f"latents:{options.latents}"
    for key, name in PLAIN.items():
        if getattr(options, name, None) is not None:
            given[key] = getattr(options, name)
    if getattr(options, "experiments", None) is not None:
        given["experiments.names"] = options.experiments.split(",")
    path = options.config or _resumed_config(options) or _demo_config(options)
    return read_config(path, tuple(options.settings), given)


def _resumed_config(options: argparse.Namespace) -> Path | None:
    """The settings of the run that is resumed, if none are given here."""
    resumed = getattr(options, "resume", False) and options.out is not None
    if not resumed or any(getattr(options, name, None) for name in DESCRIBING):
        return None
    from audio_engram.run_folder import CONFIG, is_run

    path = Path(options.out / CONFIG)
    if not is_run(options.out):
        raise UsageError(f"--resume: {options.out} holds no run to go on with: check --out, or describe the run")
    try:
        read_config(path)
    except UsageError:
        return None  # another version wrote it, which is said where the folder is claimed
    return path


def _demo_config(options: argparse.Namespace) -> Path | None:
    """The small settings that fit the small demo corpus; any other corpus gets the defaults."""
    is_demo = getattr(options, "corpus", None) in (None, "demo")
    return Path(str(files("audio_engram").joinpath("demo.toml"))) if is_demo else None


def open_run(options: argparse.Namespace) -> "Run":
    """The run that the options describe."""
    config = read_options(options)
    # After the configuration is read: a wrong option need not wait for PyTorch.
    from audio_engram.experiments import check_names, check_settings
    from audio_engram.runs import Run

    check_names(config.experiments.names)
    check_settings(config)
    return Run(find_folder(options, config), config, resume=options.resume, overwrite=options.overwrite)


def find_folder(options: argparse.Namespace, config: Config) -> Path:
    """The run's folder: the one that is named, or one named after corpus and codec."""
    return options.out or Path("runs") / _folder_name(config)


def _folder_name(config: Config) -> str:
    corpus = config.data.corpus.rstrip("/").replace(":", "-").rpartition("/")[2]
    if config.data.corpus.startswith(("world:", "latents:")):
        return corpus
    return f"{corpus}-{config.codec.name}".replace(":", "-").replace("/", "-")
