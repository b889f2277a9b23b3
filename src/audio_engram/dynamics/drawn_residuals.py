"""A model's mean increments, and draws from what it left over in training instead of from its own density."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.data.windows import Segment, Windows
from audio_engram.distributions import DeltaDistribution, Either, Residuals, SmoothedBootstrap
from audio_engram.dynamics.anchor import drawn
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.dynamics.residual_memory import left_over
from audio_engram.errors import UsageError

STORED = 8192  # residuals
CHUNK = 4096


class DrawnResiduals(nn.Module):
    """`forward(context)` has the model's mean and spread, and the shape of stored residuals.

    A density that is learned has the shape of its family, a mixture of Gaussians here, whatever else one frame of
    latents is like; residuals have the true one. They are kept over the spread that the model foretold. With a `share`
    below 1 the other draws come from the density that was learned.
    """

    def __init__(self, model: DynamicsModel, residuals: Residuals, bandwidth: float, share: float = 1.0) -> None:
        super().__init__()
        self.model, self.residuals, self.bandwidth, self.share = model, residuals, bandwidth, share

    @property
    def n_features(self) -> int:
        """How many numbers about the utterance the model reads."""
        return self.model.n_features

    def forward(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> DeltaDistribution:
        """The distribution of `delta`."""
        law = self.model(context, utterance)
        stored = SmoothedBootstrap(law.mean, law.spread, self.residuals.to(context), self.bandwidth)
        return Either(stored, law, self.share) if self.share < 1 else stored


@torch.no_grad()
def store_residuals(model: DynamicsModel, windows: Windows, seed: int) -> Residuals:
    """What the model leaves over on training windows (lag `windows.steps`), at most `STORED`, drawn at random.

    Raises:
        UsageError: for a model whose densities have no known spread.
    """
    if model.kind != "mdn":
        raise UsageError(f"residuals: the spread of {model.kind} models is not known: use an mdn model")
    index = windows.with_valid_target()
    some = index[drawn(len(index), STORED, seed)]
    return Residuals.of(torch.cat([_residual(model, segment) for segment in windows.batches(some, CHUNK)]))


def _residual(model: DynamicsModel, segment: Segment) -> Float[Tensor, "B D"]:
    """What is left over, over the spread that was foretold, float64."""
    left, law = left_over(model, segment)
    return (left / law.spread.double().unsqueeze(-1)).cpu()
