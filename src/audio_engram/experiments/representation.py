"""Is the gap between prediction and rollout the codec's? The same speech in other codecs, rates and projections."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from scipy.stats import spearmanr
from torch import Tensor

from audio_engram.codecs.base import load_codec
from audio_engram.codecs.derived import base_config, check_derived, with_rate
from audio_engram.config import CodecConfig
from audio_engram.decision import Cause, Criterion, Finding
from audio_engram.errors import UsageError
from audio_engram.experiments.injection import Gap
from audio_engram.experiments.outcome import Outcome, looking_ahead, show
from audio_engram.experiments.predictability import (
    HEADS,
    cell,
    dynamics,
    dynamics_resampled,
    preferred,
)
from audio_engram.experiments.rollouts import baseline_nll, rollout_segments
from audio_engram.experiments.smoothing import variants as ways
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score, score_rollouts
from audio_engram.runs import Run
from audio_engram.spoken import spoken
from audio_engram.statistics import SpeakerBootstrap

COMPONENTS = (32, 64, 128)
MEL_RATES = (12.5, 25.0, 50.0, 100.0)
ENOUGH = 8  # representations for a rank correlation to mean anything

CRITERION = Criterion(
    experiment="representation",
    question="Is the gap between prediction and rollout the codec's?",
    metric="dynamics_ratio",
    relation="above",
    threshold=2.0,
    reason="What the order of the frames tells in a second of audio, in the representation where it tells most, over "
    "the same in the run's own, each by the head that validation prefers. Only representations at the run's own frame "
    "rate are judged: where time is cut n times finer, the same process tells about n times as much in a second, and "
    "nothing was gained.",
)


def representation(run: Run) -> Outcome:
    """Predictability per second, its ceiling and the stability of rollouts, for every representation."""
    outcome, others = Outcome(), [run.represented(codec) for codec in representations(run)]
    # Encode and measure lengths first: a recording too short must not show after the hours of the first training.
    for other in others:
        for split in ("train", "validation", "test"):
            other.check_length(split, horizon(other), "experiments.rollout_seconds")
        if other is not run:
            other.forget()
    _refuse_same_titles(others)
    found = []
    for place, other in enumerate(others):
        run.log(f"representation {place + 1} of {len(others)}: {other.codec.title}, {other.codec.latent_dim}-d")
        found.append(_measure(other))
        outcome.measurements += found[-1].measurements
        if other is not run:
            other.forget()
    ratios = [_ratio(run, one, found[0]) for one in found]
    outcome.measurements += ratios
    outcome.findings.append(_judge(found, ratios[1:]))
    outcome.warnings += looking_ahead(_ahead(run, others))
    return outcome


def check_codecs(run: Run, names: Collection[str]) -> None:
    """Load what `representation` and `smoothing` will compare, if they are asked, before hours are spent on others.

    Raises:
        EngramError: as a run of that codec does.
    """
    asked = [*(representations(run) if "representation" in names else []), *(ways(run) if "smoothing" in names else [])]
    for codec in asked:
        same = base_config(codec) == base_config(run.config.codec)
        check_derived(run.base if same else load_codec(codec), codec)


def _ahead(run: Run, others: list[Run]) -> list[str]:
    """Who sees its future and is not named by another warning: that on the run's own codec, or that of `smoothing`."""
    told = [run.config.codec, *(ways(run) if "smoothing" in run.config.experiments.names else [])]
    return [one.codec.title for one in others if not one.codec.causal and one.config.codec not in told]


def _refuse_same_titles(runs: list[Run]) -> None:
    titles = [one.codec.title for one in runs]
    if twice := next((title for title in titles if titles.count(title) > 1), ""):
        raise UsageError(
            f"experiments.representations: two are called {twice!r} and could not be told apart: leave one out, or"
            " measure them in runs of their own and set those side by side with `engram compare`"
        )


def representations(run: Run) -> list[CodecConfig]:
    """The run's own first, then those that the configuration names; without any, variants of its own."""
    own, named = run.config.codec, run.config.experiments.representations
    return [own, *(one for one in (named or _variants(run)) if one != own)]


def _variants(run: Run) -> list[CodecConfig]:
    own = run.config.codec
    cut = with_rate(run.base, own)
    plain = own.model_copy(update={"stack": 1, "unstack": 1, "pca": 0.0, "whiten": False})
    rates = [plain] if plain.stack != own.stack else []
    if run.base.name == "mel":
        rates = [plain.model_copy(update={"frame_rate": r}) for r in MEL_RATES if r != cut.frame_rate]
    projected = [own.model_copy(update={"pca": float(k)}) for k in COMPONENTS if k < cut.latent_dim and not own.pca]
    return [*rates, *projected, *([own.model_copy(update={"smooth": 3})] if own.smooth == 1 else [])]


def horizon(run: Run) -> int:
    """Frames in `experiments.rollout_seconds`."""
    return max(2, round(run.config.experiments.rollout_seconds * run.codec.frame_rate))


@dataclass(frozen=True)
class _Found:
    """What one representation showed; `per_second` is the preferred head's dynamics of every resample, `made_of` the
    real frames and the shuffled ones that it is a difference of."""

    title: str
    head: str
    measurements: list[Measurement]
    per_second: Tensor
    made_of: tuple[SpeakerBootstrap, ...]
    speakers: frozenset[str]
    frame_rate: float

    @property
    def may_be_nothing(self) -> bool:
        """Whether the order of its frames may tell nothing; no ratio to that has an interval."""
        return bool((self.per_second >= 0).any())

    def one(self, metric: str) -> Measurement:
        return next(m for m in self.measurements if m.model == self.head and m.metric == metric)


def _measure(run: Run) -> _Found:
    records: list[Measurement] = []
    for head in HEADS:
        records += _predictability(run, head)
    records += _trivial(run) + _rollouts(run) + [_ceiling(run)]
    records = [r.model_copy(update={"experiment": "representation"}) for r in records]
    head = preferred(run)
    return _Found(
        run.codec.title,
        head,
        records,
        dynamics_resampled(run, head) * run.codec.frame_rate,
        _made_of(run),
        run.held_out(),
        run.codec.frame_rate,
    )


def _made_of(run: Run) -> tuple[SpeakerBootstrap, ...]:
    return tuple(cell(run, 1, data).bootstrap for data in ("real", "shuffled_within"))


def _predictability(run: Run, head: str) -> list[Measurement]:
    scored, rate = cell(run, 1, "real"), run.codec.frame_rate
    scores, (b, null) = scored.scores[head], _made_of(run)
    above = scored.above(head, "increment")
    excess = scored.above(head, scored.best_trivial())
    log_scale = float(run.frames().scale.double().log().sum())
    gained = dynamics_resampled(run, head)
    intervals = {
        "delta_nll": b.mean(above),
        "delta_nll_excess": b.mean(excess),
        "delta_nll_per_second": b.mean(above * rate),
        "delta_nll_excess_per_second": b.mean(excess * rate),
        "dynamics_per_second": b.interval(gained * rate, len(above), null),
        "nll_per_second": b.mean((scores.nll + log_scale) * rate),
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


def _judge(found: list[_Found], ratios: list[Measurement]) -> Finding:
    """Of the representations at the run's own frame rate the one with the largest lower end speaks for all."""
    own = found[0]
    alike = [ratio for one, ratio in zip(found[1:], ratios, strict=True) if one.frame_rate == own.frame_rate]
    nothing = Measurement(experiment="representation", model=own.head, metric="dynamics_ratio", value=None)
    measured = max(alike, key=_lower_end, default=nothing)
    return Finding(
        criterion=CRITERION,
        measured=measured,
        verdict=CRITERION.judge(measured),
        cause=_cause(own, measured) if alike else "nothing beside",
        words=_words(found, measured) + _together(found),
        would_change="Another codec or tap among experiments.representations, stacked to the run's own frame rate.",
    )


def _cause(own: _Found, measured: Measurement) -> Cause:
    cause = CRITERION.cause(measured)
    return "ratio to nothing" if cause == "no interval" and own.may_be_nothing else cause


def _lower_end(ratio: Measurement) -> tuple[float, float]:
    low = float("-inf") if ratio.low is None else ratio.low
    return low, float("-inf") if ratio.value is None else ratio.value


def _words(found: list[_Found], measured: Measurement) -> str:
    own = found[0]
    told = f"What the order of the frames tells, in nats a second (negative is better): {own.title} {_said(own)}"
    best = next((one for one in found[1:] if one.title == measured.codec), None)
    if best is None:
        return f"{told}. No other representation at {own.frame_rate:g} Hz was measured."
    return f"{told}; {best.title} {_said(best)}, {show(measured)} times as much."


def _said(one: _Found) -> str:
    told, kept = show(one.one("dynamics_per_second")), show(one.one("advantage_kept"))
    return f"{told} ({spoken(one.head)}; free running keeps {kept} of its advantage)"


def _ratio(run: Run, one: _Found, own: _Found) -> Measurement:
    """Paired over speakers, which are the same in both as far as their audio is long enough for both."""
    ratios, n_frames = one.per_second / own.per_second, len(one.made_of[0].index)
    interval = one.made_of[0].interval(ratios, n_frames, *one.made_of[1:], *own.made_of)
    if one.speakers != own.speakers or own.may_be_nothing:
        interval = replace(interval, low=None, high=None)
    record = run.measure(interval, experiment="representation", model=one.head, metric="dynamics_ratio")
    return record.model_copy(update={"codec": one.title})


def _together(found: list[_Found]) -> str:
    """Whether what is more predictable also rolls out longer, over the representations."""
    pairs = [(-float(one.per_second[0]), one.one("advantage_kept").value) for one in found]
    finite = [(x, y) for x, y in pairs if y is not None]
    if len(finite) < ENOUGH:
        return ""
    rank = float(spearmanr(*torch.tensor(finite).T.numpy()).statistic)
    return (
        f" Over all {len(finite)} representations, dynamics a second and the share that free running keeps have rank"
        f" correlation {rank:.2f}."
    )
