"""The one function in which a context window slides."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from audio_engram.distributions import DeltaDistribution

Step = Literal["mean", "typical", "sample"] | Callable[[DeltaDistribution], Tensor]


@runtime_checkable
class Corrector(Protocol):
    """Moves a predicted latent, given the context it was predicted from."""

    def __call__(self, latent: Float[Tensor, "B D"], context: Float[Tensor, "B W D"]) -> Float[Tensor, "B D"]:
        """The corrected latent."""


@runtime_checkable
class Draws(Protocol):
    """What draws random numbers, as some correctors do."""

    generator: torch.Generator


@runtime_checkable
class Forward(Protocol):
    """What a rollout asks of a model."""

    def __call__(self, context: Float[Tensor, "B W D"]) -> DeltaDistribution:
        """The distribution of the next increment."""


@dataclass(frozen=True)
class Rollout:
    """S predicted steps: `latents[:, s]` is the state before forcing, `deltas[:, s]` the increment chosen.

    `log_probs` are the nats that each step's distribution gave to the true increment; None without truth.
    """

    latents: Float[Tensor, "B S D"]
    deltas: Float[Tensor, "B S D"]
    log_probs: Float[Tensor, "B S"] | None


@dataclass(frozen=True)
class RolloutOptions:
    """How to advance: which increment to take from the distribution, what corrects it, what is saved for backward.

    `detach` stops gradients at the fed-back states; `checkpoint_steps` recomputes each step in the backward pass.
    `utterance` is what every row's utterance is like, for a model that reads that beside the context.
    """

    step: Step = "typical"
    corrector: Corrector | None = None
    generator: torch.Generator | None = None
    detach: bool = False
    checkpoint_steps: bool = False
    utterance: Float[Tensor, "B F"] | None = None


def rollout(
    model: Forward,
    context: Float[Tensor, "B W D"],
    mask: Bool[Tensor, "#B S"],
    truth: Float[Tensor, "B S D"] | None = None,
    options: RolloutOptions | None = None,
) -> Rollout:
    """Advance S steps from `context`, feeding back the true frame wherever `mask` says so.

    The log-probability of a step is that of the *true* increment `z_t - z_{t-1}` under the distribution predicted
    from the states the model has reached. The result carries gradients.

    Raises:
        ValueError: if a true frame must be fed back and there is no truth, or the shapes disagree.
    """
    options = options or RolloutOptions()
    steps = mask.shape[1]
    _check(mask, truth, options)
    true_deltas = None if truth is None else torch.diff(truth, dim=1, prepend=context[:, -1:])
    mask = mask.to(context.device)
    frames = list(context.unbind(1))
    latents, deltas, log_probs = [], [], []
    for s in range(steps):
        target = None if true_deltas is None else true_deltas[:, s]
        latent, delta, log_prob = _one_step(model, frames, target, options)
        latents.append(latent)
        deltas.append(delta)
        log_probs.append(log_prob)
        fed = latent if truth is None else torch.where(mask[:, s : s + 1], truth[:, s], latent)
        frames = [*frames[1:], fed.detach() if options.detach else fed]
    stacked = None if truth is None else torch.stack(log_probs, dim=1)
    return Rollout(torch.stack(latents, dim=1), torch.stack(deltas, dim=1), stacked)


def _choose(
    model: Forward, context: Float[Tensor, "B W D"], distribution: DeltaDistribution, options: RolloutOptions
) -> Float[Tensor, "B D"]:
    """The increment to advance by."""
    step = options.step
    if callable(step):
        return step(distribution)
    if step == "sample":
        return _draw(model, context, distribution, options)
    return distribution.mean if step == "mean" else distribution.typical


def _draw(
    model: Forward,
    context: Float[Tensor, "B W D"],
    distribution: DeltaDistribution,
    options: RolloutOptions,
) -> Float[Tensor, "B D"]:
    """A draw for every row; NaN where the state has left the finite numbers and nothing has a density any more."""
    whole = distribution.log_prob(torch.ones_like(context[:, -1])).isfinite()
    if bool(whole.all()):
        return distribution.sample(generator=options.generator)
    delta = torch.full_like(context[:, -1], torch.nan)
    if bool(whole.any()):
        utterance = None if options.utterance is None else options.utterance[whole]
        some = _foretold(model, context[whole], utterance)
        delta[whole] = some.sample(generator=options.generator).to(delta.dtype)
    return delta


def _foretold(
    model: Forward, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None
) -> DeltaDistribution:
    return model(context) if utterance is None else model(context, utterance)  # type: ignore[call-arg]


def _one_step(
    model: Forward, frames: list[Tensor], target: Tensor | None, options: RolloutOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """The next latent, the increment chosen, and the log-probability of the true one.

    The window comes in as frames, which successive steps share: checkpoints then keep each frame once, not W times.
    """

    def step(target: Tensor | None, *frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        context = torch.stack(frames, dim=1)
        distribution = _foretold(model, context, options.utterance)
        delta = _choose(model, context, distribution, options).to(context.dtype)
        latent = frames[-1] + delta
        if options.corrector is not None:
            latent = options.corrector(latent, context)
        return latent, delta, delta.new_zeros(()) if target is None else distribution.log_prob(target)

    if options.checkpoint_steps and torch.is_grad_enabled():
        return checkpoint(step, target, *frames, use_reentrant=False)
    return step(target, *frames)


def _check(mask: Tensor, truth: Tensor | None, options: RolloutOptions) -> None:
    steps = mask.shape[1]
    if options.step == "sample" and options.checkpoint_steps:
        raise ValueError("checkpoint_steps would draw each sample twice, differently: sample without it")
    if isinstance(options.corrector, Draws) and options.checkpoint_steps:
        raise ValueError("checkpoint_steps would let the corrector draw twice, differently: correct without it")
    if truth is None and bool(mask.any()):
        raise ValueError("the mask feeds back true frames but there is no truth: pass truth or free_running(S)")
    if truth is not None and truth.shape[1] != steps:
        raise ValueError(f"the mask has {steps} steps and the truth {truth.shape[1]}: cut them alike")
