"""The whole path: encode, measure, decide, listen, report."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from audio_engram.caveats import caveats
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
from audio_engram.provenance import begun_by, write_provenance
from audio_engram.report.page import write_report
from audio_engram.runs import Run
from audio_engram.tree import BEGINNING, wanted


class Stages:
    """Wall time of each stage."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, place: str = "") -> Iterator[None]:
        """Time what happens inside; `place` says where in the run it stands."""
        self.run.log(f"{name}{place} ...")
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
    commands = begun_by(run, command)
    with stages.stage("encode"):
        run.frames()
    _check(run, first)
    measured = _Measured()
    for name in chain(first, _further(run, measured)):
        measured.add(_outcome(run, name, stages, _place(names, measured)))
    Measurements(measured.records).write(run.folder / "measurements.json")
    publish_text(run.folder / "training.json", json.dumps(_training(run), indent=1) + "\n")
    with stages.stage("audio"):
        measured.warnings += listen(run)
    warnings = (*caveats(run), *dict.fromkeys(measured.warnings))
    decision = decide(measured.findings, warnings, _no_speech(run), measured.left_out)
    decision.write(run.folder / "decision.json")
    write_provenance(run, stages.seconds, commands)
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
    experiments: int = 0

    def add(self, outcome: Outcome) -> None:
        """Take an experiment's outcome."""
        self.records += outcome.measurements
        self.findings += outcome.findings
        self.warnings += outcome.warnings
        self.experiments += 1


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


def _place(names: tuple[str, ...], so_far: _Measured) -> str:
    """Which experiment of how many comes next; of the tree nobody knows how many, because it asks as it goes."""
    of = "" if names == (TREE,) else f" of {len(EXPERIMENTS if names == (ALL,) else names)}"
    return f": experiment {so_far.experiments + len(so_far.left_out) + 1}{of}"


def _outcome(run: Run, name: str, stages: Stages, place: str) -> Outcome:
    """As an earlier process kept it, or measured now."""
    if (kept := take(run, name)) is not None:
        return kept
    with stages.stage(name, place):
        outcome = EXPERIMENTS[name](run)
        keep(run, name, outcome)
    return outcome


def _training(run: Run) -> dict[str, list[dict[str, int | float | None]]]:
    return {name: history.epochs for name, history in run.histories.items()}
