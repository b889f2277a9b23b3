"""Every experiment on worlds whose answer is known, over many seeds: what it recovers, and how often it is fooled."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from math import sqrt
from multiprocessing import get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import torch
from scipy.stats import norm

from audio_engram import trials
from audio_engram.calibration_plan import JUDGED_AT, PLAN, TRUTHS, Row
from audio_engram.config import make_config
from audio_engram.data.publish import publish_text
from audio_engram.errors import UsageError
from audio_engram.experiments import EXPERIMENTS
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.trials import Kept, Trial, at_work, claim, is_done, read_trial, write_trial

ALLOWED = 0.05
TOGETHER = "all null worlds"


def calibrate(folder: Path, seeds: int, jobs: int, log: Callable[[str], None], plan: Iterable[Row] = PLAN) -> None:
    """Carry out the trials that have no outcome in `folder`/trials yet, several at a time.

    Raises:
        UsageError: the folder holds trials of other settings.
    """
    claim(folder)
    with at_work(folder):
        asked = [Trial(row, seed) for seed in range(seeds) for row in plan if seed < row.seeds(seeds)]
        todo = [trial for trial in asked if not is_done(folder, trial, log)]
        done = len(asked) - len(todo)
        log(f"calibrate: {done} of {len(asked)} trials are there")
        # Fresh processes: a fork of one that has used PyTorch's threads may hang.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=begin_work) as pool:
            waiting = {pool.submit(carry_out, folder, trial): trial for trial in todo}
            for ended in as_completed(waiting):
                ended.result()
                done += 1
                log(f"calibrate: {waiting[ended].name} ({done} of {len(asked)})")


def begin_work() -> None:
    """What a process does before its first trial: take one core, and see to it that it ends when its parent does."""
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a killed parent tells the pool nothing, which would wait for it for ever


def carry_out(folder: Path, trial: Trial) -> None:
    """Run one experiment on one world in a folder that is thrown away, and keep what it measured and judged."""
    with TemporaryDirectory(prefix=f".{trial.name}.", suffix=".tmp", dir=folder / trials.FOLDER) as temporary:
        speakers, utterances = trial.row.size
        settings = trial.row.settings
        data = settings["data"] | {"corpus": f"world:{trial.row.world}:{speakers}"}
        run = Run(Path(temporary), make_config(settings | {"seed": trial.seed, "data": data}), log=lambda line: None)
        assert run.world is not None
        run.world.utterances_per_speaker = utterances
        outcome = EXPERIMENTS[trial.row.experiment](run)
        known = (m for m in outcome.measurements if m.mode == "analytic" and m.model == "truth")
        lag = JUDGED_AT.get(trial.row.experiment)
        truths = [(m.metric.removesuffix("_analytic"), m.value) for m in known if m.lag == lag and m.value is not None]
    write_trial(folder, trial, Kept(outcome.measurements, outcome.findings, truths))


@dataclass(frozen=True)
class Passed:
    """How often an experiment passed on a world, with the 95 % interval of Wilson (1927).

    A `part` is one of several null worlds of an experiment, whose rate is told by all of them together.
    """

    row: Row
    verdicts: dict[str, int]
    part: bool = False

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
        if self.part:
            return True
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
    """Verdicts and recovery of all rows, and verdicts of the null worlds of each experiment together."""
    passed, recovered = [], []
    for row in plan:
        kept = [read_trial(folder, Trial(row, seed)) for seed in range(row.seeds(seeds))]
        # A world in which one of several findings of an experiment passes has fooled it.
        worst = ["pass" if any(f.verdict == "pass" for f in one.findings) else one.findings[0].verdict for one in kept]
        passed.append(Passed(row, {verdict: worst.count(verdict) for verdict in dict.fromkeys(worst)}))
        recovered += _recovered(row, kept)
    return _with_together(passed), recovered


def _with_together(passed: list[Passed]) -> list[Passed]:
    """After the rows of an experiment that has several null worlds what came of all of these."""
    found: list[Passed] = []
    for name in dict.fromkeys(one.row.experiment for one in passed):
        mine = [one for one in passed if one.row.experiment == name]
        nulls = [one for one in mine if one.row.null]
        several = len(nulls) > 1
        found += [replace(one, part=several and one.row.null) for one in mine]
        if several:
            counted = sum((Counter(one.verdicts) for one in nulls), Counter[str]())
            found.append(Passed(Row(name, TOGETHER, True), dict(counted)))
    return found


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
    for name in experiments:
        if name not in known:
            raise UsageError(f"--only {name or 'without a name'}: no world calibrates that: use {', '.join(known)}")
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
    return centre - half if passes else 0.0, centre + half if passes < n else 1.0  # not 1e-17 by rounding
