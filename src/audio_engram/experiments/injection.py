"""Where does the rollout gap come from? True frames are fed back at chosen steps and nowhere else."""

from torch import Tensor

from audio_engram.data.windows import Windows
from audio_engram.decision import Cause, Criterion, Finding, Verdict
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.predictability import beyond_trivial, criterion_for
from audio_engram.experiments.rollouts import baseline_nll, measure_steps, rollout_segments
from audio_engram.experiments.settings import ALL, TREE
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.forcing import injection as injection_mask
from audio_engram.measurements import Measurement
from audio_engram.metrics import RolloutScores, score_rollouts
from audio_engram.runs import Run
from audio_engram.spoken import spoken
from audio_engram.statistics import Interval

KEPT = 0.5
RECOVERED = 0.8

CRITERION = Criterion(
    experiment="injection",
    question="Where does the gap between one-step prediction and rollout come from?",
    metric="advantage_kept",
    relation="above",
    threshold=KEPT,
    reason="The share of the teacher-forced advantage over the increment baseline that free running keeps over "
    f"steps 2 to the last. Robust: above {KEPT}. No advantage: predictability itself does not pass. "
    "One-step-catastrophic: at step 2 free running is already above the baseline. Recoverable drift: otherwise, if one "
    f"true frame brings back at least {RECOVERED:.0%} of what was lost. The first of these that holds is the label, so "
    "that what is lost at once is called so however much a true frame brings back. Regression to the mean loses much "
    "of it too: AR(1) stands beside, and a head that keeps its magnitude loses more than one that shrinks.",
)


def injection(run: Run) -> Outcome:
    """Modes A (true frame every step), B (after steps 4, 8, 12), C (after step 1), D (never)."""
    outcome, steps = Outcome(), run.config.experiments.steps
    after = [s for s in (4, 8, 12) if s < steps]
    masks = {
        "A": teacher_forcing(steps),
        "B": injection_mask(steps, after),
        "C": injection_mask(steps, [1]),
        "D": free_running(steps),
    }
    windows, index = rollout_segments(run, steps)
    reference = baseline_nll(run.baseline("increment"), windows, index)
    gaps: dict[str, Gap] = {}
    for head in ("ar1", "mdn", "vmf"):
        run.log(f"injection: modes A to D of {head}")
        model = run.baseline("ar1") if head == "ar1" else run.model(head)
        scores = score_rollouts(model, windows, index, masks, run.baseline("ar1").last)
        for mode, some in scores.items():
            outcome.measurements += measure_steps(run, some, reference, experiment="injection", model=head, mode=mode)
        gaps[head] = Gap(run, head, scores, reference, after)
        outcome.measurements += gaps[head].measurements()
    trivial = gaps.pop("ar1")
    outcome.measurements.append(trivial.free_running())
    for head, gap in gaps.items():
        unrolled = [_unrolled(run, f"{head}_k{k}", (windows, index), reference) for k in _unrolls(run)]
        outcome.measurements += [gap.free_running(), *unrolled]
        outcome.findings.append(gap.finding(trivial, unrolled))
    return outcome


def _unrolls(run: Run) -> tuple[int, ...]:
    """The trainings on own states that another experiment of this run makes; none are made for this one."""
    made = {TREE, ALL, "factorisation"} & set(run.config.experiments.names)
    return run.config.experiments.unrolls if made else ()


def _unrolled(run: Run, name: str, segments: tuple[Windows, Tensor], reference: Tensor) -> Measurement:
    """What a training on own states reaches in the same rollouts."""
    head, _, unroll = name.partition("_k")
    masks = {"A": teacher_forcing(segments[0].steps), "D": free_running(segments[0].steps)}
    scores = score_rollouts(run.unrolled_model(head, int(unroll)), *segments, masks, run.baseline("ar1").last)
    return Gap(run, name, scores, reference, []).free_running()


class Gap:
    """What is lost between modes A and D, and what a true frame brings back."""

    def __init__(
        self,
        run: Run,
        head: str,
        scores: dict[str, RolloutScores],
        reference: Tensor,
        after: list[int],
    ) -> None:
        self.run, self.head, self.after = run, head, after
        self.valid, self.speaker = scores["A"].valid, scores["A"].speaker
        # What exploded counts as an enormous loss, not as a missing one.
        self.delta = {
            mode: (some.nll - reference).nan_to_num(1e9, posinf=1e9).clamp(max=1e9) for mode, some in scores.items()
        }

    def mean(self, mode: str, steps: list[int]) -> Interval:
        """ΔNLL of a mode over some steps."""
        keep, delta = self._cut(mode, steps)
        return self.run.bootstrap(self.speaker[:, self._columns(steps)][keep]).mean(delta)

    def ratio(self, numerator: tuple[str, str], denominator: tuple[str, str], steps: list[int]) -> Interval:
        """(first - second) of two modes over (first - second) of two others, over some steps; `""` is 0."""
        keep, _ = self._cut("A", steps)
        parts = [self._minus(pair, steps) for pair in (numerator, denominator)]
        return self.run.bootstrap(self.speaker[:, self._columns(steps)][keep]).ratio(*parts)

    def measurements(self) -> list[Measurement]:
        return [self.kept_record()] + [self._record("recovery", self.recovery(s), mode="B", step=s) for s in self.after]

    def kept(self) -> Interval:
        """The share of mode A's advantage that mode D keeps over steps 2 to the last."""
        return self.ratio(("D", ""), ("A", ""), self._after_the_first())

    def recovery(self, after: int) -> Interval:
        """The share of what mode D lost at the next step that a true frame after this step brings back."""
        return self.ratio(("D", "B"), ("D", "A"), [after + 1])

    def free_running(self) -> Measurement:
        """ΔNLL of mode D over steps 2 to the last."""
        return self._record("delta_nll_rollout", self.mean("D", self._after_the_first()), mode="D")

    def kept_record(self) -> Measurement:
        """`kept` as a record."""
        return self._record("advantage_kept", self.kept(), mode="D")

    def finding(self, trivial: "Gap", unrolled: list[Measurement]) -> Finding:
        """The label with its figures, beside what AR(1) keeps by regression to the mean alone."""
        kept, reference = self.kept_record(), trivial.kept_record()
        label, verdict, cause = self._classify(kept)
        forced = self._record("delta_nll", self.mean("A", self._after_the_first()), mode="A")
        second = self._record("delta_nll", self.mean("D", [2]), mode="D")
        below = " (negative: worse than the increment baseline)" if kept.high is not None and kept.high < 0 else ""
        words = (
            f"{spoken(self.head)}: {label}. ΔNLL {show(forced)} on true states, in steps 2 to {self.valid.shape[1]} of "
            f"{len(self.valid)} rollouts; {show(second)} one step after the model's own state is fed back; share of "
            f"the advantage kept {show(kept)}{below}; {self._brought_back()}AR(1) keeps {show(reference)}"
            f"{trivial.called(reference)}."
        )
        return Finding(
            criterion=CRITERION,
            measured=kept,
            verdict=verdict,
            cause=cause,
            label=label,
            words=words,
            would_change=_remedy(self.free_running(), unrolled),
            reference=reference,
        )

    def called(self, kept: Measurement) -> str:
        """The label that its losses have by themselves, whatever it predicts."""
        return "" if kept.low is None else f" and would be called {self._way_of_losing(kept.low)} by the same rules"

    def _brought_back(self) -> str:
        """The least that a true frame brings back."""
        if not self.after:
            return ""
        least = min((self._record("recovery", self.recovery(s), mode="B", step=s) for s in self.after), key=_value)
        return f"a true frame brings back {show(least)} of what was lost (after step {least.step}, the least); "

    def _after_the_first(self) -> list[int]:
        return list(range(2, self.valid.shape[1] + 1))

    def _classify(self, kept: Measurement) -> tuple[str, Verdict, Cause]:
        verdict, cause = CRITERION.judge(kept), CRITERION.cause(kept)
        if kept.low is None:
            return "undecided", verdict, cause
        beyond = beyond_trivial(self.run, self.head)
        trivial = criterion_for(self.run, beyond.metric)
        if trivial.judge(beyond) == "undecided":
            return "undecided", "undecided", trivial.cause(beyond)
        if trivial.judge(beyond) != "pass":
            return "no advantage", "fail", ""
        return self._way_of_losing(kept.low), verdict, cause

    def _way_of_losing(self, kept: float) -> str:
        if kept > KEPT:
            return "robust"
        second = self.mean("D", [2])
        if second.low is not None and second.low > 0:
            return "one-step-catastrophic"
        recoveries = [self.recovery(s) for s in self.after]
        if recoveries and all(r.low is not None and r.low > RECOVERED for r in recoveries):
            return "recoverable drift"
        return "drift"

    def _columns(self, steps: list[int]) -> list[int]:
        return [s - 1 for s in steps]

    def _cut(self, mode: str, steps: list[int]) -> tuple[Tensor, Tensor]:
        keep = self.valid[:, self._columns(steps)]
        return keep, self.delta[mode][:, self._columns(steps)][keep]

    def _minus(self, pair: tuple[str, str], steps: list[int]) -> Tensor:
        first, second = pair
        left = self._cut(first, steps)[1]
        return left - self._cut(second, steps)[1] if second else left

    def _record(self, metric: str, interval: Interval, mode: str, step: int = 1) -> Measurement:
        return self.run.measure(interval, experiment="injection", model=self.head, metric=metric, mode=mode, step=step)


def _value(measured: Measurement) -> float:
    return float("-inf") if measured.value is None else measured.value


def _remedy(plain: Measurement, unrolled: list[Measurement]) -> str:
    """What acts on the gap, with what it gave where this run has tried it."""
    said = "Training on the model's own states acts on this gap: "
    noise = "Noise on the context is tried by the experiment stability."
    if not unrolled:
        return f"{said}unrolled training is tried by the experiment factorisation. {noise}"
    gave = "; ".join(f"{show(one)} with {spoken(one.model)}" for one in unrolled)
    return f"{said}ΔNLL in free running was {gave}, where it is {show(plain)} without. {noise}"
