"""Is a sampled free-running rollout still speech, and which training keeps it so?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.experiments.decoded import Decoded, can_be_heard
from audio_engram.experiments.outcome import Outcome
from audio_engram.experiments.predictability import HEADS, cell
from audio_engram.experiments.stability_verdict import Horizon, Judged, judge, recordings_diverge
from audio_engram.experiments.stretches import (
    RecordOf,
    figures,
    followed,
    horizons,
    judged_end,
    lived,
    stretches,
    survived,
)
from audio_engram.experiments.trajectories import Trajectories, find_trajectories
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.metrics import predictor, score
from audio_engram.regimes import Regime, regime
from audio_engram.runs import Run

ANCHORS = ("teacher-forced", "shuffled frames", "Gaussian frames")  # that are played beside original and round trip
NAME = "stability"
TO_BEAT = "mdn-noise"  # the strongest published stabiliser
FORCED = "teacher_forced"
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
    cost = _Cost.of(run, regimes)
    at = Horizon(judged_end(some), run.codec.frame_rate, f"Judged are {some.counted}.{some.fewer}", run.frames().dim)
    judged, heard, traits = [], {}, {}
    for one in regimes:
        run.log(f"stability: sampled rollouts of {one.words}")
        batches = some.batches(run.drawing(one), max(horizons(some)), one.name)
        rolled = followed(some, batches, run.config.experiments.decoded)
        of = stretches(some, rolled)
        found = [*figures(some, of, RecordOf(run, NAME, one.name)), *lived(some, rolled, RecordOf(run, NAME, one.name))]
        judged.append(Judged(one, [*found, *cost.measured(one.name)], at))
        outcome.measurements += judged[-1].measurements
        heard[one.name], traits[one.name] = rolled.beginning, of[at.end]
    outcome.measurements += _beside_controls(some, regimes, traits, cost)
    if can_be_heard(run):
        _decode(some, anchors, heard, outcome)
    elif run.config.experiments.listeners:
        outcome.warnings.append(UNHEARD)
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
        step, record, halved = some.real.shape[1], RecordOf(run, NAME, name), RecordOf(run, NAME, "real halves")
        found += [record(f"{metric}_ratio", one.ratio, step) for metric, one in compared.items()]
        if name == "teacher-forced":
            found += [halved(f"{metric}_ratio", one.halves, step) for metric, one in compared.items()]
    lengths = torch.tensor([len(z) for z in some.whole])
    padded = torch.nn.utils.rnn.pad_sequence(some.whole, batch_first=True)
    return found + survived(some, some.manifold.range.diverge(padded, lengths), ends, RecordOf(run, NAME, "real"))


def _beside_controls(
    some: Trajectories, regimes: Sequence[Regime], traits: Mapping[str, Traits], cost: "_Cost"
) -> list[Measurement]:
    """How many times as far from real stretches each training is as its control and as noise on contexts, which
    whatever is to help must beat, and how many nats a frame it costs more: on the same speakers."""
    found = []
    for one in regimes:
        for other in dict.fromkeys((one.control, TO_BEAT)):
            if other in traits and other != one.name:
                record = RecordOf(some.run, NAME, f"{one.name} - {other}")
                times = some.manifold.times_as_far(traits[one.name], traits[other], some.real_traits, some.bootstrap)
                found += [record(f"{metric}_times", interval, judged_end(some)) for metric, interval in times.items()]
                found += [] if other == cost.judged_by else [cost.difference(one.name, other)]
    return found


@dataclass(frozen=True)
class _Cost:
    """Nats per frame above the best trivial baseline, teacher-forced at lag 1 on held-out frames, and the name of the
    model that is best of those that are trained on true contexts alone."""

    run: Run
    above: dict[str, Float[Tensor, " M"]]
    best: str

    @classmethod
    def of(cls, run: Run, regimes: Sequence[Regime]) -> "_Cost":
        scored = cell(run, 1, "real")
        # Whatever is tried beside, plain models of both heads are there to be held against.
        above = {head: scored.above(head, scored.best_trivial()) for head in HEADS}
        above |= {one.name: _above_trivial(run, one) for one in regimes if one.name not in above}
        plain = {*HEADS, *(one.name for one in regimes if not one.train)}
        return cls(run, above, min((n for n in above if n in plain), key=lambda name: float(above[name].mean())))

    def measured(self, name: str) -> list[Measurement]:
        """The excess, and its share of the best; where that is none, the nats by which the training is worse."""
        bootstrap, record = cell(self.run, 1, "real").bootstrap, RecordOf(self.run, NAME, name, FORCED)
        mine, best = self.above[name], self.above[self.best]
        excess = record("delta_nll_excess", bootstrap.mean(mine))
        if self.judged_by:
            return [excess, self.difference(name, self.judged_by)]
        return [excess, record("excess_share", bootstrap.ratio(mine, best))]

    @property
    def judged_by(self) -> str:
        """The model whose nats all are held against where it has no excess; empty where it has."""
        return self.best if float(self.above[self.best].mean()) >= 0 else ""

    def difference(self, name: str, other: str) -> Measurement:
        """Nats by which one training is worse than another."""
        interval = cell(self.run, 1, "real").bootstrap.mean(self.above[name] - self.above[other])
        return RecordOf(self.run, NAME, f"{name} - {other}", FORCED)("delta_nll_difference", interval)


def _above_trivial(run: Run, one: Regime) -> Float[Tensor, " M"]:
    scored, windows = cell(run, 1, "real"), run.windows("test", 1)
    ar1 = predictor(run.baseline("ar1"), reads_utterance=False)
    model = run.drawing(one)
    mine = score(predictor(model, bool(model.n_features)), windows, windows.with_valid_target(), ar1)
    return mine.nll - scored.scores[scored.best_trivial()].nll
