"""A run folder with plausible numbers for everything that a run can measure; nothing in it was measured."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audio_engram.decision import Criterion, Decision, Finding, Prior, Turn
from audio_engram.measurements import Measurement, Measurements
from audio_engram.report.folder import Provenance, RunFolder

LAGS = (1, 2, 4, 8)
HEADS = ("mdn", "vmf")
ROLLED = ("mdn", "vmf", "mdn_k16", "vmf_k16", "mdn_k32", "vmf_k32")
N = {"n_speakers": 24, "n_frames": 31_204}

DELTA_NLL = {
    ("mdn", "real"): (-96.4, -38.8, -15.2, -9.1),
    ("vmf", "real"): (-104.2, -31.3, -12.0, -6.8),
    ("ar1", "real"): (-72.3, -4.1, -0.9, -0.3),
    ("state", "real"): (-2.1, -2.1, -2.1, -2.1),
    ("utterance", "real"): (-14.8, -12.9, -10.2, -7.9),
    ("mdn", "shuffled_within"): (-85.1, -9.4, -9.2, -9.1),
    ("vmf", "shuffled_within"): (-88.0, -6.1, -6.0, -5.8),
    ("ar1", "shuffled_within"): (-84.6, -0.4, -0.2, -0.1),
    ("mdn", "shuffled_across"): (-80.3, -0.6, 0.2, 0.1),
    ("vmf", "shuffled_across"): (-79.8, 0.4, 0.6, 0.5),
}
COSINE = {
    ("mdn", "real"): (0.612, 0.381, 0.142, 0.058),
    ("vmf", "real"): (0.674, 0.442, 0.171, 0.066),
    ("ar1", "real"): (0.628, 0.104, 0.041, 0.022),
    ("state", "real"): (0.061, 0.052, 0.040, 0.031),
    ("utterance", "real"): (0.164, 0.148, 0.121, 0.088),
    ("mdn", "shuffled_within"): (0.681, 0.091, 0.090, 0.089),
    ("vmf", "shuffled_within"): (0.695, 0.094, 0.092, 0.090),
    ("vmf", "shuffled_across"): (0.704, 0.004, 0.003, 0.003),
}
PARTS = {
    "mdn": (-72.3, -6.2, -8.4, -9.5),
    "vmf": (-72.3, -11.4, -9.3, -11.2),
}


def record(experiment: str, model: str, metric: str, value: float | None, spread: float, **more: Any) -> Measurement:
    """A measurement with an interval of plus and minus `spread`; none where it is zero."""
    ends = {"low": value - spread, "high": value + spread} if value is not None and spread else {}
    return Measurement(experiment=experiment, model=model, metric=metric, value=value, **{**N, **ends, **more})


def predictability() -> Iterator[Measurement]:
    for (model, data), values in DELTA_NLL.items():
        for lag, value in zip(LAGS, values, strict=True):
            yield record("predictability", model, "delta_nll", value, 1.2 + abs(value) * 0.03, lag=lag, data=data)
    for (model, data), values in COSINE.items():
        for lag, value in zip(LAGS, values, strict=True):
            for metric, shift in (("direction_cosine", 0.0), ("direction_cosine_standardised", -0.03)):
                yield record("predictability", model, metric, value + shift, 0.012, lag=lag, data=data)
    for model in HEADS:
        yield from _of_head(model)
    for model, values in PARTS.items():
        for part, value in zip(("mean_reversion", "shape", "static", "dynamics"), values, strict=True):
            yield record("predictability", model, f"part_{part}", value, 0.6 + abs(value) * 0.03)


def _of_head(model: str) -> Iterator[Measurement]:
    for place, lag in enumerate(LAGS):
        real = DELTA_NLL[(model, "real")][place]
        yield record("predictability", model, "delta_nll_excess", -24.1 / lag + 1.1, 2.0, lag=lag)
        yield record("predictability", model, "delta_nll_excess", 0.4 + 0.1 * lag, 0.9, lag=lag, data="shuffled_within")
        yield record("predictability", model, "delta_nll_median", real + 2.3, 1.0, lag=lag)
        yield record("predictability", model, "delta_nll_trimmed", real + 1.1, 1.0, lag=lag)
        yield record("predictability", model, "exploded_share", 0.0004 * place, 0.0002, lag=lag)
        yield record("predictability", model, "bits_per_dim", 1.823 + 0.05 * place, 0.01, lag=lag)
        yield record("predictability", model, "innovation_cosine", 0.302 / lag, 0.02, lag=lag)
        yield record("predictability", model, "innovation_cosine", 0.004, 0.01, lag=lag, data="shuffled_within")
        yield record("predictability", model, "increment_r2", 0.42 / lag, 0.02, lag=lag)
        yield record("predictability", model, "a_metric_of_the_future", 4.2e7 * lag, 10.0, lag=lag)
    yield record("predictability", model, "state_r2", 0.23, 0.02)


def analytic() -> Iterator[Measurement]:
    for place, lag in enumerate(LAGS):
        for metric, value in (("delta_nll_analytic", -80.0), ("direction_cosine_analytic", 0.69)):
            truth = {"lag": lag, "mode": "analytic", "n_frames": 0, "n_speakers": 0}
            yield record("predictability", "ar1", metric, value / 3**place, 0.0, **truth)


def magnitude() -> Iterator[Measurement]:
    for model, own in {"vmf": 0.291, "mdn": 0.214, "magnitude": 0.318, "magnitude_utterance": 0.364}.items():
        yield record("magnitude", model, "magnitude_r2", own, 0.03)
    for model, of_mean in {"vmf": -1.83, "mdn": -13.1}.items():
        yield record("magnitude", model, "magnitude_r2_of_mean", of_mean, 0.4)


def factorisation() -> Iterator[Measurement]:
    for index, model in enumerate(ROLLED):
        for step in range(1, 17):
            yield from _rolled(model, index, step)
    for step in range(1, 17):
        yield record("factorisation", "ceiling", "ceiling_direction_cosine", 0.68 / step**0.85, 0.03, step=step)
        yield record(
            "factorisation",
            "vmf - mdn",
            "state_error_difference",
            -0.2 * step,
            0.6,
            step=step,
            mode="free_running",
        )
    yield record("factorisation", "mdn", "first_nonfinite_step", 14.0, 1.0, mode="free_running")


def _rolled(model: str, index: int, step: int) -> Iterator[Measurement]:
    vmf = model.startswith("vmf")
    start, decay = (0.67, 0.95) if vmf else (0.61, 1.1)
    exploded = (
        None
        if model == "mdn" and step > 14
        else math.exp(0.95 * step)
        if model == "mdn"
        else (3.0 + 4 * index) * step - 90
    )
    free = {
        "direction_cosine": start / step**decay + 0.01 * (index // 2),
        "innovation_cosine": (0.3 + 0.01 * index) / step ** (0.9 - 0.05 * index),
        "magnitude_ratio": (0.78 if vmf else 0.61) / step ** (0.3 if vmf else 0.8) + 0.05 * (index // 2),
        "delta_nll": exploded,
        "state_error": 9.0 * step**0.5,
        "state_error_vs_still": 0.92 + 0.012 * step * (1.0 if vmf else 1.8) * (1 - 0.12 * index),
        "state_error_vs_mean": 0.61 + (0.06 - 0.006 * index) * step**0.8,
    }
    fed = {**free, "direction_cosine": start, "innovation_cosine": 0.3, "magnitude_ratio": 0.66}
    fed |= {"delta_nll": -96.0, "state_error": 9.0, "state_error_vs_still": 0.92, "state_error_vs_mean": 0.61}
    for mode, values in (("free_running", free), ("teacher_forced", fed)):
        for metric, value in values.items():
            spread = 0.0 if value is None else abs(value) * 0.05 + 0.004
            yield record("factorisation", model, metric, value, spread, step=step, mode=mode)


def injection() -> Iterator[Measurement]:
    since = {
        "A": lambda s: 1,
        "B": lambda s: (s - 1) % 4 + 1 if s <= 16 else s,
        "C": lambda s: 1 if s <= 2 else s - 1,
        "D": lambda s: s,
    }
    for model in HEADS:
        for mode, age in since.items():
            for step in range(1, 17):
                a = age(step)
                values = {
                    "delta_nll": -96.0 + 9.0 * (a - 1) * (1.6 if model == "mdn" else 1.0),
                    "direction_cosine": (0.61 if model == "mdn" else 0.67) / a**0.9,
                    "magnitude_ratio": 0.7 / a**0.4,
                    "state_error": 9.0 * a**0.5,
                }
                for metric, value in values.items():
                    spread = abs(value) * 0.04 + 0.005
                    yield record("injection", model, metric, value, spread, step=step, mode=mode)
        for step in (4, 8, 12):
            yield record("injection", model, "recovery", 0.93 - 0.01 * step, 0.03, step=step, mode="B")


def measurements(world: bool = False) -> Measurements:
    """Everything; a world has analytic values beside."""
    parts = [predictability(), magnitude(), factorisation(), injection()]
    return Measurements(r for part in [*parts, *([analytic()] if world else [])] for r in part)


def decision(found: Measurements) -> Decision:
    """One finding of each verdict."""
    excess = Criterion(
        experiment="predictability",
        question="How predictable is the next increment, beyond regression to the mean?",
        metric="delta_nll_excess",
        relation="below",
        threshold=0.0,
        reason="Below zero a model knows more than the best trivial baseline, which holds mean reversion.",
    )
    size = Criterion(
        experiment="magnitude",
        question="Is the magnitude truly unpredictable?",
        metric="magnitude_r2",
        relation="above",
        threshold=0.0,
        reason="Above zero the head explains more than a constant does.",
    )
    holds = Criterion(
        experiment="factorisation",
        question="Does direction × magnitude hold up in a rollout?",
        metric="direction_cosine",
        relation="above",
        threshold=0.6,
        reason="A rollout that keeps the direction for 16 steps would be stable without correction.",
    )
    gap = Criterion(
        experiment="injection",
        question="Where does the rollout gap come from?",
        metric="recovery",
        relation="above",
        threshold=0.9,
        reason="A model that recovers from a true frame has drifted; one that does not has broken.",
    )
    at = found.select
    ceiling = found.one(metric="ceiling_direction_cosine", step=16)
    findings = (
        Finding(
            criterion=excess,
            measured=at(metric="delta_nll_excess", data="real", lag=1, model="vmf")[0],
            verdict="pass",
            label="lag 1",
            words="The vMF head beats the best trivial baseline by 23.0 nats per frame.",
            would_change="An AR(2) baseline that reaches the same likelihood.",
        ),
        Finding(
            criterion=excess,
            measured=at(metric="delta_nll_excess", data="shuffled_within", lag=1, model="vmf")[0],
            verdict="fail",
            label="shuffled",
            words="On shuffled frames nothing is left, as it must be.",
            would_change="Nothing should: anything below zero here would be a fault in the measurement.",
        ),
        Finding(
            criterion=size,
            measured=at(metric="magnitude_r2", model="vmf")[0],
            verdict="pass",
            words="The magnitude is predictable: R² is 0.291 by the head's own mean.",
            would_change="An interval that reaches zero on more speakers.",
        ),
        Finding(
            criterion=holds,
            measured=found.one(
                experiment="factorisation",
                metric="direction_cosine",
                mode="free_running",
                model="vmf",
                step=16,
            ),
            verdict="unattainable",
            words="After 16 steps the cosine is 0.0481; no predictor could reach 0.6 from frames that old.",
            would_change="A ceiling above 0.6: a corpus or a codec whose future is determined further ahead.",
            ceiling=ceiling,
        ),
        Finding(
            criterion=gap,
            measured=found.one(metric="recovery", model="vmf", step=4),
            verdict="undecided",
            label="recoverable drift",
            words="One true frame closes most of the gap, but the interval straddles the threshold.",
            would_change="About three times as many speakers.",
        ),
    )
    return Decision(
        headline="Local structure is real but short: beyond mean reversion, it lasts about two frames",
        advice="Keep the direction × magnitude head, train it unrolled, and compare representations next.",
        path=(
            Turn(
                question="Does the factorised head make rollouts more stable than the MDN?",
                answer="yes",
                because="The state error is lower at every step after the third.",
            ),
            Turn(
                question="Do reusable directions exist?",
                answer="open",
                because="The experiment was not part of this run.",
            ),
            Turn(question="Does memory help?", answer="no", because="It does not beat one prototype."),
        ),
        findings=findings,
        priors=(
            Prior(hypothesis="vMF keeps the direction", probability=0.6, outcome=False, brier=0.36),
            Prior(hypothesis="archetypes exist", probability=0.5, outcome=None, brier=None),
        ),
        warnings=("Six of 24 test speakers have under a minute of speech.",),
    )


def provenance(synthetic: bool = True) -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "version": "0.1.0",
        "command": "engram run --codec lyra --corpus voices --out runs/first",
        "seed": 7,
        "device": "cpu, 2 threads",
        "versions": {"torch": "2.9.0", "numpy": "2.4.6", "matplotlib": "3.11.2"},
        "codec": {
            "name": "lyra",
            "fingerprint": "sha256:6f1e0c52ab0f41d79f1b0a4c",
            "tap": "encoder",
            "sample_rate": 16000,
            "frame_rate": 12.5,
            "latent_dim": 256,
            "causal": False,
            "stochastic": False,
        },
        "corpus": {
            "name": "voices",
            "synthetic": synthetic,
            "seconds": 7452.3,
            "counts": {"found": 812, "ok": 806, "skipped": 5, "failed": 1},
            "reasons": {"shorter than two windows": 5, "truncated FLAC": 1},
            "speakers": {"train": 120, "validation": 20, "test": 24},
            "frames": {"train": 71_020, "validation": 10_044, "test": 12_090},
            "silent_frames": 312,
        },
        "stages": [{"name": "encode", "seconds": 61.2}, {"name": "train", "seconds": 142.9}],
        "peak_memory_bytes": 1_312_000_000,
    }


def folder_of(found: Decision, measured: Iterable[Measurement]) -> RunFolder:
    """A run folder that holds these and nothing else."""
    made = Provenance.model_validate(provenance())
    return RunFolder(Path("run"), "", Measurements(measured), found, made, {}, [], None)


def training() -> dict[str, list[dict[str, Any]]]:
    """Losses that fall, and one that was not finite."""
    return {
        model: [
            {
                "epoch": e,
                "train": 310.0 + 60 / e - 4 * place,
                "validation": None if e == 7 and place == 0 else 316.0 + 58 / e,
                "seconds": 3,
            }
            for e in range(1, 13)
        ]
        for place, model in enumerate(("mdn", "vmf"))
    }


def write_audio(run: Path) -> None:
    """Short tones, one for each kind of clip."""
    (run / "audio").mkdir()
    kinds = {
        "original": "original",
        "codec round trip": "round_trip",
        "teacher-forced, vMF": "teacher_forced",
        "rollout, MDN": "rollout",
        "rollout, vMF": "rollout",
        "true direction, 75 % magnitude": "scaled",
        "true direction, 50 % magnitude": "scaled",
        "true direction, 25 % magnitude": "scaled",
    }
    index = []
    for place, (label, kind) in enumerate(kinds.items()):
        seconds = 2.0
        time = np.arange(int(16000 * seconds)) / 16000
        soundfile.write(run / "audio" / f"{place}.flac", 0.1 * np.sin(2 * np.pi * (220 + 40 * place) * time), 16000)
        for group in ("Speaker s103", "Speaker s211"):
            note = "goes silent after 0.8 s" if label == "rollout, MDN" else ""
            index.append({"group": group, "label": label, "kind": kind, "file": f"{place}.flac"})
            index[-1] |= {"seconds": seconds, "rms_db": -23.0 - place, "note": note}
    (run / "audio" / "index.json").write_text(json.dumps(index))


def write_run(run: Path, world: bool = False) -> Path:
    """A whole run folder; a world has analytic values and no audio."""
    run.mkdir(parents=True, exist_ok=True)
    found = measurements(world)
    found.write(run / "measurements.json")
    decision(found).write(run / "decision.json")
    (run / "provenance.json").write_text(json.dumps(provenance()))
    (run / "config.toml").write_text('seed = 7\n\n[codec]\nname = "lyra"\n')
    (run / "training.json").write_text(json.dumps(training()))
    if not world:
        write_audio(run)
    return run
