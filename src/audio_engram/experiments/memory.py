"""Does memory as a basis help: prototypes that a context reads, against placebos of as many parameters?"""

from collections.abc import Sequence

import torch

from audio_engram import numbers
from audio_engram.decision import Criterion, Finding
from audio_engram.dynamics.anchor import Anchor, training_states
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.dynamics.prototype_use import prototype_use
from audio_engram.dynamics.residual_memory import fit_residual_memory
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.predictability import MARGIN
from audio_engram.experiments.same_trajectories import SameTrajectories, Tried
from audio_engram.measurements import Measurement
from audio_engram.regimes import PLACEBOS, ROLES, Regime, memory_regime, placebos
from audio_engram.runs import Run
from audio_engram.sections import MemoryConfig
from audio_engram.seeds import seed_for
from audio_engram.spoken import begun
from audio_engram.statistics import Interval

NAME = "memory"
STRENGTHS = (0.1, 0.3)  # of the anchor, a step
STATES = 4096  # training frames that the anchor pulls towards
NEAREST = 8, 4  # of the anchor, and of the residual memory
CLUSTERS = "clusters of increments"
PLAIN = Regime("vmf-without-memory", "vMF × log-normal, no memory", "vmf", model={"memory": MemoryConfig()})


def criterion_for(run: Run) -> Criterion:
    """The threshold in nats per frame at this number of dimensions."""
    return Criterion(
        experiment=NAME,
        question="Does memory as a basis help?",
        metric="delta_nll_difference",
        relation="below",
        threshold=-MARGIN * run.frames().dim,
        reason="NLL of held-out frames less that of a placebo with as many parameters and the same training (shuffled "
        "keys, random prototypes, one prototype, a further layer in place of the memory), for every placebo: below "
        f"\N{MINUS SIGN}{MARGIN} nats per dimension, by which two trainings may differ by luck. Of several memories "
        "the one is judged that gains most on validation speakers.",
    )


def memory(run: Run) -> Outcome:
    """Every memory and its placebos on true contexts and in rollout; residual memory and anchor; what is read.

    Raises:
        UsageError: for more prototypes than the training split has increments.
    """
    outcome, same = Outcome(), SameTrajectories(run, NAME)
    plain_model = without_memory(run)
    plain = same.tried("vmf", plain_model)
    outcome.measurements += same.records(plain)
    judged = [_Judged(same, role, plain) for role in run.config.experiments.memories]
    for one in judged:
        outcome.measurements += one.measurements
    residual = _residual(same, plain, plain_model)
    outcome.measurements += [*residual, *_anchored(same, plain, plain_model)]
    outcome.findings.append(min(judged, key=lambda one: one.preferred).finding(residual))
    return outcome


def without_memory(run: Run) -> DynamicsModel:
    """The vMF model that all are held against, whether or not one is configured to have a memory."""
    return run.trained(PLAIN) if run.config.model.memory.on else run.model("vmf")


class _Judged:
    """A memory in one role beside its placebos."""

    def __init__(self, same: SameTrajectories, role: str, plain: Tried) -> None:
        self.same, self.role, self.regime = same, role, memory_regime(role)
        run, model = same.run, same.run.trained(self.regime)
        tried = same.tried(self.regime.name, model)
        self.use = _use(same, self.regime.name, model)
        self.measurements = [*same.records(tried), *self.use, *same.differences(tried, plain)]
        self.differences: dict[str, list[Measurement]] = {}
        for name in placebos(role):
            regime = memory_regime(role, name)
            placebo = same.tried(regime.name, run.trained(regime))
            self.differences[name] = same.differences(tried, placebo)
            self.measurements += [*same.records(placebo), *self.differences[name]]

    @property
    def preferred(self) -> float:
        """Nats by which validation speakers like it less than the best placebo; below 0 they like it more."""
        run = self.same.run
        trainings = [run.training_of(memory_regime(self.role, name)) for name in ("none", *placebos(self.role))]
        mine, *others = (run.histories[f"regime-{one.name}"].best for one in trainings)
        return mine - min(others)

    def finding(self, residual: Sequence[Measurement] = ()) -> Finding:
        """The verdict rests on the placebo that it is least ahead of; a residual memory is told of beside."""
        criterion = criterion_for(self.same.run)
        of = {name: {m.metric: m for m in found} for name, found in self.differences.items()}
        nearest = max(of, key=lambda name: _upper_end(of[name]["delta_nll_difference"]))
        binding = of[nearest]["delta_nll_difference"]
        some = self.same.trajectories
        started = f" that started from {self.start}" if self.start else ""
        ahead = "; ".join(f"{PLACEBOS[name]} {show(found['delta_nll_difference'])}" for name, found in of.items())
        return Finding(
            criterion=criterion,
            measured=binding,
            verdict=criterion.judge(binding),
            cause=criterion.cause(binding),
            words=f"{begun(self.regime.words)}, {self.prototypes} prototypes{started}. NLL "
            f"less that of each placebo, in nats a frame (each must be below {numbers.threshold(criterion.threshold)}"
            f"): {ahead}. Beside the nearest of them, {PLACEBOS[nearest]}: in free running "
            f"{show(of[nearest]['delta_nll_rollout_difference'])} nats a frame, and {some.counted} are "
            f"{show(of[nearest]['frechet_latents_times'])} times as far from real stretches (Fréchet). Lower is better "
            f"in all of these.{some.fewer} {self._read()}{_left_over(residual)}",
            would_change=self._untried(),
        )

    def _untried(self) -> str:
        """What is left to try: what this run has tried would change nothing."""
        found = ["another number of prototypes (model.memory.prototypes)"]
        if self.start == CLUSTERS:
            found.insert(0, f"{self.prototypes} archetypes to start from (the experiment archetypes before it)")
        others = [role for role in ROLES if role not in self.same.run.config.experiments.memories]
        roles = [f"another role (experiments.memories: {', '.join(others)})"] if others else []
        return f"{begun(' or '.join([*found, *roles]))}."

    @property
    def prototypes(self) -> int:
        """How many it has."""
        return self.same.run.config.model.memory.prototypes

    @property
    def start(self) -> str:
        """What its directions started from; roles without directions have none."""
        if "direction" not in ROLES[self.role][1]:
            return ""
        return "this run's archetypes" if self.same.run.kept_archetypes(self.prototypes) else CLUSTERS

    def _read(self) -> str:
        use = {m.metric: m for m in self.use if m.split == "test"}
        gate = f"; their part in the direction is {show(use['prototype_gate'])}" if "prototype_gate" in use else ""
        return (
            f"Held-out contexts read {show(use['prototypes_at_once'])} prototypes at once, "
            f"{numbers.number(use['prototypes_in_use'].value)} in all{gate}."
        )


def _use(same: SameTrajectories, name: str, model: DynamicsModel) -> list[Measurement]:
    """How many prototypes are read in all and at once (exp of entropies), how much of them, and whether held-out
    speakers read the same."""
    train = same.run.windows("train", 1)
    held, known = (
        prototype_use(model, windows, index)
        for windows, index in ((same.windows, same.index), (train, train.evenly(len(same.index))))
    )
    n, speakers = len(same.index), same.bootstrap.n_speakers
    at_once = same.bootstrap.interval(same.bootstrap.ratios(held.entropy, torch.ones_like(held.entropy)).exp(), n)
    found = [
        same.record("prototypes_in_use", Interval(held.perplexity, None, None, n, speakers), name),
        same.record("prototypes_in_use", Interval(known.perplexity, None, None, n, 0), name, split="train"),
        same.record("prototypes_at_once", at_once, name),
        same.record("prototypes_apart", Interval(held.apart(known), None, None, n, speakers), name),
    ]
    blends = model.config.memory.direction == "blend"
    return [*found, *([same.record("prototype_gate", same.bootstrap.mean(held.gate), name)] if blends else [])]


def _residual(same: SameTrajectories, plain: Tried, model: DynamicsModel) -> list[Measurement]:
    """What the plain model left over in training contexts like this one, with as many entries as prototypes."""
    run = same.run
    entries, seed = run.config.model.memory.prototypes, seed_for(run.config.seed, NAME, "residual")
    filled = fit_residual_memory(model, run.windows("train", 1), entries, seed, min(NEAREST[1], entries))
    tried = same.tried("residual-memory", filled)
    return [*same.records(tried), *same.differences(tried, plain)]


def _left_over(residual: Sequence[Measurement]) -> str:
    """What a residual memory gains, which may be more than all that is judged."""
    of = {m.metric: m for m in residual}
    if "delta_nll_difference" not in of:
        return ""
    return (
        f" Not judged, because it has no placebo: a residual memory, of what the model without a memory left over in "
        f"training contexts like this one: {show(of['delta_nll_difference'])} nats a frame and "
        f"{show(of['frechet_latents_times'])} times as far, against that model."
    )


def _anchored(same: SameTrajectories, plain: Tried, model: DynamicsModel) -> list[Measurement]:
    """Rollouts pulled towards training states; the control is pulled as much towards their mean, which is 0."""
    run, found = same.run, []
    frames = run.frames()
    n = min(STATES, int(frames.in_split("train").sum()))
    states = training_states(frames, n, seed_for(run.config.seed, NAME, "anchor"), "subset").to(run.device)
    for strength in STRENGTHS:
        anchor, mean = Anchor(states, strength, min(NEAREST[0], n)), Anchor(torch.zeros_like(states[:1]), strength, 1)
        anchored = same.tried(f"anchor-{strength}", model, anchor)
        control = same.tried(f"towards-mean-{strength}", model, mean)
        found += [*same.records(anchored), *same.records(control)]
        found += [*same.differences(anchored, plain), *same.differences(control, plain)]
        found += same.differences(anchored, control)
    return found


def _upper_end(measured: Measurement) -> float:
    return max(v for v in (measured.high, measured.value) if v is not None)
