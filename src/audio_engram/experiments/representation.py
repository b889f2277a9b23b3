"""Is the gap between prediction and rollout the codec's? The same speech in other codecs, rates and projections."""

from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor

from audio_engram.config import CodecConfig
from audio_engram.decision import Criterion, Finding
from audio_engram.experiments.injection import Gap
from audio_engram.experiments.outcome import Outcome, show, spoken
from audio_engram.experiments.predictability import (
    HEADS,
    cell,
    dynamics,
    dynamics_resampled,
    mean_nll,
    preferred,
)
from audio_engram.experiments.rollouts import baseline_nll, rollout_segments
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score, score_rollouts
from audio_engram.runs import Run
from audio_engram.statistics import Interval

COMPONENTS = (32, 64, 128)
MEL_RATES = (12.5, 25.0, 50.0, 100.0)

CRITERION = Criterion(
    experiment="representation",
    question="Is the gap between prediction and rollout the codec's?",
    metric="dynamics_ratio",
    relation="above",
    threshold=2.0,
    reason="What the order of the frames tells in a second of audio, in the representation where it tells most, over "
    "the same in the run's own. Only dynamics count: mean reversion and the shape of the density grow with the frame "
    "rate and tell nothing about the next frame.",
)


def representation(run: Run) -> Outcome:
    """Predictability per second, its ceiling and the stability of rollouts, for every representation."""
    outcome, others = Outcome(), [run.represented(codec) for codec in representations(run)]
    # Encode and measure lengths first: a recording too short must not show after the hours of the first training.
    for other in others:
        for split in ("train", "validation", "test"):
            other.check_length(split, horizon(other), "experiments.rollout_seconds")
    found = []
    for place, other in enumerate(others):
        run.log(f"representation {place + 1} of {len(others)}: {other.codec.title}, {other.codec.latent_dim}-d")
        one = _measure(other)
        outcome.measurements += one.measurements
        found.append(one)
        if other is not run:
            other.forget()
    outcome.findings.append(_judge(run, found))
    return outcome


def representations(run: Run) -> list[CodecConfig]:
    """The run's own first, then those that the configuration names; without any, variants of its own."""
    own, named = run.config.codec, run.config.experiments.representations
    return [own, *(one for one in (named or _variants(run)) if one != own)]


def _variants(run: Run) -> list[CodecConfig]:
    own = run.config.codec
    dim = run.codec.latent_dim
    rates = [own.model_copy(update={"stack": 1})]
    if run.base.name == "mel":
        rates = [own.model_copy(update={"frame_rate": r, "stack": 1}) for r in MEL_RATES if r != run.codec.frame_rate]
    projected = [own.model_copy(update={"pca": float(k)}) for k in COMPONENTS if k < dim and not own.pca]
    return [*rates, *projected, *([own.model_copy(update={"smooth": 3})] if own.smooth == 1 else [])]


def horizon(run: Run) -> int:
    """Frames in `experiments.rollout_seconds`."""
    return max(2, round(run.config.experiments.rollout_seconds * run.codec.frame_rate))


@dataclass(frozen=True)
class _Found:
    """What one representation showed; `per_second` is the preferred head's dynamics of every resample."""

    title: str
    head: str
    measurements: list[Measurement]
    per_second: Tensor
    n_frames: int
    n_speakers: int

    def one(self, metric: str) -> Measurement:
        return next(m for m in self.measurements if m.model == self.head and m.metric == metric)


def _measure(run: Run) -> _Found:
    records: list[Measurement] = []
    for head in HEADS:
        records += _predictability(run, head)
    records += _trivial(run) + _rollouts(run) + [_ceiling(run)]
    records = [r.model_copy(update={"experiment": "representation"}) for r in records]
    head, scored = preferred(run), cell(run, 1, "real")
    return _Found(
        run.codec.title,
        head,
        records,
        dynamics_resampled(run, head) * run.codec.frame_rate,
        len(scored.scores[head].nll),
        scored.bootstrap.n_speakers,
    )


def _predictability(run: Run, head: str) -> list[Measurement]:
    scored, rate = cell(run, 1, "real"), run.codec.frame_rate
    scores, b = scored.scores[head], scored.bootstrap
    above = scored.above(head, "increment")
    excess = scored.above(head, scored.best_trivial())
    log_scale = float(run.frames().scale.double().log().sum())
    gained = dynamics_resampled(run, head)
    intervals = {
        "delta_nll": b.mean(above),
        "delta_nll_excess": b.mean(excess),
        "delta_nll_per_second": b.mean(above * rate),
        "delta_nll_excess_per_second": b.mean(excess * rate),
        "dynamics_per_second": b.interval(gained * rate, len(above)),
        "nll_per_second": b.interval((mean_nll(run, head, "real") + log_scale) * rate, len(above)),
        "direction_cosine": b.mean(scores.cosine),
        "innovation_cosine": b.mean(scores.innovation_cosine),
        "increment_r2": b.r2(scores.delta_error, scores.delta_square),
    }
    found = [run.measure(i, experiment="", model=head, metric=name) for name, i in intervals.items()]
    return [*found, dynamics(run, head)]


def _trivial(run: Run) -> list[Measurement]:
    scored = cell(run, 1, "real")
    intervals = {
        "delta_nll_per_second": scored.bootstrap.mean(scored.above("ar1", "increment") * run.codec.frame_rate),
        "direction_cosine": scored.bootstrap.mean(scored.scores["ar1"].cosine),
    }
    return [run.measure(i, experiment="", model="ar1", metric=name) for name, i in intervals.items()]


def _rollouts(run: Run) -> list[Measurement]:
    """Free running against teacher forcing over the same stretch of time."""
    steps = horizon(run)
    masks = {"A": teacher_forcing(steps), "D": free_running(steps)}
    windows, index = rollout_segments(run, steps)
    reference = baseline_nll(run.baseline("increment"), windows, index)
    found = []
    for head in ("ar1", *HEADS):
        model = run.baseline("ar1") if head == "ar1" else run.model(head)
        scores = score_rollouts(model, windows, index, masks, run.baseline("ar1").last)
        what = {"experiment": "", "model": head, "mode": "D", "step": steps}
        found.append(run.measure(Gap(run, head, scores, reference, []).kept(), metric="advantage_kept", **what))
        free = scores["D"]
        keep = free.valid[:, -1]
        b = run.bootstrap(free.speaker[keep, -1])
        last = {name: getattr(free, name)[keep, -1] for name in ("state_error", "still_error", "mean_error")}
        ratios = {
            "state_error_vs_still": (last["state_error"], last["still_error"]),
            "state_error_vs_mean": (last["state_error"], last["mean_error"]),
            "magnitude_ratio": (free.magnitude[keep, -1], free.true_magnitude[keep, -1]),
        }
        found += [run.measure(b.ratio(*pair), metric=name, **what) for name, pair in ratios.items()]
    return found


def _ceiling(run: Run) -> Measurement:
    """The direction cosine of a vMF trained directly at the lag where rollouts end, or AR(1)'s if that is better."""
    lag = horizon(run)
    windows = run.windows("test", lag)
    index = windows.with_valid_target()
    ar1 = predictor(run.baseline("ar1", lag), False)
    best = []
    for predict in (predictor(run.model("vmf", lag), False), ar1):
        scores = score(predict, windows, index, ar1)
        interval = run.bootstrap(scores.speaker).mean(scores.cosine)
        what = {"experiment": "", "model": "ceiling", "metric": "ceiling_direction_cosine", "step": lag}
        best.append(run.measure(interval, **what))
    return max(best, key=lambda m: m.value if m.value is not None else -1.0)


def _judge(run: Run, found: list[_Found]) -> Finding:
    """The representation with the largest lower end speaks for all others."""
    own, others = found[0], found[1:]
    ratios = [_ratio(run, one, own) for one in others]
    measured = max(ratios, key=lambda m: m.low if m.low is not None else float("-inf")) if ratios else None
    if measured is None:
        measured = Measurement(experiment="representation", model=own.head, metric="dynamics_ratio", value=None)
    best = next((one for one in others if one.title == measured.codec), own)
    words = (
        f"{own.title}: {_said(own)}. Most in {best.title}: {_said(best)}, {show(measured)} times as much"
        f"{_together(found)}."
        if others
        else f"{own.title} alone was measured: name others in experiments.representations."
    )
    return Finding(
        criterion=CRITERION,
        measured=measured,
        verdict=CRITERION.judge(measured),
        cause=CRITERION.cause(measured),
        words=words,
        would_change="Another codec, tap or frame rate among experiments.representations.",
    )


def _said(one: _Found) -> str:
    kept = one.one("advantage_kept")
    return (
        f"{show(one.one('dynamics_per_second'))} nats a second from the order of the frames ({spoken(one.head)}; free"
        f" running keeps {show(kept)} of its advantage)"
    )


def _ratio(run: Run, one: _Found, own: _Found) -> Measurement:
    """Paired over speakers, which are the same in both as far as their audio is long enough for both."""
    # Where the run's own dynamics may be nothing, a ratio to them has no interval.
    if one.n_speakers == own.n_speakers and bool((own.per_second < 0).all()):
        interval = cell(run, 1, "real").bootstrap.interval(one.per_second / own.per_second, one.n_frames)
    else:
        interval = Interval(float(one.per_second[0] / own.per_second[0]), None, None, one.n_frames, one.n_speakers)
    record = run.measure(interval, experiment="representation", model=one.head, metric="dynamics_ratio")
    return record.model_copy(update={"codec": one.title})


def _together(found: list[_Found]) -> str:
    """Whether what is more predictable also rolls out longer, over the representations."""
    pairs = [(-float(one.per_second[0]), one.one("advantage_kept").value) for one in found]
    finite = [(x, y) for x, y in pairs if y is not None]
    if len(finite) < 4:
        return ""
    rank = float(spearmanr(*torch.tensor(finite).T.numpy()).statistic)
    return (
        f"; over {len(finite)} representations, dynamics a second and the share that free running keeps have rank"
        f" correlation {rank:.2f}"
    )
