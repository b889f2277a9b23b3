"""What is minimised. Every loss is a mean of -log p in nats per frame, in float64, outside autocast."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.adversary import Adversary
from audio_engram.config import TrainConfig
from audio_engram.data.windows import Segment
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.errors import NumericalError
from audio_engram.estimators import make_estimator
from audio_engram.forcing import free_running, scheduled_sampling
from audio_engram.rollout import RolloutOptions, rollout
from audio_engram.seeds import child


def teacher_forced_loss(model: DynamicsModel, segment: Segment) -> Float[Tensor, ""]:
    """-log p of the last future increment given the true context: lag = number of future frames.

    Raises:
        NumericalError: if no target of the batch has a density.
    """
    valid = segment.valid[:, -1]
    if not valid.any():
        raise NumericalError("a batch holds digital silence alone: use a larger train.batch_size")
    features = segment.utterance if model.n_features else None
    log_prob = model(segment.context, features).log_prob(segment.delta[:, -1])
    return -log_prob[valid].mean()


def noisy(segment: Segment, config: TrainConfig, generator: torch.Generator) -> Segment:
    """The segment with noise on its context: each example draws its level up to `config.context_noise`.

    The true increment of the first future frame then starts from the noisy frame, so that what is learned at lag 1
    leads back to the data (Rouard et al. 2025, CALM; Pasini et al. 2024, CAM).
    """
    context = segment.context.clone()
    last = context.shape[1] - config.clean_frames
    # Drawn where the generator lives, so that every device trains on the same noise.
    level = config.context_noise * torch.rand(len(context), 1, 1, generator=generator)
    noise = level * torch.randn(context[:, :last].shape, generator=generator)
    context[:, :last] += noise.to(context)
    return replace(segment, context=context)


def unrolled_loss(
    model: DynamicsModel,
    segment: Segment,
    config: TrainConfig,
    mask: Tensor,
    generator: torch.Generator,
    adversary: Adversary | None = None,
) -> Float[Tensor, ""]:
    """-log p of the true increments along a rollout on the model's own states.

    `teacher_weight` adds the teacher-forced loss of the first step's context, `state_weight` the squared distance
    per dimension between the states reached and the true ones. With `step` = sample every example is rolled out
    `draws` times from states that are drawn with `generator`. What the adversary makes of the states comes on top.
    """
    whole, estimator = segment, None
    if config.step == "sample":
        segment, mask = _repeated(segment, config.draws), mask.expand(len(segment.context), -1).repeat(config.draws, 1)
        estimator = make_estimator(config, child(generator, segment.context.device))
    options = RolloutOptions(estimator or config.step, detach=config.detach, checkpoint_steps=config.checkpoint_steps)
    rolled = rollout(model, segment.context, mask, segment.future, options)
    if rolled.log_probs is None or not segment.valid.any():
        raise NumericalError("a batch holds digital silence alone: use a larger train.batch_size")
    loss = -rolled.log_probs[segment.valid].mean()
    if estimator is not None:
        loss = loss + estimator.correction(-rolled.log_probs, segment.valid)
    if config.teacher_weight:
        loss = (loss + config.teacher_weight * _along_truth(model, whole)) / (1 + config.teacher_weight)
    if config.state_weight:
        loss = loss + config.state_weight * (rolled.latents - segment.future).square().mean()
    return loss if adversary is None else loss + config.adversary * adversary(segment, rolled.latents)


def _repeated(segment: Segment, times: int) -> Segment:
    """Every example so many times."""
    context, future = segment.context.repeat(times, 1, 1), segment.future.repeat(times, 1, 1)
    valid, speaker = segment.valid.repeat(times, 1), segment.speaker.repeat(times, 1)
    return Segment(context, future, valid, speaker, lambda: segment.utterance.repeat(times, 1))


def sampling_mask(segment: Segment, config: TrainConfig, progress: float, generator: torch.Generator) -> Tensor:
    """Scheduled sampling: true frames fed back with a probability that falls to 0 halfway through training."""
    probability = config.sampling_start * max(0.0, 1 - 2 * progress)
    shape = (len(segment.context), segment.future.shape[1])
    return scheduled_sampling(shape, probability, generator) if probability else free_running(shape[1])


def _along_truth(model: DynamicsModel, segment: Segment) -> Tensor:
    """The teacher-forced loss at one step in four, in one forward pass."""
    run = torch.cat([segment.context, segment.future], dim=1)
    width, steps = segment.context.shape[1], segment.future.shape[1]
    contexts = run.unfold(1, width, 1)[:, :steps:4].movedim(-1, 2).flatten(0, 1)
    log_prob = model(contexts).log_prob(segment.delta[:, ::4].flatten(0, 1))
    valid = segment.valid[:, ::4].flatten()
    # A small batch may be silent at just these steps: nothing to learn there, and no mean of nothing.
    return -log_prob[valid].sum() / valid.sum().clamp(min=1)
