"""A dynamics model: one trunk that reads the context, one head that turns it into a distribution."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.distributions import DeltaDistribution
from audio_engram.dynamics.heads import HEADS, Start
from audio_engram.errors import UsageError
from audio_engram.seeds import generator_for


class Trunk(nn.Module):
    """Linear layers with GELU on the flattened context (and on the utterance's description, if there is one)."""

    def __init__(self, n_inputs: int, config: ModelConfig) -> None:
        super().__init__()
        sizes = [n_inputs] + [config.width] * config.depth
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.GELU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B H"]:
        """Hidden features."""
        return self.layers(x)


class DynamicsModel(nn.Module):
    """`forward(context)` is the distribution of the next increment, in standardised space.

    The head starts at the diagonal AR(1) baseline, so that what is learned is what that baseline does not know.
    `data_loc` and `data_scale` are what raw latents were standardised by. `precision` is the autocast type of the
    linear layers in training; distributions are always evaluated outside autocast.
    """

    data_loc: Tensor
    data_scale: Tensor

    def __init__(self, kind: str, config: ModelConfig, start: Start, n_features: int = 0) -> None:
        super().__init__()
        self.kind, self.config, self.n_features = kind, config, n_features
        self.precision = torch.float32
        dim = len(start.last)
        self.trunk = Trunk(config.context * dim + n_features, config)
        self.head = HEADS[kind](config, start)
        self.register_buffer("data_loc", torch.zeros(dim) if start.data_loc is None else start.data_loc.clone())
        self.register_buffer("data_scale", torch.ones(dim) if start.data_scale is None else start.data_scale.clone())

    def forward(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> DeltaDistribution:
        """The distribution of `delta`.

        Raises:
            ValueError: if the model was built with utterance features and is given none.
        """
        x = context.flatten(1)
        if self.n_features:
            if utterance is None:
                raise ValueError("this model reads utterance features: pass segment.utterance")
            x = torch.cat([x, utterance], dim=1)
        enabled = self.precision != torch.float32 and self.training
        with torch.autocast(context.device.type, torch.bfloat16, enabled=enabled):
            raw = self.head.linear(self.trunk(x))
        return self.head.distribution(raw.float(), context[:, -1])


def check_kind(kind: str) -> None:
    """Raises: UsageError for a head that does not exist."""
    if kind not in HEADS:
        raise UsageError(f"model {kind}: no such head: use one of {', '.join(HEADS)}")


def make_model(kind: str, config: ModelConfig, start: Start, seed: int, n_features: int = 0) -> DynamicsModel:
    """Build `mdn`, `vmf` or `magnitude` (uniform direction) for D dimensions, reproducibly from a seed.

    Raises:
        UsageError: for an unknown kind.
    """
    check_kind(kind)
    model = DynamicsModel(kind, config, start, n_features)
    _initialise(model, seed)
    return model.eval()


def training_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the machine multiplies it faster than float32, unless the configuration says otherwise."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    cpu: Any = torch.cpu
    fast = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def _initialise(model: DynamicsModel, seed: int) -> None:
    """Normal weights of variance 1 / inputs in the trunk, a tenth of that deviation in the head, no biases."""
    generator = generator_for(seed, "initialise")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            shrink = 0.1 if module is model.head.linear else 1.0
            nn.init.normal_(module.weight, std=shrink * module.in_features**-0.5, generator=generator)
            nn.init.zeros_(module.bias)
