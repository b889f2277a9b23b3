"""What experiments on rollouts share: their segments, figures by step with intervals, and the rollout ceiling."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.data.windows import Windows
from audio_engram.dynamics.baselines import Baseline
from audio_engram.forcing import free_running
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores, predictor, score, score_rollouts
from audio_engram.rollout import Forward, RolloutOptions
from audio_engram.runs import Run
from audio_engram.statistics import Interval


def rollout_segments(run: Run, steps: int, split: str = "test") -> tuple[Windows, Tensor]:
    """Windows of a split and the segments that rollouts are measured on, spread evenly over it."""
    windows = run.windows(split, steps)
    return windows, windows.evenly(run.config.experiments.max_segments)


def free_rollouts(run: Run, model: Forward, segments: tuple[Windows, Tensor], options: RolloutOptions) -> RolloutScores:
    """Rollouts from these segments, as many steps as they have, that are given no true frame."""
    windows, index = segments
    masks = {"free_running": free_running(windows.steps)}
    return score_rollouts(model, windows, index, masks, run.baseline("ar1").last, options)["free_running"]


def mean_after(
    run: Run, rolled: RolloutScores, values: Float[Tensor, "M S"], step: int, split: str = "test"
) -> Interval:
    """Mean over the steps after this one, of segments whose true increment there has a density."""
    valid = rolled.valid[:, step:]
    return run.bootstrap(rolled.speaker[:, step:][valid], split).mean(values[:, step:][valid])


def baseline_nll(baseline: Baseline, windows: Windows, index: Tensor) -> Tensor:
    """-log p of every true increment of the segments under the increment marginal (M, S)."""
    parts = []
    for segment in windows.batches(index):
        m, s, d = segment.future.shape
        flat = baseline(segment.previous.reshape(m * s, 1, d)).log_prob(segment.delta.reshape(m * s, d))
        parts.append(-flat.view(m, s))
    return torch.cat(parts)


def measure_steps(run: Run, scores: RolloutScores, reference: Tensor, **what: Any) -> list[Measurement]:
    """Cosines, magnitude ratio, ΔNLL and state error at every step, over segments whose increment has a density."""
    found = []
    for s in range(scores.nll.shape[1]):
        keep = scores.valid[:, s]
        if not keep.any():
            continue
        b = run.bootstrap(scores.speaker[keep, s])
        difference = (scores.nll - reference)[keep, s]
        column = {name: getattr(scores, name)[keep, s] for name in ("state_error", "still_error", "mean_error")}
        intervals = {
            "direction_cosine": b.mean(scores.cosine[keep, s]),
            "innovation_cosine": b.mean(scores.innovation_cosine[keep, s]),
            "magnitude_ratio": b.ratio(scores.magnitude[keep, s], scores.true_magnitude[keep, s]),
            "delta_nll": b.mean(difference),
            "state_error": b.mean(column["state_error"]),
            "state_error_vs_still": b.ratio(column["state_error"], column["still_error"]),
            "state_error_vs_mean": b.ratio(column["state_error"], column["mean_error"]),
        }
        if difference.isfinite().all():
            intervals["delta_nll_median"] = b.quantile(difference, 0.5)
        found += [run.measure(i, metric=name, step=s + 1, **what) for name, i in intervals.items()]
    return found


def first_nonfinite_step(scores: RolloutScores) -> int:
    """The first step at which any state is not finite; 0 if none is."""
    broken = (~scores.finite).any(0).nonzero().flatten()
    return int(broken[0]) + 1 if len(broken) else 0


def ceiling(run: Run, steps: Iterable[int]) -> list[Measurement]:
    """The best direction cosine that a predictor trained directly at a lag reaches, for every rollout step.

    At step s the context of true frames is s frames old. Of the lags trained, the longest up to s and all longer ones
    count, and of the heads and baselines the one whose interval ends highest: the bound errs on the generous side.
    """
    lags = run.config.experiments.ceiling_lags
    trained = {lag: _ceiling_at(run, lag) for lag in lags}
    found = []
    for step in steps:
        first = max(lag for lag in lags if lag <= step)
        best = max((m for lag, m in trained.items() if lag >= first), key=_upper_end)
        found.append(best.model_copy(update={"step": step}))
    return found


def _ceiling_at(run: Run, lag: int) -> Measurement:
    windows = run.windows("test", lag)
    index = windows.with_valid_target()
    ar1 = predictor(run.baseline("ar1", lag), False)
    increment = predictor(run.baseline("increment", lag), False)
    heads = [predictor(run.model(head, lag), False) for head in ("mdn", "vmf")]
    measured = []
    for predict in (*heads, ar1, increment):
        scores = score(predict, windows, index, ar1)
        interval = run.bootstrap(scores.speaker).mean(scores.cosine)
        what = {"experiment": "factorisation", "model": "ceiling", "metric": "ceiling_direction_cosine", "lag": lag}
        measured.append(run.measure(interval, **what))
    return max(measured, key=_upper_end)


def _upper_end(measured: Measurement) -> float:
    return max(v for v in (measured.high, measured.value, -1.0) if v is not None)
