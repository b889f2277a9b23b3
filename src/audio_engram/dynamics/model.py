"""A dynamics model: one backbone that reads the context, one head that turns it into a distribution."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.distributions import DeltaDistribution
from audio_engram.dynamics.backbones import BACKBONES
from audio_engram.dynamics.directions import DIRECTION, DirectionHead
from audio_engram.dynamics.heads import HEADS, Head, SemiTiedHead, Start
from audio_engram.dynamics.memory import MatchedHead, Memory, MemoryHead
from audio_engram.errors import UsageError
from audio_engram.seeds import generator_for


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
        self.backbone = BACKBONES[config.backbone](dim, config, n_features)
        self.head = head_class(kind, config)(config, start)
        self.register_buffer("data_loc", torch.zeros(dim) if start.data_loc is None else start.data_loc.clone())
        self.register_buffer("data_scale", torch.ones(dim) if start.data_scale is None else start.data_scale.clone())

    def forward(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> DeltaDistribution:
        """The distribution of `delta`; of a longer context the last W frames are read.

        Raises:
            ValueError: if the model was built with utterance features and is given none.
        """
        return self.head.distribution(self.outputs(context, utterance), context[:, -1])

    def outputs(
        self, context: Float[Tensor, "B W D"], utterance: Float[Tensor, "B F"] | None = None
    ) -> Float[Tensor, "B O"]:
        """What the head's linear layer gives its distribution.

        Raises:
            ValueError: as `forward` does.
        """
        if self.n_features and utterance is None:
            raise ValueError("this model reads utterance features: pass segment.utterance")
        features = utterance if self.n_features else None
        context = context[:, -self.config.context :]
        enabled = self.precision != torch.float32 and self.training
        with torch.autocast(context.device.type, torch.bfloat16, enabled=enabled):
            raw = self.head.linear(self.backbone(context, features))
        return raw.float()


def head_class(kind: str, config: ModelConfig) -> type[Head]:
    """The head of a kind, with the covariance or the memory that the configuration asks for."""
    if kind == "vmf" and config.memory.on:
        return MatchedHead if config.memory.placebo == "matched" else MemoryHead
    if kind == DIRECTION:
        return DirectionHead
    return SemiTiedHead if kind == "mdn" and config.covariance == "semi-tied" else HEADS[kind]


def check_kind(kind: str) -> None:
    """Raises: UsageError for a head that does not exist."""
    if kind not in HEADS:
        raise UsageError(f"model {kind}: no such head: use one of {', '.join(HEADS)}")


def make_model(kind: str, config: ModelConfig, start: Start, seed: int, n_features: int = 0) -> DynamicsModel:
    """Build `mdn`, `vmf` or `magnitude` (uniform direction) for D dimensions, reproducibly from a seed.

    A `direction` model reads and foretells the frames of `direction_frames`, and no latents.

    Raises:
        UsageError: for an unknown kind.
    """
    if kind != DIRECTION:
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
    """Normal weights of variance 1 / inputs in the backbone, a tenth of that deviation in the head, no biases."""
    generator = generator_for(seed, "initialise")
    for module in model.modules():
        if isinstance(module, Memory):
            module.initialise(generator)
        # A recurrent network's matrices are its own parameters, several gates in one.
        parameters = module.named_parameters(recurse=False) if isinstance(module, (nn.Linear, nn.GRU)) else ()
        for name, parameter in parameters:
            shrink = 0.1 if module is model.head.linear else 1.0
            if "weight" in name:
                nn.init.normal_(parameter, std=shrink * parameter.shape[1] ** -0.5, generator=generator)
            else:
                nn.init.zeros_(parameter)
