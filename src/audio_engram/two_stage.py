"""Two-stage generation: directions one after the other, then all magnitudes at once."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.windows import Segment, Windows
from audio_engram.dynamics.backbones import Transformer
from audio_engram.dynamics.directions import DIRECTION
from audio_engram.dynamics.heads import Start
from audio_engram.dynamics.magnitudes import MagnitudeModel, magnitude_loss
from audio_engram.dynamics.model import DynamicsModel
from audio_engram.errors import UsageError
from audio_engram.forcing import free_running, teacher_forcing
from audio_engram.rollout import RolloutOptions, rollout
from audio_engram.train import MAX_VALIDATION, PatientTraining
from audio_engram.training_loop import History, Progress

DIRECTION_SHARE = 0.75  # of the parameters: what is foretold there has D numbers, and a magnitude one
TOLERANCE = 0.05
TRIED = 8  # widths: where models are tiny, few of them add up


@dataclass(frozen=True)
class TwoStage:
    """A model of directions and one of magnitudes, as one model of what follows a context."""

    direction: DynamicsModel
    magnitude: MagnitudeModel

    @property
    def n_parameters(self) -> int:
        """Of both."""
        return n_parameters(self.direction) + n_parameters(self.magnitude)

    @torch.no_grad()
    def sample(
        self, context: Float[Tensor, "B W D"], steps: int, generator: Generator | None = None
    ) -> Float[Tensor, "B S D"]:
        """Draw a trajectory: directions on their own, then their magnitudes, summed up from the last true frame."""
        known = self.magnitude.directions(context)
        options = RolloutOptions("sample", generator=generator)
        ahead = rollout(self.direction, known, free_running(steps), options=options).latents
        return self.along(context, ahead, generator)

    @torch.no_grad()
    def along(
        self, context: Float[Tensor, "B W D"], ahead: Float[Tensor, "B S D"], generator: Generator | None = None
    ) -> Float[Tensor, "B S D"]:
        """The second stage alone: draw magnitudes for these directions."""
        magnitude = self.magnitude(context, ahead).sample(generator=generator)
        return context[:, -1:] + (magnitude.unsqueeze(2) * ahead).cumsum(1)

    @torch.no_grad()
    def log_prob(self, segment: Segment) -> Float[Tensor, "B S"]:
        """Nats of every true increment on R^D; NaN where it has no density.

        The sum over a trajectory is the log-density of the whole of it: each direction given those before, each
        magnitude given all directions, less (D - 1) log m for the polar form.
        """
        delta = segment.delta
        length = torch.where(segment.valid, torch.linalg.vector_norm(delta, dim=2), 1.0)
        ahead = torch.where(segment.valid.unsqueeze(2), delta / length.unsqueeze(2), 0.0)
        known = self.magnitude.directions(segment.context)
        forced = rollout(self.direction, known, teacher_forcing(delta.shape[1]), ahead)
        assert forced.log_probs is not None
        of_length = self.magnitude(segment.context, ahead).log_prob(length)
        whole = forced.log_probs + of_length - (delta.shape[2] - 1) * length.double().log()
        return whole.masked_fill(~segment.valid, torch.nan)


def n_parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())


def equal_sizes(config: ModelConfig, dim: int, wanted: int) -> tuple[ModelConfig, ModelConfig]:
    """Configurations of a direction and a magnitude model that together have `wanted` parameters, to within 5 %.

    The first is the configured model made narrower, until a quarter is left for the second.

    Raises:
        UsageError: for a context without an increment, or a model too narrow to be divided.
    """
    if config.context < 2:
        raise UsageError("model.context = 1: holds no direction, from which two stages start: use 2 or more")
    narrow = config.model_copy(update={"context": config.context - 1})
    with torch.device("meta"):
        small = (one for one in _narrower(narrow, dim) if one[0] <= DIRECTION_SHARE * wanted)
        for n, first in islice(small, TRIED):
            rest, second = _as_large_as(config, dim, wanted - n)
            if abs(n + rest - wanted) <= TOLERANCE * wanted:
                return first, second
    raise UsageError(f"model.width = {config.width}: too narrow for two stages of as many parameters: use more")


Sized = tuple[int, ModelConfig]
"""How many parameters a configuration makes, and itself."""


def _blank(dim: int) -> Start:
    return Start(torch.zeros(dim), torch.ones(dim), 1.0, 0.0, 1.0)


def _narrower(config: ModelConfig, dim: int) -> Iterator[Sized]:
    """Direction models from the configured width downwards."""
    for width in range(config.width, 0, -1):
        if config.backbone == "transformer" and width % max(1, width // Transformer.HEAD_WIDTH):
            continue
        one = config.model_copy(update={"width": width})
        yield n_parameters(DynamicsModel(DIRECTION, one, _blank(dim))), one


def _as_large_as(config: ModelConfig, dim: int, wanted: int) -> Sized:
    """The magnitude model whose size is nearest."""

    def sized(width: int) -> Sized:
        one = config.model_copy(update={"width": width})
        return n_parameters(MagnitudeModel(one, _blank(dim))), one

    width = 1 + bisect_left(range(1, wanted), wanted, key=lambda width: sized(width)[0])
    return min(map(sized, {max(1, width - 1), width}), key=lambda one: abs(one[0] - wanted))


def fit_magnitudes(
    model: MagnitudeModel,
    windows: tuple[Windows, Windows],
    config: TrainConfig,
    seed: int,
    path: Path | None = None,
    progress: Progress = lambda line: None,
) -> History:
    """Train in place on (training, validation) windows, as `train.fit` does, all steps of a window at once.

    Raises:
        UsageError: for a checkpoint of another configuration or of other latents. DataError: if it is damaged.
        NumericalError: if the loss is not finite.
    """
    return _Training(model, config, seed).run(windows, path, progress)


class _Training(PatientTraining):
    """As many increments an epoch and a batch as where each has a window of its own."""

    model: MagnitudeModel

    def batches(self, train: Windows, generator: torch.Generator) -> Iterator[Segment]:
        order = torch.randperm(len(train), generator=generator)
        size = max(1, self.config.batch_size // train.steps)
        return train.batches(order[: max(size, len(order) // train.steps)], size, reuse=True)

    def loss(self, segment: Segment, generator: torch.Generator) -> Tensor:
        return magnitude_loss(self.model, segment.to(self.device))

    @torch.no_grad()
    def validate(self, windows: Windows) -> float:
        total = moving = 0.0
        for segment in windows.batches(windows.evenly(MAX_VALIDATION // windows.steps), 64):
            n = float(segment.valid.sum())
            total, moving = total + n * float(magnitude_loss(self.model, segment.to(self.device))), moving + n
        return total / max(moving, 1.0)

    def describe(self) -> dict[str, Any]:
        config = self.model.config.model_dump(mode="json")
        return {"kind": "magnitudes", "config": config, "dim": len(self.model.data_loc)}
