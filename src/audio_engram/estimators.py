"""Gradients through sampled states: what a rollout advances by when the loss must reach past a random choice.

A density whose draws are all reparameterised (von Mises-Fisher times log-normal) has an exact pathwise gradient. A
mixture also chooses a component, which no pathwise gradient sees; the three estimators differ in what they make of it.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from audio_engram.config import TrainConfig
from audio_engram.distributions import DeltaDistribution


class Estimator(ABC):
    """Chooses the increments of one rollout; a new one is made for each."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    @abstractmethod
    def __call__(self, distribution: DeltaDistribution) -> Float[Tensor, "B D"]:
        """The increment to advance by."""

    def correction(self, nll: Float[Tensor, "B S"], valid: Bool[Tensor, "B S"]) -> Float[Tensor, ""]:
        """What is added to the mean of `nll` so that its gradient is the estimator's; worth 0."""
        return nll.new_zeros(())


class Marginal(Estimator):
    """The component is drawn and the gradient is the one given the component.

    (1/M) sum_m L_{k_m} with k_m ~ Cat(pi): over several draws the loss is unbiased and so is its gradient with respect
    to means and scales; of the weights it misses how later losses depend on the choice.
    """

    def __call__(self, distribution: DeltaDistribution) -> Float[Tensor, "B D"]:
        """A reparameterised draw."""
        return distribution.rsample(generator=self.generator)


class GumbelSoftmax(Estimator):
    """The choice is relaxed (Jang et al. 2017): biased, the more the higher the temperature, with small variance."""

    def __init__(self, generator: Generator, temperature: float) -> None:
        super().__init__(generator)
        self.temperature = temperature

    def __call__(self, distribution: DeltaDistribution) -> Float[Tensor, "B D"]:
        """A relaxed draw."""
        return distribution.relaxed(self.temperature, self.generator)


class Reinforce(Estimator):
    """The choice by its score (Williams 1992), the rest by its path: unbiased, where `nll` is all that is minimised.

    The return of a choice is the sum of `nll` after it; the baseline is the mean return of the other examples of
    the batch, which does not depend on the choice. Of other losses on the states drawn it knows nothing: `train.fit`
    refuses them.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__(generator)
        self.log_weights: list[Tensor] = []

    def __call__(self, distribution: DeltaDistribution) -> Float[Tensor, "B D"]:
        """A reparameterised draw; the log-weight of its component is kept."""
        draw, log_weight = distribution.choose(self.generator)
        self.log_weights.append(log_weight)
        return draw

    def correction(self, nll: Float[Tensor, "B S"], valid: Bool[Tensor, "B S"]) -> Float[Tensor, ""]:
        """Returns less baseline, times the log-weights, with the value taken out again."""
        losses = torch.where(valid, nll, 0.0).detach()
        after = losses.flip(1).cumsum(1).flip(1) - losses
        others = (after.sum(0) - after) / max(1, len(after) - 1)
        score = (torch.stack(self.log_weights, dim=1) * (after - others)).sum() / valid.sum()
        return score - score.detach()


def make_estimator(config: TrainConfig, generator: Generator) -> Estimator:
    """The estimator that a training asks for."""
    if config.estimator == "gumbel":
        return GumbelSoftmax(generator, config.temperature)
    return Reinforce(generator) if config.estimator == "reinforce" else Marginal(generator)
