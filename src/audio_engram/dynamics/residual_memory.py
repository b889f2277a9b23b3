"""Residual memory: what a trained model left over in contexts like this one is added to what it predicts."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from audio_engram.data.windows import Segment, Windows
from audio_engram.distributions import DeltaDistribution
from audio_engram.distributions.base import EMPTY, Shape
from audio_engram.dynamics.anchor import MOST, centroids, check_nearest, drawn, neighbours
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.dynamics.prototypes import check_size

CHUNK = 4096


class ResidualMemory(nn.Module):
    """`forward(context)` is the model's distribution, moved by the residual found under the nearest keys.

    Keys are k-means centroids of contexts (their last `frames` frames), values the mean of delta - E[delta] over the
    training contexts nearest to each. Read softly from the `nearest` keys, as `neighbours` weighs them.
    """

    keys: Tensor
    residuals: Tensor

    def __init__(
        self, model: DynamicsModel, keys: Float[Tensor, "K F"], residuals: Float[Tensor, "K D"], nearest: int = 4
    ) -> None:
        """Raises: UsageError for a number of neighbours that it does not have."""
        super().__init__()
        check_nearest(nearest, len(keys))
        self.model, self.nearest = model, nearest
        self.register_buffer("keys", keys)
        self.register_buffer("residuals", residuals)

    @property
    def n_features(self) -> int:
        """How many numbers about the utterance the model reads."""
        return self.model.n_features

    def forward(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> DeltaDistribution:
        """The distribution of `delta`."""
        frames = self.keys.shape[1] // context.shape[2]
        place, weight = neighbours(_key(context, frames).to(self.keys), self.keys, self.nearest)
        residual = torch.einsum("bk,bkd->bd", weight, self.residuals[place])
        return Moved(self.model(context, utterance), residual.to(context))


class Moved(DeltaDistribution):
    """delta = x + `by` with x from `base`."""

    has_rsample = True

    def __init__(self, base: DeltaDistribution, by: Float[Tensor, "*batch D"]) -> None:
        self.base, self.by = base, by
        super().__init__(base.batch_shape, base.dim)

    def log_prob(self, delta: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape"]:
        """Log-density on R^D in nats, float64."""
        return self.base.log_prob(delta.double() - self.by.double())

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw without a gradient."""
        return self.base.sample(sample_shape, generator) + self.by.detach()

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw so that the gradient reaches the parameters."""
        return self.base.rsample(sample_shape, generator) + self.by

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch"]]:
        """A draw of `base`, moved, and the log-probability of the discrete choice in it."""
        draw, log_weight = self.base.choose(generator)
        return draw + self.by, log_weight

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch D"]:
        """A relaxed draw of `base`, moved."""
        return self.base.relaxed(temperature, generator) + self.by

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        return self.base.mean + self.by

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """The typical step of `base`, moved."""
        return self.base.typical + self.by


@torch.no_grad()
def fit_residual_memory(
    model: DynamicsModel, windows: Windows, entries: int, seed: int, nearest: int = 4, frames: int = 1
) -> ResidualMemory:
    """Fill a memory with what the model leaves over on the training windows (lag `windows.steps`).

    Raises:
        UsageError: for more entries than there are training increments, or neighbours than entries.
    """
    index = windows.with_valid_target()
    check_size(entries, len(index), "residual memory")
    check_nearest(nearest, entries)
    some = index[drawn(len(index), max(MOST, entries), seed)]
    keys = centroids(torch.cat([_key(s.context, frames) for s in windows.batches(some, CHUNK)]), entries, seed)
    total = torch.zeros(entries, windows.frames.dim, dtype=torch.float64)
    count = torch.zeros(entries, dtype=torch.long)
    for segment in windows.batches(index, CHUNK):
        owner = torch.cdist(_key(segment.context, frames), keys).argmin(1)
        total.index_add_(0, owner, left_over(model, segment)[0].cpu())
        count += torch.bincount(owner, minlength=entries)
    device = next(model.parameters()).device
    mean = (total / count.clamp(min=1).unsqueeze(1)).float()
    return ResidualMemory(model, keys.to(device), mean.to(device), nearest).eval()


def left_over(model: DynamicsModel, segment: Segment) -> tuple[Float[Tensor, "B D"], DeltaDistribution]:
    """delta - E[delta], float64, and what was foretold."""
    here = segment.to(next(model.parameters()).device)
    law = model(here.context, here.utterance if model.n_features else None)
    return here.delta[:, -1].double() - law.mean.double(), law


def _key(context: Float[Tensor, "B W D"], frames: int) -> Float[Tensor, "B F"]:
    return context[:, -frames:].flatten(1)
