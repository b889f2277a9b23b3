"""Can magnitudes be filled in afterwards: directions first, then all magnitudes at once, against one model of both?"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.config import ModelConfig
from audio_engram.data.publish import make_folder
from audio_engram.data.windows import Segment, Windows
from audio_engram.decision import Criterion, Finding, decisive
from audio_engram.dynamics.directions import DIRECTION, direction_frames, measure_direction_start
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.magnitudes import MagnitudeModel
from audio_engram.dynamics.model import DynamicsModel, make_model
from audio_engram.experiments.outcome import Outcome, show
from audio_engram.experiments.stretches import (
    RecordOf,
    figures,
    followed,
    horizons,
    judged_end,
    lived,
    not_whole,
    stays_whole,
    stretches,
)
from audio_engram.experiments.trajectories import (
    BATCH,
    PIECE,
    Trajectories,
    find_trajectories,
    stretch_frames,
)
from audio_engram.manifold import Traits
from audio_engram.measurements import Measurement
from audio_engram.runs import Run
from audio_engram.seeds import seed_for
from audio_engram.statistics import Interval
from audio_engram.train import fit
from audio_engram.training_loop import Progress
from audio_engram.two_stage import TwoStage, equal_sizes, fit_magnitudes, n_parameters

NAME = "two_stage"
ONE, TWO = "vmf", "two_stage"
DIFFERENCE = f"{TWO} - {ONE}"
TRUE_DIRECTIONS = "two_stage_true_directions"
WINDOWS = 4  # at once, each step of which is one of a batch

CRITERION = Criterion(
    experiment=NAME,
    question="Can magnitudes be filled in afterwards?",
    metric="frechet_latents_times",
    relation="below",
    threshold=1.0,
    reason="Fréchet distance to real stretches of what two stages draw, over that of what one model of direction and "
    "magnitude draws: below 1 two stages are nearer to speech. The same speakers, as many parameters, the same "
    "training; judged on the stretch before 20 s, and no rollout of two stages may leave the finite numbers.",
)


def two_stage(run: Run) -> Outcome:
    """Rollouts of two stages and of one beside real stretches, and what both give to held-out frames.

    Raises:
        UsageError: for a context that holds no direction, or a model too narrow to be divided.
    """
    outcome, some = Outcome(), find_trajectories(run)
    one, two = run.model(ONE), two_stages(run)
    last = max(horizons(some))
    rolled = {
        ONE: followed(some, some.batches(one, last, ONE)),
        TWO: followed(some, _drawn(some, two, last)),
    }
    of = {name: stretches(some, one) for name, one in rolled.items()}
    for name in rolled:
        record = RecordOf(run, NAME, name)
        outcome.measurements += [*figures(some, of[name], record), *lived(some, rolled[name], record)]
    for name, n in ((ONE, n_parameters(one)), (TWO, two.n_parameters)):
        known = Interval(float(n), None, None, 0, 0)
        outcome.measurements.append(RecordOf(run, NAME, name, "teacher_forced")("parameters", known))
    outcome.measurements += _compared(some, of)
    outcome.measurements += figures(
        some, {some.real.shape[1]: _filled_in(some, two)}, RecordOf(run, NAME, TRUE_DIRECTIONS)
    )
    outcome.measurements += _held_out(run, one, two)
    outcome.findings.append(_judge(some, outcome.measurements))
    return outcome


def two_stages(run: Run) -> TwoStage:
    """Both models, trained on first use and kept in `checkpoints/`; together as large as the run's own model."""

    def make() -> TwoStage:
        first, second = equal_sizes(run.config.model, run.frames().dim, n_parameters(run.model(ONE)))
        return TwoStage(_directions(run, first), _magnitudes(run, second))

    return run.once(("two stages",), make)


def _directions(run: Run, config: ModelConfig) -> DynamicsModel:
    frames = direction_frames(run.frames())
    windows = (Windows(frames, "train", config.context, 1), Windows(frames, "validation", config.context, 1))
    start = measure_direction_start(windows[0])
    model = make_model(DIRECTION, config, start, seed_for(run.config.seed, DIRECTION)).to(run.device)
    # Noise on contexts is told in deviations of what is standardised; directions have one of 1 / sqrt(D).
    noise = run.config.train.context_noise / frames.dim**0.5
    train = run.config.train.model_copy(update={"context_noise": noise})
    seed, path, log = _training(run, "two-stage-directions")
    run.histories[path.stem] = fit(model, windows, train, seed, path, log)
    return model


def _magnitudes(run: Run, config: ModelConfig) -> MagnitudeModel:
    steps = stretch_frames(run)
    start = measure_start(run.windows("train", 1), run.baseline("ar1"))
    model = MagnitudeModel(config, start)
    model.initialise(seed_for(run.config.seed, "magnitudes"))
    windows = run.windows("train", steps), run.windows("validation", steps)
    seed, path, log = _training(run, "two-stage-magnitudes")
    run.histories[path.stem] = fit_magnitudes(model.to(run.device), windows, run.config.train, seed, path, log)
    return model


def _training(run: Run, name: str) -> tuple[int, Path, Progress]:
    """The seed of a training, where it is kept and how it is told."""
    folder = run.folder / "checkpoints"
    make_folder(folder)
    return seed_for(run.config.seed, "train", name), folder / f"{name}.safetensors", partial(_told, run, name)


def _told(run: Run, name: str, line: str) -> None:
    run.log(f"train {name}: {line}")


def _drawn(some: Trajectories, two: TwoStage, steps: int) -> Iterator[list[Float[Tensor, "_ S D"]]]:
    """Trajectories of two stages, a few at a time; magnitudes know the whole of one, which is a single piece."""
    device = some.run.device
    generator = torch.Generator(device).manual_seed(seed_for(some.run.config.seed, TWO))
    each = steps * max(some.context.shape[2], two.magnitude.config.width)
    for context in some.context.split(max(1, min(BATCH, PIECE // each))):
        yield [two.sample(context.to(device), steps, generator).cpu()]


def _filled_in(some: Trajectories, two: TwoStage) -> Traits:
    """The second stage alone: magnitudes drawn for the directions of the real stretches."""
    device = some.run.device
    generator = torch.Generator(device).manual_seed(seed_for(some.run.config.seed, TRUE_DIRECTIONS))
    whole = torch.cat([some.context[:, -1:], some.real], dim=1).to(device)
    drawn = two.along(some.context.to(device), two.magnitude.directions(whole), generator)
    return some.manifold.traits(drawn.cpu())


def _compared(some: Trajectories, of: dict[str, dict[int, Traits]]) -> list[Measurement]:
    """How many times as far from real stretches two stages are as one, on the same speakers."""
    found, record = [], RecordOf(some.run, NAME, DIFFERENCE)
    for end, traits in of[TWO].items():
        times = some.manifold.times_as_far(traits, of[ONE][end], some.real_traits, some.bootstrap)
        found += [record(f"{name}_times", interval, end) for name, interval in times.items()]
    return found


@torch.no_grad()
def _held_out(run: Run, one: DynamicsModel, two: TwoStage) -> list[Measurement]:
    """NLL of held-out increments, and R² of log m: by two stages that know all directions, by one that knows the
    frames before."""
    steps = stretch_frames(run)
    windows = run.windows("test", steps)
    # Not so few that a speaker is missed.
    index = windows.evenly(max(2 * len(run.held_out()), run.config.experiments.max_segments // steps))
    parts = [_frames(one, two, segment.to(run.device)) for segment in windows.batches(index, WINDOWS)]
    nll_one, nll_two, log_m, told_one, told_two, speaker = (torch.cat(some).cpu() for some in zip(*parts, strict=True))
    b = run.bootstrap(speaker)
    total = (log_m - float(two.magnitude.centre[0])).square()
    found = [RecordOf(run, NAME, DIFFERENCE, "teacher_forced")("delta_nll_difference", b.mean(nll_two - nll_one))]
    for name, told in ((ONE, told_one), (TWO, told_two)):
        found.append(RecordOf(run, NAME, name, "teacher_forced")("magnitude_r2", b.r2((log_m - told).square(), total)))
    return found


def _frames(one: DynamicsModel, two: TwoStage, segment: Segment) -> tuple[Tensor, ...]:
    """Of every increment that has a density: NLL of either, its log m, E[log m] of either, and the speaker."""
    whole, steps = torch.cat([segment.context, segment.future], dim=1), segment.future.shape[1]
    contexts = whole.unfold(1, segment.context.shape[1], 1)[:, :steps].movedim(-1, 2).flatten(0, 1)
    valid, delta = segment.valid.flatten(), segment.delta.flatten(0, 1)
    law = one(contexts)
    ahead = two.magnitude.directions(whole[:, -steps - 1 :])
    rows = (
        -law.log_prob(delta),
        -two.log_prob(segment).flatten(),
        torch.linalg.vector_norm(delta, dim=1).log(),
        law.expected_log_magnitude()[0],  # exact: a polar law draws nothing for it
        two.magnitude(segment.context, ahead).expected_log.flatten(),
        segment.speaker.flatten(),
    )
    return tuple(row[valid] for row in rows)


def _judge(some: Trajectories, measured: list[Measurement]) -> Finding:
    end, ratio = judged_end(some), "frechet_latents_ratio"
    judged = next(m for m in measured if m.metric == CRITERION.metric and m.step == end)
    finite = next(m for m in measured if (m.metric, m.model) == ("finite_share", TWO))
    criterion, decided = decisive([*stays_whole(CRITERION, finite), (CRITERION, judged)])

    def told(metric: str, model: str, step: int = 1) -> str:
        return show(next(m for m in measured if (m.metric, m.model, m.step) == (metric, model, step)))

    return Finding(
        criterion=criterion,
        measured=decided,
        verdict=criterion.judge(decided),
        cause=criterion.cause(decided),
        words=f"In the stretch before {end / some.run.codec.frame_rate:.0f} s {some.counted} of two stages are "
        f"{show(judged)} times as far from real stretches as those of one model (Fréchet; lower is nearer; "
        f"{CRITERION.bar}; {told('frechet_increments_times', DIFFERENCE, end)} in increments): "
        f"{told(ratio, TWO, end)} and {told(ratio, ONE, end)} times as far as real ones from one another; "
        f"{told('survival', TWO, end)} and {told('survival', ONE, end)} have not diverged.{some.fewer}"
        f"{not_whole(finite)} Once all directions are known the second stage tells R² {told('magnitude_r2', TWO)} of "
        f"log magnitude (higher is better), one model from the frames before {told('magnitude_r2', ONE)}; on true "
        f"directions its stretches are {told(ratio, TRUE_DIRECTIONS, some.real.shape[1])} times as far as real ones. "
        f"The NLL of two stages less that of one is {told('delta_nll_difference', DIFFERENCE)} nats a frame (lower is "
        "better).",
        would_change="A direction model that knows where it is (position as well as direction), a longer context, or "
        "more speech.",
    )
