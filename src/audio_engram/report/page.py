"""The page: everything in a run folder, rendered into one HTML file."""

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from audio_engram import numbers
from audio_engram.data.publish import publish_text
from audio_engram.decide import ARRAYS, SYNTHETIC
from audio_engram.decision import Decision
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report import tables, words
from audio_engram.report.facts import (
    codec_facts,
    corpus_facts,
    provenance_tables,
    run_facts,
    summary,
)
from audio_engram.report.folder import Clip, RunFolder, audio_uri, data_uri, read_run
from audio_engram.report.gauge import gauge
from audio_engram.report.sections import Section, sections
from audio_engram.report.tables import Table
from audio_engram.report.templating import asset, page
from audio_engram.report.trainings import training


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder from the files that are there, and return its path.

    The page needs nothing else: styles, plots and sound are inside it. The same files give the same bytes.

    Raises:
        UsageError: if there is no such folder.
        DataError: if a file is missing or cannot be understood.
    """
    path = run / "report.html"
    publish_text(path, render(read_run(run)))
    return path


def render(run: RunFolder) -> str:
    """The whole page as HTML."""
    helpers = {
        "gauge": gauge,
        "metric": words.metric,
        "series": words.series,
        "number": numbers.number,
        "threshold": numbers.threshold,
        "plural": numbers.plural,
        "value_of": tables.shown,
        "rests_on": tables.rests_on,
        "next_figure": partial(next, count(1)),
        "next_table": partial(next, count(1)),
    }
    return page("page.html", helpers, _content(run))


def _content(run: RunFolder) -> dict[str, Any]:
    script = asset("filter.js")
    found = sections(run)
    audio = _groups(run)
    losses = training(run.training)
    unscored = _unscored(run)
    return {
        "script": script,
        "script_hash": _hash(script),
        "decision": run.decision,
        "codec": run.provenance.codec,
        "corpus": run.provenance.corpus,
        "banners": run.decision.warnings,
        "summary": summary(run.provenance, run.measurements),
        "contents": _contents(run.decision, found, bool(losses), bool(audio)),
        "used_verdicts": _used_verdicts(run.decision),
        "has_ceiling": any(f.ceiling for f in run.decision.findings),
        "priors": _priors(run.decision, scored=not unscored),
        "unscored": unscored,
        "sections": found,
        "training": losses,
        "audio": audio,
        "played": _played(run.clips),
        "glossary": words.GLOSSARY,
        "metrics": [m for m in (words.METRICS | words.MANIFOLD).values() if m.meaning],
        "download": _download(run.measurements),
        "everything": tables.all_records(run.measurements),
        "run_facts": run_facts(run.provenance),
        "codec_facts": codec_facts(run.provenance),
        "corpus_facts": corpus_facts(run.provenance),
        "provenance_tables": provenance_tables(run.provenance),
        "versions": sorted(run.provenance.versions.items()),
        "command": "\n".join([run.provenance.command, *run.provenance.resumed_by]),
        "config": run.config,
    }


def _hash(script: str) -> str:
    """What the content security policy allows to run, and nothing else."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _contents(decision: Decision, found: Iterable[Section], trained: bool, heard: bool) -> list[tuple[str, str]]:
    entries = [
        (True, "verdicts", "Verdicts"),
        (bool(decision.path), "path", "The path through the tree"),
        (bool(decision.priors), "priors", "What was expected"),
        *((True, section.name, section.title) for section in found),
        (trained, "training", "Training"),
        (heard, "listen", "Listen"),
        (True, "notation", "Notation"),
        (True, "measurements", "All measurements"),
        (True, "provenance", "Provenance"),
    ]
    return [(anchor, title) for wanted, anchor, title in entries if wanted]


def _used_verdicts(decision: Decision) -> list[tuple[str, str]]:
    used = {finding.verdict for finding in decision.findings}
    return [(verdict, meaning) for verdict, meaning in words.VERDICTS.items() if verdict in used]


def _unscored(run: RunFolder) -> str:
    """Why no hypothesis has a score where that is one reason for all: this is not known to be recorded speech."""
    if run.provenance.corpus.synthetic:
        return SYNTHETIC
    return ARRAYS if any(p.why == ARRAYS for p in run.decision.priors) else ""


def _priors(decision: Decision, scored: bool) -> Table | None:
    """Hypotheses with their outcomes and scores, or why they have none."""
    said = {True: "true", False: "false", None: "open"}
    rows = tuple(
        (
            p.hypothesis,
            *([p.why or said[p.outcome]] if scored else []),
            f"{p.probability:.2f}",
            *(["–" if p.brier is None else f"{p.brier:.3f}"] if scored else []),
        )
        for p in decision.priors
    )
    columns = ("hypothesis", "outcome", "probability", "Brier score") if scored else ("hypothesis", "probability")
    # The outcome is text: it stands to the left and may run over several lines.
    heads = 2 if scored else 1
    return Table("Hypotheses with the probability given beforehand.", columns, rows, heads) if rows else None


def _groups(run: RunFolder) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for clip in run.clips:
        groups.setdefault(clip.group, []).append(_clip(run.path, clip))
    return list(groups.items())


def _played(clips: Iterable[Clip]) -> list[str]:
    """What is to be said of the kinds of sound that there are."""
    kinds = {clip.kind for clip in clips}
    return [said for kind, said in words.SOUNDS.items() if kind in kinds]


def _clip(path: Path, clip: Clip) -> dict[str, Any]:
    level = "" if clip.rms_db is None else f" · {numbers.MINUS if clip.rms_db < 0 else ''}{abs(clip.rms_db):.1f} dB RMS"
    return {
        "label": clip.label,
        "kind": clip.kind,
        "facts": f"{clip.seconds:.1f} s{level}",
        "note": clip.note,
        "row": clip.row,
        "parts": clip.parts,
        "uri": audio_uri(path, clip),
    }


def _download(records: Measurements) -> str:
    """The records as JSON that `Measurements.read` takes, without the fields at their defaults."""
    lines = ",\n".join(_compact(record) for record in records)
    return data_uri("application/json", f"[\n{lines}\n]\n".encode())


def _compact(record: Measurement) -> str:
    return json.dumps(record.model_dump(exclude_defaults=True), allow_nan=False)
