"""Does direction x magnitude hold up in a rollout, and better than a mixture density?"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from audio_engram.decision import Criterion, Finding
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.rollouts import (
    baseline_nll,
    ceiling,
    first_nonfinite_step,
    measure_steps,
    rollout_segments,
)
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores, score_rollouts
from audio_engram.regimes import REGIMES
from audio_engram.runs import Run
from audio_engram.spoken import spoken

CRITERION = Criterion(
    experiment="factorisation",
    question="Does the factorised model keep its direction in a free-running rollout?",
    metric="direction_cosine",
    relation="above",
    threshold=0.6,
    reason="A rollout whose last step still points 0.6 along the true increment has not drifted. The cosine is that of "
    "the step taken: the mean direction, at median magnitude. Judged beside the ceiling: what a model trained directly "
    "at that lag can know, by the cosine of its mean increment E[δ].",
)

FROZEN = 0.5  # a magnitude ratio under this is mean shrinkage, not stability

STABILITY = Criterion(
    experiment="factorisation",
    question="Is the factorised head's rollout more stable than the mixture density's?",
    metric="state_error_difference",
    relation="below",
    threshold=0.0,
    reason="State error at the last free-running step, factorised minus mixture, each by the training (teacher-forced "
    "or unrolled) that validation speakers prefer: below 0 the factorised head stays closer to the truth. Undecided "
    "where a head has frozen: standing at the mean is close to everything.",
)
COUPLED = "coupled"
STABILITIES = {
    "vmf": STABILITY,
    COUPLED: STABILITY.model_copy(
        update={"question": "Is the factorised head's rollout more stable with κ(m) and a mixture of log-normals?"}
    ),
}
HEADS = {"mdn": "MDN", "vmf": "VMF", COUPLED: "κ(m)"}


def factorisation(run: Run) -> Outcome:
    """Both heads, trained by teacher forcing and unrolled, per step under teacher forcing and free running.

    Where the factorised head is not more stable as it stands, it is tried with κ(m) and a mixture of log-normals.
    """
    outcome, steps = Outcome(), run.config.experiments.steps
    bound = ceiling(run, range(1, steps + 1))
    free = _rolled(run, "mdn", outcome) | _rolled(run, "vmf", outcome)
    outcome.measurements += bound
    outcome.findings.append(_judge_direction(outcome.measurements, _preferred(run, "vmf"), bound[-1], steps))
    for head, criterion in STABILITIES.items():
        if head not in free:
            free |= _rolled(run, head, outcome)
        best = _preferred(run, head), _preferred(run, "mdn")
        difference = _difference(run, free, f"{head} - mdn", best)
        outcome.measurements.append(difference)
        ratios = [_at_last(outcome.measurements, name, steps) for name in best]
        outcome.findings.append(_judge_stability(criterion, difference, ratios))
        if outcome.findings[-1].verdict == "pass":
            break  # what the tree asks for next is asked of this head
    return outcome


def _rolled(run: Run, head: str, outcome: Outcome) -> dict[str, RolloutScores]:
    """Measure all trainings of a head by step; their free-running rollouts."""
    windows, index = rollout_segments(run, run.config.experiments.steps)
    reference = baseline_nll(run.baseline("increment"), windows, index)
    free: dict[str, RolloutScores] = {}
    for name in _variants(run, head):
        run.log(f"factorisation: rollouts of {name}")
        for mode, scores in _roll(run, name, "test").items():
            what = {"experiment": "factorisation", "model": name, "mode": mode}
            outcome.measurements += measure_steps(run, scores, reference, **what)
            if mode == "free_running":
                free[name] = scores
                outcome.measurements.append(_nonfinite(run, scores, what))
    return free


def _variants(run: Run, head: str) -> list[str]:
    """A head by teacher forcing, and unrolled; coupled over the fewest steps alone."""
    unrolls = run.config.experiments.unrolls
    unrolls = tuple(sorted(unrolls))[:1] if head == COUPLED else unrolls
    return [head, *(f"{head}_k{k}" for k in unrolls)]


def _model(run: Run, name: str) -> DynamicsModel:
    head, _, unroll = name.partition("_k")
    if head != COUPLED:
        return run.unrolled_model(head, int(unroll)) if unroll else run.model(head)
    plain = REGIMES["vmf-coupled"]
    if not unroll:
        return run.trained(plain)
    return run.trained(replace(plain, name=f"{plain.name}-k{unroll}", train={"unroll": int(unroll)}, start=plain.name))


def _roll(run: Run, name: str, split: str) -> dict[str, RolloutScores]:
    model, steps = _model(run, name), run.config.experiments.steps
    windows, index = rollout_segments(run, steps, split)
    masks = {"teacher_forced": teacher_forcing(steps), "free_running": free_running(steps)}
    return score_rollouts(model, windows, index, masks, run.baseline("ar1").last)


def _preferred(run: Run, head: str) -> str:
    """The variant whose free-running states stay closest to the truth on validation speakers."""

    def choose() -> str:
        errors = {}
        for name in _variants(run, head):
            errors[name] = float(_roll(run, name, "validation")["free_running"].state_error.mean())
        return min(errors, key=lambda name: errors[name] if errors[name] == errors[name] else float("inf"))

    return run.once(("factorisation", "preferred", head), choose)


def _nonfinite(run: Run, scores: RolloutScores, what: dict[str, Any]) -> Measurement:
    """0 means that every state stayed finite."""
    return Measurement(
        metric="first_nonfinite_step",
        value=float(first_nonfinite_step(scores)),
        codec=run.codec_name,
        step=scores.nll.shape[1],
        n_frames=len(scores.nll),
        **what,
    )


def _difference(run: Run, free: dict[str, RolloutScores], name: str, best: tuple[str, str]) -> Measurement:
    last = -1
    vmf, mdn = (free[one] for one in best)
    difference: Tensor = vmf.state_error[:, last] - mdn.state_error[:, last]
    interval = run.bootstrap(vmf.speaker[:, last]).mean(difference)
    return run.measure(
        interval,
        experiment="factorisation",
        model=name,
        metric="state_error_difference",
        mode="free_running",
        step=vmf.nll.shape[1],
    )


def _judge_direction(measured: list[Measurement], name: str, bound: Measurement, steps: int) -> Finding:
    def at(metric: str, step: int, mode: str = "free_running") -> Measurement:
        return next(
            m
            for m in measured
            if (m.model, m.metric, m.step, m.mode) == (name, metric, step, mode) and m.data == "real"
        )

    last = at("direction_cosine", steps)
    words = (
        f"{spoken(name)}: direction cosine {show(at('direction_cosine', 1))} at step 1 and {show(last)} at "
        f"step {steps} of a "
        f"free-running rollout; after the AR(1) part is removed {show(at('innovation_cosine', steps))}. "
        f"The ceiling at that step is {show(bound)}."
    )
    return Finding(
        criterion=CRITERION,
        measured=last,
        verdict=CRITERION.judge(last, bound),
        cause=CRITERION.cause(last, bound),
        words=words,
        would_change="A predictor that reaches the threshold directly at that lag: while none does, no rollout can be "
        "asked to. Judge rollouts by whether they are still speech, not by the one true future.",
        ceiling=bound,
    )


def _at_last(measured: list[Measurement], name: str, steps: int) -> Measurement:
    """The free-running magnitude ratio of a model at the last step."""
    wanted = (name, "magnitude_ratio", steps, "free_running")
    return next(m for m in measured if (m.model, m.metric, m.step, m.mode) == wanted)


def _judge_stability(criterion: Criterion, difference: Measurement, ratios: list[Measurement]) -> Finding:
    """Says whether a small state error was bought by standing still, which no state error can tell."""
    vmf, mdn = ratios
    words = (
        f"State error of {spoken(vmf.model)} minus {spoken(mdn.model)} at the last step: {show(difference)}. "
        f"Their steps are {show(vmf)} and {show(mdn)} times as long as the true ones"
    )
    frozen = [m.model for m in ratios if m.high is not None and m.high < FROZEN]
    who = " and ".join(spoken(name) for name in frozen)
    words += (
        f": {who} hardly moves, so that the difference decides nothing: standing still is no stability."
        if frozen
        else "."
    )
    heads = " and ".join(HEADS[name.partition("_")[0]] for name in frozen)
    return Finding(
        criterion=criterion,
        measured=difference,
        verdict="undecided" if frozen else criterion.judge(difference),
        cause="frozen" if frozen else criterion.cause(difference),
        label=f"{heads} froze" if frozen else "",
        words=words,
        would_change="Longer unrolled training, or a head whose step does not lose its magnitude.",
    )
