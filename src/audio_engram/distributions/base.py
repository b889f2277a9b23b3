"""What every dynamics model gives back: a density of the next increment on R^D."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.distributions import Distribution

Shape = torch.Size | list[int] | tuple[int, ...]
EMPTY = torch.Size()
_DEFAULT_SEED = 0


class DeltaDistribution(Distribution):
    """A density of the increment delta in R^D; `event_shape` is (D,), `batch_shape` is what stands before it.

    Arguments are not validated unless asked: construction stands in the inner loop of every rollout.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (the type that torch declares)

    def __init__(self, batch_shape: torch.Size, dim: int) -> None:
        super().__init__(batch_shape, torch.Size([dim]), validate_args=False)

    @property
    def dim(self) -> int:
        """D, the number of dimensions of an increment."""
        return self.event_shape[0]

    def log_prob(self, delta: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Log-density of `delta` on R^D in nats, float64."""
        raise NotImplementedError

    def sample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def rsample(self, sample_shape: Shape = EMPTY, generator: Generator | None = None) -> Float[Tensor, "*shape D"]:
        """Draw so that the gradient reaches the parameters."""
        raise NotImplementedError

    def choose(self, generator: Generator | None = None) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch"]]:
        """A draw like `rsample`'s, and the log-probability of the discrete choice in it (0 where there is none)."""
        draw = self.rsample(generator=generator)
        return draw, torch.zeros_like(draw[..., 0])

    def relaxed(self, temperature: float, generator: Generator | None = None) -> Float[Tensor, "*batch D"]:
        """A draw whose discrete choice is relaxed, so that its gradient reaches the weights as well."""
        return self.rsample(generator=generator)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """E[delta]."""
        raise NotImplementedError

    @property
    def typical(self) -> Float[Tensor, "*batch D"]:
        """A step of ordinary length in the expected direction; what rollouts advance by."""
        return self.mean

    @property
    def spread(self) -> Float[Tensor, "*batch"]:
        """How far draws lie from their mean: the root of the mean of the dimensions' variances."""
        raise NotImplementedError

    @property
    def direction(self) -> Float[Tensor, "*batch D"]:
        """Unit mean direction."""
        return torch.nn.functional.normalize(self.mean, dim=-1)

    def expected_log_magnitude(
        self, generator: Generator | None = None, n_samples: int = 32
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """E[log |delta|] and the variance of its error (0 where it is exact).

        Here the mean over `n_samples` draws, two or more, from a fixed seed where no generator is given.
        """
        if generator is None:
            generator = Generator(self.mean.device).manual_seed(_DEFAULT_SEED)
        draws = self.sample(torch.Size([n_samples]), generator)
        logs = torch.linalg.vector_norm(draws, dim=-1).log()
        return logs.mean(0), logs.var(0) / n_samples


def standard_normal(shape: torch.Size, like: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal numbers of the dtype and on the device of `like`."""
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)


def relaxed_choice(logits: Tensor, temperature: float, generator: Generator | None) -> Tensor:
    """Gumbel-softmax weights (*batch, K) in place of a component drawn from the logits (Jang et al. 2017, eq. 2)."""
    uniform = torch.rand(logits.shape, generator=generator, dtype=torch.float64, device=logits.device)
    gumbel = -(-uniform.clamp(min=1e-300).log()).log()
    return ((logits + gumbel.to(logits)) / temperature).softmax(-1)


def log_weight(logits: Tensor, component: Tensor) -> Tensor:
    """The log-probability (*batch) of the component (*batch) that was drawn from the logits (*batch, K)."""
    return logits.log_softmax(-1).gather(-1, component.unsqueeze(-1)).squeeze(-1)


def draw_component(logits: Tensor, sample_shape: torch.Size, generator: Generator | None) -> Tensor:
    """Indices of mixture components, (*sample_shape, *batch), from logits (*batch, K)."""
    weights = logits.detach().float().softmax(-1).reshape(-1, logits.shape[-1])
    # Where a state has left the finite numbers any component will do: the draw is not finite, and says so.
    weights = weights.nan_to_num(nan=1.0)
    index = torch.multinomial(weights, sample_shape.numel(), replacement=True, generator=generator)
    return index.T.reshape(sample_shape + logits.shape[:-1])
