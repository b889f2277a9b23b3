"""Memory as basis: prototypes on the sphere, among which a context selects by a query, and what stands in for them."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.distributions import DeltaDistribution
from audio_engram.dynamics.heads import PolarHead, Start
from audio_engram.errors import UsageError

GATE_START = -2.0  # an eighth of the direction: nearly the AR(1) start of the head without a memory
LEAST, MOST = log(0.1), log(1000.0)
GRAIN = 2**16


class Memory(nn.Module):
    """K prototypes under a key each: a direction, an offset of log kappa, and offsets of the log-normals.

    alpha = softmax(beta cos(query, key)); what is read is the sum of the prototypes weighted by alpha.

    Placebos. `one` reads the mean of all prototypes, which start as copies of one. `random` does not start from the
    prototypes it is given. `shuffled_keys` reads, for address k, prototype k + s (mod K) with another s for every
    context: keys and queries are learned, so that any fixed permutation would be learned as well and be no placebo.
    s is read off the last digits of the last frame, which makes it the same whenever the same context comes.
    """

    def __init__(self, config: ModelConfig, dim: int, prototypes: Float[Tensor, "K D"] | None) -> None:
        super().__init__()
        self.config = memory = config.memory
        k = memory.prototypes
        if prototypes is not None and prototypes.shape != (k, dim):
            there = f"{prototypes.shape[0]} in {prototypes.shape[1]}"
            raise UsageError(f"model.memory.prototypes = {k} in {dim} dimensions: given are {there}: give as many")
        self.given = prototypes is not None and memory.placebo != "random"
        self.keys = nn.Parameter(torch.zeros(k, memory.key_width))
        # From its start, so that weight decay leads back there and not to 1.
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        if memory.direction != "none":
            start = prototypes.clone() if prototypes is not None and self.given else torch.zeros(k, dim)
            self.directions = nn.Parameter(start, requires_grad=memory.learned)
        if memory.concentration:
            self.concentrations = nn.Parameter(torch.zeros(k, 1))
        if memory.magnitude:
            self.magnitudes = nn.Parameter(torch.zeros(k, 3 * config.magnitude_components))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Keys, and directions that are not given, point anywhere; drawn alike in every variant."""
        self.keys.normal_(generator=generator)
        if self.config.direction == "none":
            return
        drawn = torch.randn(self.directions.shape, generator=generator)
        if not self.given:
            self.directions.copy_(nn.functional.normalize(drawn, dim=1))
        if self.config.placebo == "one":
            self.directions.copy_(self.directions[:1].expand_as(self.directions))

    @property
    def sharpness(self) -> Float[Tensor, ""]:
        """Beta, from 0.1 to 1000."""
        return (log(self.config.sharpness) + self.log_sharpness).clamp(LEAST, MOST).exp()

    def weights(self, query: Float[Tensor, "B Q"], last: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Alpha: the share of each prototype in what is read, in a context that ends in the frame `last`."""
        query, keys = nn.functional.normalize(query.to(self.keys), dim=1), nn.functional.normalize(self.keys, dim=1)
        alpha = (self.sharpness * (query @ keys.T)).softmax(1)
        if self.config.placebo != "shuffled_keys":
            return alpha
        k = alpha.shape[1]
        # Whole numbers, whose sum is the same in any order.
        shift = (last * GRAIN).floor().long().sum(1, keepdim=True)
        return alpha.gather(1, (torch.arange(k, device=alpha.device) + shift) % k)

    def read(self, alpha: Float[Tensor, "B K"], table: Float[Tensor, "K N"]) -> Float[Tensor, "B N"]:
        """The prototypes' rows of a table, weighted by alpha."""
        return table.mean(0).expand(len(alpha), -1) if self.config.placebo == "one" else alpha @ table

    def direction(self, alpha: Float[Tensor, "B K"]) -> Float[Tensor, "B D"]:
        """mu_mem = normalize(sum of alpha_k direction_k)."""
        towards = self.read(alpha, nn.functional.normalize(self.directions, dim=1))
        return nn.functional.normalize(towards, dim=1, eps=1e-12)


class MemoryHead(PolarHead):
    """The polar head, whose direction, concentration or magnitude a memory takes part in.

    Its linear layer gives a query and a gate too. The gate g blends normalize((1 - g) mu + g mu_mem). Outputs that a
    role leaves unused (the parametric direction where the memory's stands alone) are counted all the same.
    """

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__(config, start, n_further=_n_query(config))
        self.memory = Memory(config, len(start.last), start.prototypes)

    def weights(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Alpha of each context, from the linear layer's outputs."""
        return self.memory.weights(self._further(raw)[:, 1:], last)

    def gate(self, raw: Float[Tensor, "B O"]) -> Float[Tensor, " B"]:
        """The memory's part in the direction, from 0 to 1."""
        if self.config.memory.direction == "blend":
            return torch.sigmoid(GATE_START + self._further(raw)[:, 0])
        return torch.full_like(raw[:, 0], float(self.config.memory.direction == "alone"))

    def distribution(self, raw: Float[Tensor, "B O"], last: Float[Tensor, "B D"]) -> DeltaDistribution:
        """What the linear layer gives and what the memory adds to it."""
        roles, alpha = self.config.memory, self.weights(raw, last)
        direction, concentration, magnitude = self._parts(raw[:, : -_n_query(self.config)])
        if roles.concentration:
            concentration = concentration + self.memory.read(alpha, self.memory.concentrations)[:, 0]
        if roles.magnitude:
            magnitude = magnitude + self.memory.read(alpha, self.memory.magnitudes)
        return self._polar(self._direction(raw, direction, alpha, last), concentration, magnitude)

    def _direction(self, raw: Tensor, parametric: Tensor, alpha: Tensor, last: Tensor) -> Float[Tensor, "B D"]:
        if self.config.memory.direction == "alone":
            return self.memory.direction(alpha)
        loc = self._towards(parametric, last)
        if self.config.memory.direction == "none":
            return loc
        gate = self.gate(raw).to(loc).unsqueeze(1)
        return nn.functional.normalize(torch.lerp(loc, self.memory.direction(alpha).to(loc), gate), dim=1, eps=1e-12)

    def _further(self, raw: Float[Tensor, "B O"]) -> Tensor:
        return raw[:, -_n_query(self.config) :]


class MatchedHead(PolarHead):
    """The polar head without a memory, with as many parameters in a further layer before its linear one.

    They are as many as the layer's width allows: at most half of 2 `width` + 1 parameters more or fewer.
    """

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__(config, start)
        self.linear = _Deeper(config.width, self.n_outputs, matched_width(config, len(start.last)))


class _Deeper(nn.Linear):
    """x + narrow(GELU(wide(x))), and then linear."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__(n_in, n_out)
        self.wide, self.narrow = nn.Linear(n_in, width), nn.Linear(width, n_in)

    def forward(self, x: Float[Tensor, "B H"]) -> Float[Tensor, "B O"]:
        return super().forward(x + self.narrow(nn.functional.gelu(self.wide(x))))


def memory_parameters(config: ModelConfig, dim: int) -> int:
    """How many parameters a memory adds to the polar head, those that stay where they start included."""
    memory = config.memory
    each = memory.key_width + int(memory.concentration)
    each += dim if memory.direction != "none" else 0
    each += 3 * config.magnitude_components if memory.magnitude else 0
    return memory.prototypes * each + 1 + (config.width + 1) * _n_query(config)


def matched_width(config: ModelConfig, dim: int) -> int:
    """The width at which a further layer has as many parameters as the memory."""
    return max(1, round((memory_parameters(config, dim) - config.width) / (2 * config.width + 1)))


def _n_query(config: ModelConfig) -> int:
    """The gate, then the query."""
    return 1 + config.memory.key_width
