"""How predictable is the next increment, at which lag, and how much of it is more than regression to the mean?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from audio_engram.decision import Criterion, Finding
from audio_engram.dynamics.baselines import BASELINES
from audio_engram.experiments.known import analytic
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.measurements import Measurement
from audio_engram.metrics import Scores, predictor, score
from audio_engram.runs import Run
from audio_engram.spoken import spoken
from audio_engram.statistics import SpeakerBootstrap

HEADS = ("mdn", "vmf")
AUTOREGRESSED = "autoregressed"  # no data that models are trained on: those of the real frames are asked about it
MARGIN = 0.01  # nats per dimension: two trainings on exchangeable data differ by about this much (docs/method.md)
EXPLODED = 100.0  # nats above the baseline


def predictability(run: Run) -> Outcome:
    """ΔNLL, its excess over the trivial baselines and its decomposition; cosines; next-state and increment R2."""
    outcome = Outcome()
    cells = [cell(run, lag, "real") for lag in run.config.experiments.lags]
    for data in ("shuffled_within", "shuffled_across"):
        cells += [cell(run, lag, data) for lag in run.config.experiments.surrogate_lags]
    for one in cells:
        outcome.measurements += _measure(run, one)
    outcome.measurements += _analytic(run)
    for head in HEADS:
        outcome.measurements += _decompose(run, head)
        outcome.measurements.append(excess_dynamics(run, head))
    outcome.findings.append(_judge(run, outcome.measurements))
    return outcome


def beyond_trivial(run: Run, head: str) -> Measurement:
    """The weakest of three gains at lag 1: over the best trivial baseline, over the same head on shuffled frames, and
    the first beyond what it is where AR(1) tells all of the order.

    A head beats the baselines by the shape of its density alone, and AR(1) gains from the order of frames as well: only
    the third tells an order that AR(1) does not tell.
    """
    real = cell(run, 1, "real")
    excess = run.measure(
        real.bootstrap.mean(real.above(head, real.best_trivial())),
        experiment="predictability",
        model=head,
        metric="delta_nll_excess",
    )
    gains = (excess, dynamics(run, head), excess_dynamics(run, head))
    return max(gains, key=lambda m: float("inf") if m.high is None else m.high)


def excess_dynamics(run: Run, head: str) -> Measurement:
    """The excess at lag 1 over the best trivial baseline, less that of the same models on autoregressed frames.

    One training stands on both sides, so that its luck does not count; where diagonal AR(1) tells all of the order
    both have the same law, whatever the density.
    """
    real, null = cell(run, 1, "real"), cell(run, 1, AUTOREGRESSED)
    excess = []
    for scored in (real, null):
        above = scored.above(head, real.best_trivial())
        excess.append(scored.bootstrap.ratios(above, torch.ones_like(above)))
    interval = real.bootstrap.interval(excess[0] - excess[1], len(real.scores[head].nll), null.bootstrap)
    return run.measure(interval, experiment="predictability", model=head, lag=1, metric="excess_dynamics")


def dynamics(run: Run, head: str) -> Measurement:
    """ΔNLL at lag 1 that only the order of the frames carries: the gain on real frames minus that on shuffled ones."""
    gained = dynamics_resampled(run, head)
    real, null = cell(run, 1, "real"), cell(run, 1, "shuffled_within")
    interval = real.bootstrap.interval(gained, len(real.scores[head].nll), null.bootstrap)
    return run.measure(interval, experiment="predictability", model=head, lag=1, metric="part_dynamics")


def dynamics_resampled(run: Run, head: str) -> Tensor:
    """`dynamics` of the sample itself, then of every resample of speakers (R + 1,)."""
    return _above_state(run, head, "real") - _above_state(run, head, "shuffled_within")


def _above_state(run: Run, head: str, data: str) -> Tensor:
    """Mean NLL at lag 1 minus the state marginal's, of the sample itself, then of every resample (R + 1,).

    Against the marginal of the very frames, because surrogates may be standardised by another scale.
    """
    scored = cell(run, 1, data)
    above = scored.above(head, "state")
    return scored.bootstrap.ratios(above, torch.ones_like(above))


def preferred(run: Run) -> str:
    """The head that validation speakers prefer at lag 1."""
    for head in HEADS:
        run.model(head)
    return min(HEADS, key=lambda name: run.histories[f"{name}-lag1"].best)


def criterion_for(run: Run, metric: str) -> Criterion:
    """The threshold in nats per frame at this number of dimensions."""
    return Criterion(
        experiment="predictability",
        question="Is the next increment predictable beyond regression to the mean?",
        metric=metric,
        relation="below",
        threshold=-MARGIN * run.frames().dim,
        reason="The excess over the best trivial baseline, the gain over the same head on shuffled frames, and the "
        "excess beyond that of the same model where AR(1) tells all of the order (its residuals shuffled within "
        f"utterances) must be below \N{MINUS SIGN}{MARGIN} nats per dimension: that much two trainings differ by luck.",
    )


@dataclass(frozen=True)
class Cell:
    """The scores of every model on one kind of data at one lag, on the same frames."""

    lag: int
    data: str
    scores: dict[str, Scores]
    bootstrap: SpeakerBootstrap

    @property
    def trivial(self) -> list[str]:
        return [name for name in self.scores if name in BASELINES]

    def best_trivial(self) -> str:
        """The baseline that is best on these very frames, which favours it over the models."""
        return min(self.trivial, key=lambda name: float(self.scores[name].nll.mean()))

    def above(self, model: str, reference: str) -> Tensor:
        """Nats per frame by which a model is above another."""
        return self.scores[model].nll - self.scores[reference].nll


def cell(run: Run, lag: int, data: str) -> Cell:
    """Every model's scores on one kind of data at one lag; scored once in a run."""
    return run.once(("predictability", lag, data), lambda: _score_all(run, lag, data))


def _score_all(run: Run, lag: int, data: str) -> Cell:
    run.log(f"predictability: lag {lag}, {data}")
    windows = run.windows("test", lag, data)
    data_of_models = "real" if data == AUTOREGRESSED else data
    index = windows.with_valid_target()
    ar1 = predictor(run.baseline("ar1", lag, data_of_models), reads_utterance=False)
    scores: dict[str, Scores] = {}
    for name in BASELINES:
        if name != "state" or lag == 1:
            baseline = predictor(run.baseline(name, lag, data_of_models), reads_utterance=name == "utterance")
            scores[name] = score(baseline, windows, index, ar1)
    for head in HEADS:
        model = predictor(run.model(head, lag, data_of_models), reads_utterance=False)
        scores[head] = score(model, windows, index, ar1)
    return Cell(lag, data, scores, run.bootstrap(scores["increment"].speaker))


def _measure(run: Run, scored: Cell) -> list[Measurement]:
    found = []
    best = scored.best_trivial()
    for name, scores in scored.scores.items():
        difference = scored.above(name, "increment")
        b = scored.bootstrap
        intervals = {
            "delta_nll": b.mean(difference),
            "delta_nll_median": b.quantile(difference, 0.5),
            "delta_nll_trimmed": b.trimmed_mean(difference),
            "exploded_share": b.mean((difference > EXPLODED).double()),
            "bits_per_dim": b.mean(_bits(run, scores.nll, scored.data)),
            "direction_cosine": b.mean(scores.cosine),
            "direction_cosine_standardised": b.mean(scores.cosine_standardised),
            "increment_r2": b.r2(scores.delta_error, scores.delta_square),
        }
        if name != "ar1":
            intervals["innovation_cosine"] = b.mean(scores.innovation_cosine)
        if scored.lag == 1:
            intervals["state_r2"] = b.r2(scores.delta_error, scores.state_square)
        if name in HEADS:
            intervals["delta_nll_excess"] = b.mean(scored.above(name, best))
        what = {"experiment": "predictability", "model": name, "lag": scored.lag, "data": scored.data}
        found += [run.measure(interval, metric=metric, **what) for metric, interval in intervals.items()]
    return found


def _bits(run: Run, nll: Tensor, data: str) -> Tensor:
    """Bits per dimension of the raw increment: the scale that standardising took out is put back."""
    log_scale = float(run.frames(data).scale.double().log().sum())
    return (nll + log_scale) / (run.frames().dim * torch.log(torch.tensor(2.0, dtype=torch.float64)))


def _decompose(run: Run, head: str) -> list[Measurement]:
    """ΔNLL at lag 1 as a telescoping sum of four parts; a head's gain is its mean NLL minus the state marginal's.

    `part_mean_reversion` state marginal - increment marginal: what differencing alone makes predictable
    `part_shape`          gain on frames shuffled across utterances: a density of a better shape
    `part_static`         gain on frames shuffled within - across utterances: who speaks, how loud
    `part_dynamics`       gain on real frames - on frames shuffled within: the order of the frames
    """
    real, within, across = (cell(run, 1, data) for data in ("real", "shuffled_within", "shuffled_across"))
    b, ones = real.bootstrap, torch.ones_like(real.scores[head].nll)
    state, increment = (b.ratios(real.scores[name].nll, ones) for name in ("state", "increment"))
    shape = _above_state(run, head, "shuffled_across")
    static = _above_state(run, head, "shuffled_within") - shape
    parts = {
        "part_mean_reversion": b.interval(state - increment, len(ones)),
        "part_shape": b.interval(shape, len(ones), across.bootstrap),
        "part_static": b.interval(static, len(ones), within.bootstrap, across.bootstrap),
    }
    what = {"experiment": "predictability", "model": head, "lag": 1}
    return [*(run.measure(i, metric=name, **what) for name, i in parts.items()), dynamics(run, head)]


def _analytic(run: Run) -> list[Measurement]:
    known = [] if run.world is None else run.world.analytic(run.config.experiments.lags)
    return [analytic(run, one, "predictability") for one in known if one.metric != "magnitude_r2"]


def _judge(run: Run, measured: list[Measurement]) -> Finding:
    """The verdict rests on the head that validation prefers, and on the weakest of its three gains."""
    head = preferred(run)
    mine = {m.metric: m for m in measured if m.model == head and m.lag == 1 and m.data == "real"}
    binding = beyond_trivial(run, head)
    criterion = criterion_for(run, binding.metric)
    return Finding(
        criterion=criterion,
        measured=binding,
        verdict=criterion.judge(binding),
        cause=criterion.cause(binding),
        words=f"{spoken(head)} at lag 1, in nats/frame (negative is better): ΔNLL {show(mine['delta_nll'])}; against "
        f"the best trivial baseline {show(mine['delta_nll_excess'])}; against the same head on shuffled frames, each "
        f"counted from the state marginal of its frames, {show(mine['part_dynamics'])}; the excess beyond "
        f"that of the same model where AR(1) tells all of the order {show(mine['excess_dynamics'])}.",
        would_change="More training speakers, a longer context or another tap of the codec.",
    )
