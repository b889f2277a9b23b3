"""The whole path: encode, measure, decide, listen, report."""

import json
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audio_engram.caveats import caveats, leaks
from audio_engram.codecs.derived import check_decoder
from audio_engram.data.publish import publish_text
from audio_engram.decide import ARRAYS, SYNTHETIC, decide
from audio_engram.decision import Decision, Finding
from audio_engram.errors import DataError, MissingError, UsageError
from audio_engram.experiments import (
    ALL,
    EXPERIMENTS,
    TREE,
    Outcome,
    check_codecs,
    check_lengths,
    check_names,
    check_settings,
)
from audio_engram.experiments.archetypes import check_counts
from audio_engram.experiments.kept import keep, take
from audio_engram.listening import listen
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report.page import write_report
from audio_engram.runs import Run
from audio_engram.tree import BEGINNING, wanted

PACKAGES = ("audio-engram", "torch", "numpy", "scipy", "soundfile", "soxr", "safetensors", "pydantic")


class Stages:
    """Wall time of each stage."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self.run.log(f"{name} ...")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.run.log(f"{name}: {self.seconds[name]:.1f} s")


def climb(run: Run, command: str = "") -> Decision:
    """Run every experiment that the configuration names, or that the tree asks for, decide, and write the report.

    What an earlier process has finished there is not measured again.

    Raises:
        EngramError: for bad input, with the exit code that belongs to it.
    """
    names = run.config.experiments.names
    check_names(names)
    check_settings(run.config)
    stages = Stages(run)
    first = BEGINNING if names == (TREE,) else () if names == (ALL,) else names
    check_codecs(run, first)
    check_decoder(run.base)
    with stages.stage("encode"):
        run.frames()
    _check(run, first)
    measured = _Measured()
    for name in first:
        measured.add(_outcome(run, name, stages))
    for name in _further(run, measured):
        measured.add(_outcome(run, name, stages))
    Measurements(measured.records).write(run.folder / "measurements.json")
    publish_text(run.folder / "training.json", json.dumps(_training(run), indent=1) + "\n")
    with stages.stage("audio"):
        measured.warnings += listen(run)
    warnings = (*caveats(run), *dict.fromkeys(measured.warnings))
    decision = decide(measured.findings, warnings, _no_speech(run), measured.left_out)
    decision.write(run.folder / "decision.json")
    facts = provenance(run, stages.seconds, command)
    publish_text(run.folder / "provenance.json", json.dumps(facts, indent=1) + "\n")
    with stages.stage("report"):
        write_report(run.folder)
    return decision


def _no_speech(run: Run) -> str:
    """Why what was heard is not known to be recorded speech; empty if it is."""
    if run.store.manifest.synthetic:
        return SYNTHETIC
    return "" if run.corpus is not None else ARRAYS


@dataclass
class _Measured:
    """What the experiments gave so far, and why others could not be asked."""

    records: list[Measurement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take an experiment's outcome."""
        self.records += outcome.measurements
        self.findings += outcome.findings
        self.warnings += outcome.warnings


def _further(run: Run, so_far: _Measured) -> Iterator[str]:
    """What the tree asks for next, as long as it does; or all experiments. What cannot be measured here is left out."""
    names = run.config.experiments.names
    if names == (TREE,):
        following: Iterable[str] = iter(lambda: wanted(so_far.findings, so_far.left_out), "")
    else:
        following = EXPERIMENTS if names == (ALL,) else ()
    for name in following:
        try:
            check_codecs(run, (name,))
            _check(run, (name,))
        except (UsageError, DataError, MissingError) as reason:
            so_far.left_out[name] = str(reason)
            so_far.warnings.append(f"The experiment {name} was left out: {reason}")
        else:
            yield name


def _check(run: Run, names: tuple[str, ...]) -> None:
    """What must show before an experiment trains its first model."""
    check_lengths(run, names)
    check_counts(run, names)


def _outcome(run: Run, name: str, stages: Stages) -> Outcome:
    """As an earlier process kept it, or measured now."""
    if (kept := take(run, name)) is not None:
        return kept
    with stages.stage(name):
        outcome = EXPERIMENTS[name](run)
        keep(run, name, outcome)
    return outcome


def provenance(run: Run, seconds: dict[str, float], command: str) -> dict[str, Any]:
    """Where the numbers come from."""
    manifest, frames = run.store.manifest, run.frames()
    splits, shared = ("train", "validation", "test"), leaks(run)
    return {
        "version": version("audio-engram"),
        "command": command,
        "seed": run.config.seed,
        "device": str(run.device),
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


def _training(run: Run) -> dict[str, list[dict[str, int | float]]]:
    return {name: history.epochs for name, history in run.histories.items()}


def default_command() -> str:
    """How this process was called."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
