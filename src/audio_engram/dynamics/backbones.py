"""Backbones: from a context of W frames (and a description of the utterance) to hidden features."""

from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.errors import UsageError


class Backbone(nn.Module, ABC):
    """Reads the context, oldest frame first; `n_features` numbers that describe the utterance may stand beside it."""

    def __init__(self, dim: int, config: ModelConfig, n_features: int = 0) -> None:
        super().__init__()
        self.dim, self.config, self.n_features = dim, config, n_features

    @abstractmethod
    def forward(
        self, context: Float[Tensor, "B W D"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B H"]:
        """Hidden features after the last frame."""


class MLP(Backbone):
    """Linear layers with GELU on the flattened context."""

    def __init__(self, dim: int, config: ModelConfig, n_features: int = 0) -> None:
        super().__init__(dim, config, n_features)
        sizes = [config.context * dim + n_features] + [config.width] * config.depth
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.GELU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(
        self, context: Float[Tensor, "B W D"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B H"]:
        """Hidden features after the last frame."""
        x = context.flatten(1)
        return self.layers(x if features is None else torch.cat([x, features], dim=1))


class _Embedded(Backbone):
    """Frames as vectors of the backbone's width, to which the utterance's description is added."""

    def __init__(self, dim: int, config: ModelConfig, n_features: int = 0) -> None:
        super().__init__(dim, config, n_features)
        self.embed = nn.Linear(dim, config.width)
        self.describe = nn.Linear(n_features, config.width, bias=False) if n_features else None

    def _embedded(self, context: Tensor, features: Tensor | None) -> Float[Tensor, "B W H"]:
        x = self.embed(context)
        return x if self.describe is None or features is None else x + self.describe(features).unsqueeze(1)


class GRU(_Embedded):
    """Gated recurrent units (Cho et al. 2014) over the frames of the context; the last state."""

    def __init__(self, dim: int, config: ModelConfig, n_features: int = 0) -> None:
        super().__init__(dim, config, n_features)
        between = config.dropout if config.depth > 1 else 0.0
        self.cells = nn.GRU(config.width, config.width, config.depth, batch_first=True, dropout=between)

    def forward(
        self, context: Float[Tensor, "B W D"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B H"]:
        """Hidden features after the last frame."""
        return self.cells(self._embedded(context, features))[0][:, -1]


class Transformer(_Embedded):
    """A causal transformer (Vaswani et al. 2017; norms first, Xiong et al. 2020) with a learned vector per place."""

    HEAD_WIDTH = 64

    def __init__(self, dim: int, config: ModelConfig, n_features: int = 0) -> None:
        super().__init__(dim, config, n_features)
        heads = max(1, config.width // self.HEAD_WIDTH)
        if config.width % heads:
            raise UsageError(
                f"model.width = {config.width}: a transformer divides it into {heads} heads: use 64, 128 ..."
            )
        self.places = nn.Parameter(torch.zeros(config.context, config.width))
        self.blocks = nn.ModuleList(_Block(config.width, heads, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, context: Float[Tensor, "B W D"], features: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B H"]:
        """Hidden features after the last frame."""
        x = self._embedded(context, features) + self.places
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, -1])


class _Block(nn.Module):
    """Attention to this and earlier frames, then two linear layers, each added to what comes in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B W H"]) -> Float[Tensor, "B W H"]:
        parts = self.query_key_value(self.norms[0](x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.join(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.narrow(nn.functional.gelu(self.wide(self.norms[1](x)))))


BACKBONES: dict[str, type[Backbone]] = {"mlp": MLP, "gru": GRU, "transformer": Transformer}
