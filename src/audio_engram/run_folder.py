"""The folder of a run: whose it is, and which of its files may be deleted."""

import tomllib
from pathlib import Path

from audio_engram.config import Config, read_config
from audio_engram.data.publish import check_name, make_folder, publish_text, remove_leftovers, unwritable
from audio_engram.errors import UsageError

CONFIG = "config.toml"
FOLDERS = ("latents", "checkpoints", "outcomes", "audio", "prototypes")
PART_FOLDERS = ("parts/*-of-*", "parts/logs", "parts")
SECTIONS = {"codec", "data", "model", "train", "experiments"}
"""What the configuration of a run of any version has."""
STORES = ("latents", "parts/*-of-*", "representations/latents-*")
BELOW = "representations"
WRITTEN = (
    "latents/manifest.json",
    "latents/utterances.jsonl",
    "latents/shard-*.safetensors",
    "latents/.shard-*.sha256",
    "parts/*-of-*/manifest.json",
    "parts/*-of-*/utterances.jsonl",
    "parts/*-of-*/shard-*.safetensors",
    "parts/*-of-*/.shard-*.sha256",
    "parts/logs/*_log.*",
    "parts/logs/*.pkl",
    "parts/logs/*.sh",
    "checkpoints/*.safetensors",
    "outcomes/*.json",
    "representations/*/checkpoints/*.safetensors",
    "representations/*/config.toml",
    "representations/latents-*/manifest.json",
    "representations/latents-*/utterances.jsonl",
    "representations/latents-*/shard-*.safetensors",
    "representations/latents-*/.shard-*.sha256",
    "measurements.json",
    "decision.json",
    "training.json",
    "provenance.json",
    "prototypes/*.safetensors",
    "archetypes.json",
    "rollouts.safetensors",
    "audio/*.flac",
    "audio/index.json",
    "report.html",
    CONFIG,
)
"""All that a run writes, the configuration last: while it stands the folder is known to be a run's."""


def claim(folder: Path, config: Config, resume: bool) -> None:
    """Make the folder this configuration's, or find that it is.

    Raises:
        UsageError: no folder can have the name; or it holds a run and `resume` is False, a run of another
            configuration, or the files of something else under a run's names.
    """
    check_name(folder, "--out")
    if is_run(folder):
        _go_on(folder, config, resume)
    else:
        _refuse_foreign(folder)
    make_folder(folder)
    for place in (folder, *(folder / name for name in FOLDERS)):
        remove_leftovers(place)
    # A raised limit on failures changes no number, so it is taken over.
    if not is_run(folder) or read_config(folder / CONFIG) != config:
        publish_text(folder / CONFIG, config.toml())


def share(folder: Path, config: Config) -> None:
    """Claim the folder as one of several processes that encode parts of one corpus, each on a device of its own.

    No temporary file is removed: it may be another process's.

    Raises:
        UsageError: as `claim` does.
    """
    check_name(folder, "--out")
    if not is_run(folder):
        _refuse_foreign(folder)
    if is_run(folder):
        _go_on(folder, config, resume=True, any_device=True)
    else:
        make_folder(folder)
        publish_text(folder / CONFIG, config.toml())


def take_over(folder: Path, config: Config) -> None:
    """Claim the folder after the processes that shared it: from here on the run has this configuration's device.

    Raises:
        UsageError: as `claim` does.
    """
    share(folder, config)
    if read_config(folder / CONFIG) != config:
        publish_text(folder / CONFIG, config.toml())


def clear(folder: Path) -> None:
    """Delete what a run wrote in a folder, and nothing else.

    Raises:
        UsageError: the folder holds files, but no run, or cannot be changed.
    """
    check_name(folder, "--out")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_run(folder):
        raise UsageError(f"{folder}: is no run's folder, so --overwrite deletes nothing there: choose another --out")
    ours = {path for pattern in WRITTEN for path in folder.glob(pattern)}
    stores = (path for name in STORES for path in folder.glob(f"{name}/[!.]*"))
    if foreign := [path for path in stores if path not in ours]:
        # A latent store would be refused beside it, and then the old one were gone for nothing.
        raise UsageError(f"{foreign[0]}: was not written by a run, so --overwrite deletes nothing here: move it away")
    try:
        for path in ours:
            path.unlink()
        for path in _folders(folder, ours):
            remove_leftovers(path)
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                path.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from error


def _folders(folder: Path, ours: set[Path]) -> list[Path]:
    """The folders that a run made, the innermost first; below `representations` those in which it wrote something."""
    named = {path for name in (*FOLDERS, *PART_FOLDERS) for path in folder.glob(name)}
    below = {parent for path in ours for parent in path.parents if folder / BELOW in (parent, parent.parent)}
    kept = {path / "checkpoints" for path in below - {folder / BELOW}}
    return sorted(named | below | kept, key=lambda path: len(path.parts), reverse=True)


def is_run(folder: Path) -> bool:
    """Whether a run's configuration stands in the folder, be it of another version."""
    try:
        values = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return {name for name, value in values.items() if isinstance(value, dict)} >= SECTIONS


def _refuse_foreign(folder: Path) -> None:
    foreign = [name for name in WRITTEN if any(folder.glob(name))]
    if foreign and not is_run(folder):  # looked at again, for a process beside this one may just have claimed it
        raise UsageError(f"{folder}: holds {foreign[0]} but no run of this program: choose another --out")


def deciding(config: Config) -> Config:
    """The configuration without what changes no number."""
    return config.model_copy(update={"data": config.data.model_copy(update={"max_failed": 0.0})})


def _go_on(folder: Path, config: Config, resume: bool, any_device: bool = False) -> None:
    if not resume:
        raise UsageError(f"{folder}: holds a run already: use --resume, --overwrite or another --out")
    try:
        there = read_config(folder / CONFIG)
    except UsageError as error:
        reason = str(error).partition(": known keys")[0]
        raise UsageError(
            f"{folder}: holds a run of another version ({reason}): use --overwrite or another --out"
        ) from None
    if any_device:
        there = there.model_copy(update={"device": config.device})
    if deciding(there) != deciding(config):
        raise UsageError(
            f"{folder}: holds a run of another configuration ({_difference(there, config)}): "
            "use --overwrite or another --out"
        )


def _difference(old: Config, new: Config) -> str:
    left, right = old.toml().splitlines(), new.toml().splitlines()
    changed = [f"{a.strip()} there, {b.strip()} here" for a, b in zip(left, right, strict=False) if a != b]
    return "; ".join(changed[:2]) or "another version wrote it"
