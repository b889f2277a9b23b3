"""`python benchmarks/estimators.py`: bias and deviation of the estimators of sampled training, against enumeration.

A two-component mixture in one dimension is rolled out for two steps. The loss that training minimises is the mean over
the components and the noise of the first step; both are summed exactly, so that the gradient is known.
"""

import sys
from math import pi, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from audio_engram.distributions import DiagonalGaussianMixture
from audio_engram.estimators import Estimator, GumbelSoftmax, Marginal, Reinforce
from audio_engram.forcing import free_running
from audio_engram.rollout import RolloutOptions, rollout

STEPS = 2
CONTEXT, FUTURE = 0.3, (1.1, 0.2)
PARAMETERS = ("weights", "means", "scales")


class Toy(nn.Module):
    """Weights, means and scales of two components, each linear in the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([[0.2, -0.4], [0.5, -0.3]], dtype=torch.float64))
        self.means = nn.Parameter(torch.tensor([[0.9, -0.7], [-0.3, 0.2]], dtype=torch.float64))
        self.scales = nn.Parameter(torch.tensor([[-0.8, -0.5], [0.1, 0.2]], dtype=torch.float64))

    def forward(self, context: Tensor) -> DiagonalGaussianMixture:
        """The distribution of the next increment."""
        last = context[:, -1]
        logits, loc, log_scale = (p[0] + p[1] * last for p in (self.weights, self.means, self.scales))
        return DiagonalGaussianMixture(logits, loc.unsqueeze(-1), log_scale.unsqueeze(-1))


def exact(toy: Toy) -> tuple[Tensor, ...]:
    """The gradient of the expected loss: components enumerated, noise by 64-point Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(64))
    start = torch.full((1, 1, 1), CONTEXT, dtype=torch.float64)
    first = toy(start)
    loss = -first.log_prob(torch.tensor([[FUTURE[0] - CONTEXT]], dtype=torch.float64)).sum()
    for k in range(2):
        states = CONTEXT + first.loc[0, k, 0] + first.log_scale[0, k, 0].exp() * nodes
        second = toy(states.view(-1, 1, 1))
        nll = -second.log_prob(torch.full((len(nodes), 1), FUTURE[1] - FUTURE[0], dtype=torch.float64))
        loss = loss + first.weights[0, k] * (weights * nll).sum() / sqrt(2 * pi)
    return torch.autograd.grad(loss / STEPS, list(toy.parameters()))


def estimates(toy: Toy, estimator: Estimator, batch: int) -> tuple[Tensor, ...]:
    """The gradient that one batch of rollouts gives."""
    start = torch.full((batch, 1, 1), CONTEXT, dtype=torch.float64)
    truth = torch.tensor(FUTURE, dtype=torch.float64).view(1, STEPS, 1).expand(batch, STEPS, 1)
    rolled = rollout(toy, start, free_running(STEPS), truth, RolloutOptions(estimator))
    nll, valid = -rolled.log_probs, torch.ones(batch, STEPS, dtype=torch.bool)
    return torch.autograd.grad(nll.mean() + estimator.correction(nll, valid), list(toy.parameters()))


def measure(make: type[Estimator], n: int, batch: int, *arguments: float) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation over `n` batches of the gradient with respect to every parameter."""
    toy, generator = Toy(), torch.Generator().manual_seed(0)
    rows = [estimates(toy, make(generator, *arguments), batch) for _ in range(n)]
    stacked = (torch.stack(one) for one in zip(*rows, strict=True))
    return {name: (one.mean(0), one.std(0)) for name, one in zip(PARAMETERS, stacked, strict=True)}


ESTIMATORS: dict[str, tuple[type[Estimator], tuple[float, ...]]] = {
    "marginal": (Marginal, ()),
    "gumbel, temperature 1": (GumbelSoftmax, (1.0,)),
    "gumbel, temperature 0.5": (GumbelSoftmax, (0.5,)),
    "gumbel, temperature 0.1": (GumbelSoftmax, (0.1,)),
    "reinforce": (Reinforce, ()),
}


def main(n: int = 4000, batch: int = 32) -> None:
    """Print the table."""
    truth = dict(zip(PARAMETERS, exact(Toy()), strict=True))
    print(f"{n} batches of {batch}; bias and deviation are norms, relative to the norm of the exact gradient\n")
    print("| estimator | " + " | ".join(f"{name}: bias (its error) | deviation" for name in PARAMETERS) + " |")
    print("|---|" + "---|---|" * len(PARAMETERS))
    for name, (make, arguments) in ESTIMATORS.items():
        cells = []
        for parameter, (mean, deviation) in measure(make, n, batch, *arguments).items():
            size = truth[parameter].norm()
            bias, error = (mean - truth[parameter]).norm() / size, deviation.norm() / sqrt(n) / size
            cells.append(f"{bias:.3f} ({error:.3f}) | {deviation.norm() / size:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:]))
