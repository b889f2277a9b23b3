"""Is the magnitude of the next increment truly unpredictable?"""

from audio_engram.data.windows import Windows
from audio_engram.decision import Criterion, Finding
from audio_engram.experiments.known import analytic
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.measurements import Measurement
from audio_engram.metrics import expected_log_magnitude, predictor, score
from audio_engram.runs import Run
from audio_engram.spoken import spoken

CLEAN_LAG = 2  # at lag 1 the last frame's distance from the mean tells the magnitude even of white noise

CRITERION = Criterion(
    experiment="magnitude",
    question="Is the magnitude of the next increment predictable?",
    metric="magnitude_r2",
    relation="above",
    threshold=0.0,
    reason=f"Above 0 the model's E[log m] beats the training mean on held-out speakers. Judged at lag "
    f"{CLEAN_LAG}: at lag 1 white noise scores above 0 as well, because differencing carries the last frame of the "
    "context into the increment.",
)


def magnitude(run: Run) -> Outcome:
    """R2 of log m by the model's own E[log m] and by the norm of its predicted mean, at every lag."""
    outcome = Outcome()
    lags = sorted({*run.config.experiments.lags, CLEAN_LAG})
    for lag in lags:
        for head in ("mdn", "vmf"):
            outcome.measurements += _measure(run, head, lag)
    for lag in (1, CLEAN_LAG):
        for utterance in (False, True):
            outcome.measurements += _measure(run, "magnitude", lag, utterance)
    for lag in run.config.experiments.surrogate_lags:
        outcome.measurements += _measure(run, "vmf", lag, data="shuffled_within")
    known = [] if run.world is None else run.world.analytic(tuple(lags))
    outcome.measurements += [analytic(run, one, "magnitude") for one in known if one.metric == "magnitude_r2"]
    outcome.findings.append(_judge(outcome.measurements))
    return outcome


def _measure(run: Run, kind: str, lag: int, utterance: bool = False, data: str = "real") -> list[Measurement]:
    windows = run.windows("test", lag, data)
    predict = predictor(run.model(kind, lag, data, utterance), utterance)
    ar1 = predictor(run.baseline("ar1", lag, data), False)
    scores = score(predict, windows, windows.with_valid_target(), ar1)
    centre = _training_mean(run.windows("train", lag, data))
    b, total = run.bootstrap(scores.speaker), (scores.log_m - centre).square()
    expected, variance = expected_log_magnitude(predict, windows, windows.with_valid_target())
    # What draws err in E[log m] is no error of the model: a square holds their variance on top.
    errors = {"magnitude_r2": (scores.log_m - expected).square() - variance}
    if kind != "magnitude":  # its mean is zero by construction
        errors["magnitude_r2_of_mean"] = (scores.log_m - scores.log_m_of_mean).square()
    what = {
        "experiment": "magnitude",
        "model": kind + ("_utterance" if utterance else ""),
        "lag": lag,
        "data": data,
    }
    return [run.measure(b.r2(error, total), metric=name, **what) for name, error in errors.items()]


def _training_mean(windows: Windows) -> float:
    return float(windows.increments(windows.with_valid_target()).norm(dim=1).log().double().mean())


def _judge(measured: list[Measurement]) -> Finding:
    def of(model: str, metric: str = "magnitude_r2") -> Measurement:
        wanted = (model, metric, CLEAN_LAG, "real")
        return next(m for m in measured if (m.model, m.metric, m.lag, m.data) == wanted)

    own = of("vmf")
    words = (
        f"At lag {CLEAN_LAG} {spoken(own.model)} explains R² {show(own)} of log magnitude by its E[log m]; a model of "
        f"the magnitude only {show(of('magnitude'))}, with utterance-level features as well "
        f"{show(of('magnitude_utterance'))}. The norm of the predicted mean, which shrinks by construction, would say "
        f"{show(of('vmf', 'magnitude_r2_of_mean'))}."
    )
    return Finding(
        criterion=CRITERION,
        measured=own,
        verdict=CRITERION.judge(own),
        cause=CRITERION.cause(own),
        words=words,
        would_change="A longer context, or more training speakers.",
    )
