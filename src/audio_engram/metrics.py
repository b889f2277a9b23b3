"""Per-frame scores of a model: likelihoods, cosines, magnitudes, errors. Intervals are made of them elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from audio_engram.data.windows import Segment, Windows
from audio_engram.device import device_of
from audio_engram.distributions import DeltaDistribution
from audio_engram.rollout import Forward, RolloutOptions, rollout

Predictor = Callable[[Segment], DeltaDistribution]
BATCH = 256  # segments; 32 draws of each stand in memory at once where E[log m] has no closed form


@dataclass(frozen=True)
class Scores:
    """One row per target frame (M,). Squared quantities are summed over dimensions, in standardised space.

    `nll` is in nats for standardised increments; `cosine` is between predicted direction and true increment, in
    raw and in standardised space; `innovation_cosine` after the AR(1) prediction is taken from both.
    `log_m` is the true log magnitude, `log_m_of_mean` the log norm of E[delta].
    """

    nll: Float[Tensor, " M"]
    cosine: Float[Tensor, " M"]
    cosine_standardised: Float[Tensor, " M"]
    innovation_cosine: Float[Tensor, " M"]
    log_m: Float[Tensor, " M"]
    log_m_of_mean: Float[Tensor, " M"]
    delta_error: Float[Tensor, " M"]
    delta_square: Float[Tensor, " M"]
    state_square: Float[Tensor, " M"]
    speaker: Int[Tensor, " M"]


def predictor(model: torch.nn.Module, reads_utterance: bool) -> Predictor:
    """How to call a model on a segment, wherever the model lives."""
    device = device_of(model)

    def predict(segment: Segment) -> DeltaDistribution:
        here = segment.to(device)
        return model(here.context, here.utterance) if reads_utterance else model(here.context)

    return predict


@torch.no_grad()
def score(predict: Predictor, windows: Windows, index: Int[Tensor, " M"], ar1: Predictor) -> Scores:
    """Score one-step predictions of the last future frame of each segment; lag = `windows.steps`."""
    parts = [
        _score(predict(segment), ar1(segment).mean, segment, windows.frames.scale)
        for segment in windows.batches(index, BATCH)
    ]
    return Scores(*(torch.cat([getattr(part, f.name) for part in parts]).cpu() for f in fields(Scores)))


@torch.no_grad()
def expected_log_magnitude(
    predict: Predictor, windows: Windows, index: Int[Tensor, " M"]
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """E[log m] of one-step predictions and the variance of its error.

    Apart from `score`, because densities without a closed form draw for it.
    """
    parts = [predict(segment).expected_log_magnitude() for segment in windows.batches(index, BATCH)]
    expected, variance = (torch.cat(some).float().cpu() for some in zip(*parts, strict=True))
    return expected, variance


def _score(
    distribution: DeltaDistribution, ar1: Float[Tensor, "B D"], segment: Segment, scale: Float[Tensor, " D"]
) -> Scores:
    mean = distribution.mean.float()
    segment, ar1, scale = segment.to(mean.device), ar1.to(mean.device), scale.to(mean.device)
    delta, direction = segment.delta[:, -1], distribution.direction
    return Scores(
        nll=-distribution.log_prob(delta),
        cosine=cosine_similarity(direction * scale, delta * scale),
        cosine_standardised=cosine_similarity(direction, delta),
        innovation_cosine=cosine_similarity(mean - ar1, delta - ar1),
        log_m=delta.norm(dim=1).log(),
        log_m_of_mean=mean.norm(dim=1).clamp(min=1e-12).log(),
        delta_error=(delta - mean).square().sum(1),
        delta_square=delta.square().sum(1),
        state_square=segment.future[:, -1].square().sum(1),
        speaker=segment.speaker[:, -1],
    )


@dataclass(frozen=True)
class RolloutScores:
    """One row per segment and one column per step (M, S); see `Scores` for spaces and units.

    `innovation_cosine` takes the AR(1) prediction from the state reached off the step, and that from the true
    state off the true increment. `state_error` is ‖ẑ - z‖, `still_error` ‖z_0 - z‖ (standing still at the last
    context frame), `mean_error` ‖z‖ (standing at the training mean), all in standardised space; `valid` marks
    increments that have a density.
    """

    nll: Float[Tensor, "M S"]
    cosine: Float[Tensor, "M S"]
    innovation_cosine: Float[Tensor, "M S"]
    magnitude: Float[Tensor, "M S"]
    true_magnitude: Float[Tensor, "M S"]
    state_error: Float[Tensor, "M S"]
    still_error: Float[Tensor, "M S"]
    mean_error: Float[Tensor, "M S"]
    finite: Bool[Tensor, "M S"]
    valid: Bool[Tensor, "M S"]
    speaker: Int[Tensor, "M S"]


@torch.no_grad()
def score_rollouts(
    model: Forward,
    windows: Windows,
    index: Int[Tensor, " M"],
    masks: dict[str, Bool[Tensor, "1 S"]],
    ar1: Float[Tensor, " D"],
    options: RolloutOptions | None = None,
) -> dict[str, RolloutScores]:
    """Roll out from each segment under each mask; all masks and segments go through the model in one batch.

    `ar1` is the diagonal AR(1) coefficient of the increment (D,)."""
    parts: dict[str, list[RolloutScores]] = {name: [] for name in masks}
    stacked = torch.cat(list(masks.values()))
    device = device_of(model)
    per_dim = windows.frames.scale.to(device), ar1.to(device)
    for cut in windows.batches(index, BATCH // 2):
        segment = cut.to(device)
        n = len(segment.context)
        context = segment.context.repeat(len(masks), 1, 1)
        truth = segment.future.repeat(len(masks), 1, 1)
        rolled = rollout(model, context, stacked.repeat_interleave(n, 0), truth, options)
        assert rolled.log_probs is not None
        for place, name in enumerate(masks):
            rows = slice(place * n, (place + 1) * n)
            parts[name].append(
                _rollout_scores(
                    (rolled.latents[rows], rolled.deltas[rows], rolled.log_probs[rows]),
                    segment,
                    per_dim,
                )
            )
    return {name: _joined(some) for name, some in parts.items()}


def _joined(parts: list[RolloutScores]) -> RolloutScores:
    return RolloutScores(*(torch.cat([getattr(p, f.name) for p in parts]).cpu() for f in fields(RolloutScores)))


def _rollout_scores(
    rolled: tuple[Tensor, Tensor, Tensor], segment: Segment, per_dim: tuple[Tensor, Tensor]
) -> RolloutScores:
    (latents, deltas, log_probs), (scale, ar1) = rolled, per_dim
    true, reached = segment.delta, latents - deltas
    return RolloutScores(
        nll=-log_probs.double(),
        cosine=cosine_similarity(deltas * scale, true * scale, dim=2),
        innovation_cosine=cosine_similarity(deltas - ar1 * reached, true - ar1 * segment.previous, dim=2),
        magnitude=deltas.norm(dim=2),
        true_magnitude=true.norm(dim=2),
        state_error=(latents - segment.future).norm(dim=2),
        still_error=(segment.context[:, -1:] - segment.future).norm(dim=2),
        mean_error=segment.future.norm(dim=2),
        finite=latents.isfinite().all(2),
        valid=segment.valid,
        speaker=segment.speaker,
    )
