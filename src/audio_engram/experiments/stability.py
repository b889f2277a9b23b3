"""Is a sampled free-running rollout still speech, and which training keeps it so?"""

from functools import partial

import torch
from torch import Tensor

from audio_engram.experiments.decoded import Decoded, can_be_heard
from audio_engram.experiments.followed import Followed
from audio_engram.experiments.outcome import Outcome
from audio_engram.experiments.predictability import cell
from audio_engram.experiments.stability_verdict import Horizon, Judged, judge, recordings_diverge
from audio_engram.experiments.stretches import figures, followed, horizons, judged_end, lived, stretches, survived
from audio_engram.experiments.trajectories import Trajectories, find_trajectories
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score
from audio_engram.regimes import Regime, regime
from audio_engram.runs import Run
from audio_engram.statistics import Interval

ANCHORS = ("teacher-forced", "shuffled frames", "Gaussian frames")  # that are played beside original and round trip
UNHEARD = (
    "Stability: listeners are asked and hear nothing: there is no recording, no decoder, or experiments.decoded is 0."
)


def stability(run: Run) -> Outcome:
    """Every training regime: sampled rollouts at every horizon beside real stretches, and what it costs in ΔNLL."""
    outcome = Outcome()
    regimes = [regime(name) for name in run.config.experiments.regimes]
    some = find_trajectories(run)
    anchors = some.anchors(run.model("mdn"))
    outcome.measurements += _references(some, anchors)
    excess = {one.name: _above_trivial(run, one) for one in regimes}
    plain = {one.name: excess[one.name] for one in regimes if not one.train}
    best = min(plain.values(), key=lambda nats: float(nats.mean()), default=None)
    if best is None or float(best.mean()) >= 0:
        best = None  # nothing above the baselines, of which a share could be kept
    judged, heard = [], {}
    for one in regimes:
        run.log(f"stability: sampled rollouts of {one.words}")
        batches = some.batches(run.drawing(one), max(horizons(some)), one.name)
        rolled = followed(some, batches, run.config.experiments.decoded)
        judged.append(_judged(some, one, rolled, (excess[one.name], best)))
        outcome.measurements += judged[-1].measurements
        heard[one.name] = rolled.beginning
    if can_be_heard(run):
        _decode(some, anchors, heard, outcome)
    elif run.config.experiments.listeners:
        outcome.warnings.append(UNHEARD)
    at = Horizon(judged_end(some), run.codec.frame_rate, f"Judged are {some.counted}.{some.fewer}")
    outcome.findings.append(judge(at, judged, outcome.measurements))
    outcome.warnings += recordings_diverge(at, outcome.measurements)
    return outcome


def _decode(some: Trajectories, anchors: dict[str, Tensor], heard: dict[str, Tensor], outcome: Outcome) -> None:
    """Figures of some of the rollouts as audio, and what is played of the first."""
    some.run.log("stability: rollouts as sound")
    played = {name: anchors[name] for name in ANCHORS}
    decoded = Decoded(some, played, heard)
    found = decoded.outcome()
    outcome.measurements += found.measurements
    outcome.warnings += found.warnings
    decoded.keep({name: regime(name).words for name in heard})


def _references(some: Trajectories, anchors: dict[str, Tensor]) -> list[Measurement]:
    """Real utterances, real halves and the anchors, by the same figures."""
    run, found, ends = some.run, [], horizons(some)
    for name, latents in anchors.items():
        compared = some.manifold.compare(some.manifold.traits(latents), some.real_traits, some.bootstrap)
        step = some.real.shape[1]
        found += [_record(run, name, f"{metric}_ratio", one.ratio, step) for metric, one in compared.items()]
        if name == "teacher-forced":
            halves = {metric: one.halves for metric, one in compared.items()}
            found += [_record(run, "real halves", f"{metric}_ratio", i, step) for metric, i in halves.items()]
    lengths = torch.tensor([len(z) for z in some.whole])
    padded = torch.nn.utils.rnn.pad_sequence(some.whole, batch_first=True)
    return found + survived(some, some.manifold.range.diverge(padded, lengths), ends, partial(_record, run, "real"))


def _record(run: Run, model: str, metric: str, interval: Interval, step: int = 1, mode: str = "sampled") -> Measurement:
    return run.measure(interval, experiment="stability", model=model, metric=metric, step=step, mode=mode)


def _above_trivial(run: Run, one: Regime) -> Tensor:
    """Nats per frame above the best trivial baseline, teacher-forced at lag 1 on held-out frames."""
    scored, windows = cell(run, 1, "real"), run.windows("test", 1)
    ar1 = predictor(run.baseline("ar1"), reads_utterance=False)
    mine = score(predictor(run.drawing(one), reads_utterance=False), windows, windows.with_valid_target(), ar1)
    return mine.nll - scored.scores[scored.best_trivial()].nll


def _judged(some: Trajectories, regime: Regime, rolled: Followed, excess: tuple[Tensor, Tensor | None]) -> Judged:
    """A regime's rollouts beside real stretches; `excess` is its own and that of the best plain training."""

    def record(metric: str, interval: Interval, step: int = 1, mode: str = "sampled") -> Measurement:
        return _record(some.run, regime.name, metric, interval, step, mode)

    mine, best = excess
    bootstrap = cell(some.run, 1, "real").bootstrap
    found = [*figures(some, stretches(some, rolled), record), *lived(some, rolled, record)]
    found.append(record("delta_nll_excess", bootstrap.mean(mine), mode="teacher_forced"))
    if best is not None:
        found.append(record("excess_share", bootstrap.ratio(mine, best), mode="teacher_forced"))
    return Judged(regime, found, judged_end(some))
