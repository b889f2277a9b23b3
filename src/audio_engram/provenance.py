"""Where the numbers of a run come from: commands, versions, machine, codec, corpus and time."""

import json
import platform
import resource
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audio_engram.caveats import leaks
from audio_engram.data.publish import publish_text
from audio_engram.dynamics.model import training_precision
from audio_engram.runs import Run

FILE = "provenance.json"
PACKAGES = ("audio-engram", "torch", "numpy", "scipy", "soundfile", "soxr", "safetensors", "pydantic")


def begun_by(run: Run, command: str) -> dict[str, Any]:
    """The `command` that began the run and those that `resumed_by` it, this one last.

    They are noted at once: a run that is cut short has no provenance yet.
    """
    before = _read(run)
    commands: dict[str, Any] = {"command": command, "resumed_by": []}
    if "command" in before:
        again = [command] if command else []
        commands = {"command": before["command"], "resumed_by": [*before.get("resumed_by", []), *again]}
    _write(run, before | commands)
    return commands


def write_provenance(run: Run, seconds: dict[str, float], commands: dict[str, Any]) -> None:
    """Write `provenance.json`, atomically; `seconds` of each stage, `commands` as `begun_by` gave them."""
    _write(run, _facts(run, seconds, commands))


def default_command() -> str:
    """How this process was called."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _read(run: Run) -> dict[str, Any]:
    path = run.folder / FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    kinds = {"command": str, "resumed_by": list}
    if not isinstance(found, dict) or any(
        name in found and not isinstance(found[name], k) for name, k in kinds.items()
    ):
        run.log(f"{path}: damaged: which command began the run is not known any more")
        return {}
    return found


def _write(run: Run, facts: dict[str, Any]) -> None:
    publish_text(run.folder / FILE, json.dumps(facts, indent=1) + "\n")


def _facts(run: Run, seconds: dict[str, float], commands: dict[str, Any]) -> dict[str, Any]:
    manifest, frames = run.store.manifest, run.frames()
    splits, shared = ("train", "validation", "test"), leaks(run)
    return {
        "version": version("audio-engram"),
        **commands,
        "seed": run.config.seed,
        "device": str(run.device),
        "precision": str(training_precision(run.config.train.precision, run.device)).removeprefix("torch."),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version(), "machine": platform.processor() or platform.machine()},
        "codec": _codec_facts(run),
        "corpus": {
            "name": manifest.corpus,
            "synthetic": manifest.synthetic,
            "seconds": manifest.seconds,
            "counts": manifest.counts.model_dump(),
            "reasons": dict(Counter(f"{p.status}: {p.reason}" for p in manifest.problems)),
            "split": {s: sorted(name for name, v in run.split_of.items() if v == s) for s in splits},
            "speakers": {s: sum(v == s for v in run.split_of.values()) for s in splits},
            "frames": {s: int(frames.in_split(s).sum()) for s in splits},
            "without_latent": len(run.store.utterances) - len(frames.utterances),
            "silent_frames": frames.silent(),
            "shared_between_splits": shared.sentence() if shared is not None else "",
        },
        "stages": [{"name": name, "seconds": value} for name, value in seconds.items()],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _codec_facts(run: Run) -> dict[str, Any]:
    manifest, codec = run.store.manifest, run.codec
    return {
        "name": run.codec_name,
        "fingerprint": manifest.codec_fingerprint,
        "tap": manifest.tap,
        "sample_rate": manifest.sample_rate,
        "frame_rate": codec.frame_rate,
        "latent_dim": codec.latent_dim,
        "causal": codec.causal,
        "stochastic": codec.stochastic,
    }
