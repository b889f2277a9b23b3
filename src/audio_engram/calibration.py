"""Every experiment on worlds whose answer is known, over many seeds: what it recovers, and how often it is fooled."""

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from math import sqrt
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy.stats import norm

from audio_engram.calibration_plan import JUDGED_AT, OTHER_SIZES, PLAN, SETTINGS, SPEAKERS, TRUTHS, UTTERANCES, Row
from audio_engram.config import make_config
from audio_engram.data.publish import make_folder, publish_text
from audio_engram.decision import Finding
from audio_engram.errors import DataError, UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement
from audio_engram.runs import Run

ALLOWED = 0.05
TRIALS, MADE_WITH = "trials", "settings.json"


@dataclass(frozen=True)
class Trial:
    """One row with one seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """The file of its outcome, without ending."""
        return f"{self.row.experiment}-{self.row.world}-{self.seed:04d}"


def calibrate(folder: Path, seeds: int, jobs: int, log: Callable[[str], None], plan: Iterable[Row] = PLAN) -> None:
    """Carry out the trials that have no outcome in `folder`/trials yet, several at a time.

    Raises:
        UsageError: the folder holds trials of other settings.
    """
    trials = [Trial(row, seed) for seed in range(seeds) for row in plan]
    make_folder(folder / TRIALS)
    _claim(folder)
    todo = [trial for trial in trials if not _file(folder, trial).exists()]
    done = len(trials) - len(todo)
    log(f"calibrate: {done} of {len(trials)} trials are there")
    # Fresh processes: a fork of one that has used PyTorch's threads may hang.
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        waiting = {pool.submit(carry_out, folder, trial): trial for trial in todo}
        for ended in as_completed(waiting):
            ended.result()
            done += 1
            log(f"calibrate: {waiting[ended].name} ({done} of {len(trials)})")


def carry_out(folder: Path, trial: Trial) -> None:
    """Run one experiment on one world in a folder that is thrown away, and keep what it measured and judged."""
    with TemporaryDirectory(prefix="engram-", dir=folder) as temporary:
        speakers, utterances = OTHER_SIZES.get(trial.row.experiment, (SPEAKERS, UTTERANCES))
        data = SETTINGS["data"] | {"corpus": f"world:{trial.row.world}:{speakers}"}
        run = Run(Path(temporary), make_config(SETTINGS | {"seed": trial.seed, "data": data}), log=lambda line: None)
        assert run.world is not None
        run.world.utterances_per_speaker = utterances
        outcome = EXPERIMENTS[trial.row.experiment](run)
        known = (m for m in outcome.measurements if m.mode == "analytic" and m.model == "truth")
        lag = JUDGED_AT.get(trial.row.experiment)
        truths = [(m.metric.removesuffix("_analytic"), m.value) for m in known if m.lag == lag]
    kept = {
        "measurements": [m.model_dump(exclude_defaults=True) for m in outcome.measurements],
        "findings": [f.model_dump() for f in outcome.findings],
        "analytic": truths,
    }
    publish_text(_file(folder, trial), json.dumps(kept) + "\n")


def _claim(folder: Path) -> None:
    """Refuse to mix outcomes of other settings with those to come."""
    path = folder / TRIALS / MADE_WITH
    others = path.read_text() != _made_with() if path.exists() else any(path.parent.glob("*.json"))
    if others:
        raise UsageError(f"--out {folder}: holds trials of other settings: use --overwrite or another --out")
    publish_text(path, _made_with())


def _made_with() -> str:
    sizes = {"": (SPEAKERS, UTTERANCES)} | OTHER_SIZES
    return json.dumps({"settings": SETTINGS, "speakers and utterances": sizes}, indent=1) + "\n"


def clear(folder: Path) -> None:
    """Delete the outcomes, and nothing else."""
    if (folder / TRIALS).is_dir():
        shutil.rmtree(folder / TRIALS)


def _file(folder: Path, trial: Trial) -> Path:
    return folder / TRIALS / f"{trial.name}.json"


@dataclass(frozen=True)
class Kept:
    """An outcome that was kept."""

    measurements: list[Measurement]
    findings: list[Finding]
    analytic: list[tuple[str, float]]


def read_trial(folder: Path, trial: Trial) -> Kept:
    """Raises: DataError for a damaged file."""
    path = _file(folder, trial)
    try:
        kept = json.loads(path.read_text())
        return Kept(
            [Measurement.model_validate(m) for m in kept["measurements"]],
            [Finding.model_validate(f) for f in kept["findings"]],
            [(str(name), float(value)) for name, value in kept["analytic"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}): delete it and calibrate again") from error


@dataclass(frozen=True)
class Passed:
    """How often an experiment passed on a world, with the 95 % interval of Wilson (1927)."""

    row: Row
    verdicts: dict[str, int]

    @property
    def n(self) -> int:
        """Trials with a verdict."""
        return sum(self.verdicts.values())

    @property
    def rate(self) -> tuple[float, float, float]:
        """Share of passes and its interval."""
        return (self.verdicts.get("pass", 0) / self.n, *wilson(self.verdicts.get("pass", 0), self.n))

    @property
    def holds(self) -> bool:
        """In a null world no more than 5 % beyond sampling error; elsewhere more than half."""
        value, low, _ = self.rate
        return low <= ALLOWED if self.row.null else value > 0.5

    @property
    def enough(self) -> bool:
        """Whether so many seeds could have told: 5 % from never, or more than half from half."""
        return wilson(0, self.n)[1] <= ALLOWED if self.row.null else self.rate[1] > 0.5 or not self.holds


@dataclass(frozen=True)
class Recovered:
    """A known figure: its truth, and mean, spread and coverage of what was measured."""

    row: Row
    figure: str
    truth: float
    mean: float
    spread: float | None
    coverage: float | None
    n: int

    @property
    def bias(self) -> float:
        """Mean less truth."""
        return self.mean - self.truth


def summary(folder: Path, seeds: int, plan: Iterable[Row] = PLAN) -> tuple[list[Passed], list[Recovered]]:
    """Verdicts and recovery of all rows."""
    passed, recovered = [], []
    for row in plan:
        kept = [read_trial(folder, Trial(row, seed)) for seed in range(seeds)]
        # A world in which one of several findings of an experiment passes has fooled it.
        worst = ["pass" if any(f.verdict == "pass" for f in one.findings) else one.findings[0].verdict for one in kept]
        passed.append(Passed(row, {verdict: worst.count(verdict) for verdict in dict.fromkeys(worst)}))
        recovered += _recovered(row, kept)
    return passed, recovered


def _recovered(row: Row, kept: list[Kept]) -> list[Recovered]:
    known = list(TRUTHS.get((row.experiment, row.world), ()))
    for metric, truth in kept[0].analytic:
        models = ("mdn", "vmf") if metric in ("delta_nll", "magnitude_r2") else ("vmf",)
        lag = JUDGED_AT[row.experiment]
        known += [({"metric": metric, "model": m, "data": "real", "lag": lag}, truth) for m in models]
    found = [_compared(row, what, truth, kept) for what, truth in known]
    return [one for one in found if one is not None]


def _compared(row: Row, what: dict[str, Any], truth: float, kept: list[Kept]) -> Recovered | None:
    records = [m for one in kept for m in one.measurements if m.split == "test" and _matches(m, what)]
    values = [m.value for m in records if m.value is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    spread = sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    ends = [(m.low, m.high) for m in records if m.low is not None and m.high is not None]
    coverage = sum(low <= truth <= high for low, high in ends) / len(ends) if ends else None
    figure = ", ".join(str(v) for k, v in what.items() if k in ("metric", "model"))
    return Recovered(row, figure, truth, mean, spread, coverage, len(values))


def _matches(record: Measurement, what: dict[str, Any]) -> bool:
    return all(getattr(record, key) == value for key, value in what.items())


def plan_of(experiments: list[str]) -> tuple[Row, ...]:
    """The rows of these experiments, or all.

    Raises:
        UsageError: for an experiment that is not calibrated.
    """
    known = dict.fromkeys(row.experiment for row in PLAN)
    if unknown := next((name for name in experiments if name not in known), ""):
        raise UsageError(f"--only {unknown}: no world calibrates that: use {', '.join(known)}")
    return tuple(row for row in PLAN if not experiments or row.experiment in experiments)


def described(folder: Path, found: tuple[list[Passed], list[Recovered]]) -> dict[str, Any]:
    """The summary as plain values, which are also kept in `folder`/calibration.json."""
    passed, recovered = found
    facts = {
        "verdicts": [asdict(one) | {"passed": one.rate, "holds": one.holds, "enough": one.enough} for one in passed],
        "recovery": [asdict(one) | {"bias": one.bias} for one in recovered],
    }
    publish_text(folder / "calibration.json", json.dumps(facts, indent=1) + "\n")
    return facts


def wilson(passes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927)."""
    z = float(norm.ppf(0.5 + level / 2))
    centre = (passes + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * sqrt(passes * (n - passes) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
