"""What a dynamics model is trained on: teacher forcing at any lag, or unrolled on its own states."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.adversary import Adversary
from audio_engram.checkpoint import prefixed
from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.windows import Segment, Windows
from audio_engram.device import device_of
from audio_engram.dynamics.heads import HEADS, Start
from audio_engram.dynamics.magnitudes import MagnitudeModel
from audio_engram.dynamics.model import DynamicsModel, training_precision
from audio_engram.errors import NumericalError, UsageError
from audio_engram.losses import noisy, sampling_mask, teacher_forced_loss, unrolled_loss
from audio_engram.training_loop import History, Progress, Training

MAX_VALIDATION = 8192
FACTOR = 0.5


def fit(
    model: DynamicsModel,
    windows: tuple[Windows, Windows],
    config: TrainConfig,
    seed: int,
    path: Path | None = None,
    progress: Progress = lambda line: None,
) -> History:
    """Train in place on (training, validation) windows; keep the weights that were best on validation speakers.

    Lag k is `windows.steps = k` with `config.unroll = 1`; unrolling over K steps is `windows.steps = unroll = K`.
    With a `path`, progress is saved there and a training that was killed goes on from it.

    Raises:
        UsageError: if the windows do not have the steps that `config.unroll` asks for, or settings exclude one another.
        NumericalError: if the loss on true contexts is not finite. On own states such batches are left out, and most
            of an epoch end the training: see `History`.
    """
    _check(windows[0], config)
    return _Training(model, config, seed).run(windows, path, progress)


def _check(windows: Windows, config: TrainConfig) -> None:
    if config.adversary and config.unroll == 1:
        raise UsageError("train.adversary: judges rollouts: set train.unroll above 1")
    if config.step == "sample" and config.checkpoint_steps:
        raise UsageError("train.checkpoint_steps: would draw every sample twice, differently: use one or the other")
    check_estimator(config)
    if config.unroll > 1 and windows.steps != config.unroll:
        raise UsageError(f"unroll {config.unroll}: the windows have {windows.steps} steps: cut them alike")
    if config.context_noise and config.clean_frames >= windows.context:
        raise UsageError(
            f"train.clean_frames = {config.clean_frames}: leaves no frame of {windows.context} for "
            "train.context_noise: use fewer"
        )


def check_estimator(config: TrainConfig) -> None:
    """Raises: UsageError for an estimator that would leave a part of the gradient out."""
    drawn = config.unroll > 1 and config.step == "sample"
    if drawn and config.estimator == "reinforce" and (config.state_weight or config.adversary):
        raise UsageError(
            "train.estimator = reinforce: knows nothing of train.state_weight and train.adversary, which depend on the "
            "components drawn as well: set both to 0, or use another estimator"
        )


class PatientTraining(Training):
    """Halves the learning rate after every epoch without gain, and stops after some of them."""

    section = "train"
    model: DynamicsModel | MagnitudeModel
    config: TrainConfig

    def __init__(self, model: DynamicsModel | MagnitudeModel, config: TrainConfig, seed: int) -> None:
        super().__init__(model, config, seed, betas=(0.9, 0.95))
        self.device = device_of(model)
        model.precision = training_precision(config.precision, self.device)

    def over(self) -> bool:
        return super().over() or self.history.waited >= self.config.patience

    def epoch(self, train: Windows, validation: Windows) -> None:
        super().epoch(train, validation)
        if self.history.waited:
            self.history.learning_rate *= FACTOR
            self.set_learning_rate(self.history.learning_rate)


class _Training(PatientTraining):
    """A dynamics model on its batches, with a discriminator if one is asked for."""

    model: DynamicsModel

    def __init__(self, model: DynamicsModel, config: TrainConfig, seed: int) -> None:
        super().__init__(model, config, seed)
        self.adversary = self._adversary()
        # One rollout of many that leaves the finite numbers would end a training that can learn not to.
        self.leaves_out = config.unroll > 1

    def _adversary(self) -> Adversary | None:
        if not self.config.adversary:
            return None
        dim, width = len(self.model.data_loc), self.model.config.width
        return Adversary(dim, self.config.unroll, width, self.seed, self.device)

    def epoch(self, train: Windows, validation: Windows) -> None:
        super().epoch(train, validation)
        if self.adversary is not None:
            self.history.epochs[-1]["told_apart"] = self.adversary.accuracy()

    def step(self, segment: Segment, generator: torch.Generator) -> Tensor:
        loss = super().step(segment, generator)
        if self.adversary is not None and loss.isfinite():
            self.adversary.step()
        return loss

    def batches(self, train: Windows, generator: torch.Generator) -> Iterator[Segment]:
        return _epoch_batches(train, self.config, generator)

    def loss(self, segment: Segment, generator: torch.Generator) -> Tensor:
        progress = len(self.history.epochs) / self.config.epochs
        return _loss(self.model, segment.to(self.device), self.config, progress, generator, self.adversary)

    def validate(self, windows: Windows) -> float:
        return validate(self.model, windows, self.config)

    def describe(self) -> dict[str, Any]:
        return describe(self.model)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return super().parts() | ({} if self.adversary is None else {"adversary": self.adversary.tensors()})

    def take_parts(self, tensors: dict[str, Tensor]) -> None:
        super().take_parts(tensors)
        if self.adversary is not None:
            self.adversary.restore(prefixed(tensors, "adversary."))


def describe(model: DynamicsModel) -> dict[str, Any]:
    """What must be known beside the weights to build the model again."""
    return {
        "kind": model.kind,
        "config": model.config.model_dump(mode="json"),
        "dim": len(model.data_loc),
        "n_features": model.n_features,
    }


def load_model(path: Path) -> DynamicsModel:
    """The model of a checkpoint, ready to predict; it knows the standardisation of its latents.

    Raises:
        UsageError: if the file holds another kind of model. DataError: if it is damaged.
    """
    tensors, note = checkpoint.load(path)
    known = note.get("model", {})
    if known.get("kind") not in HEADS:
        held = known.get("kind", "no model")
        raise UsageError(f"checkpoint {path}: holds no dynamics model but {held}: give another file")
    blank = Start(torch.zeros(known["dim"]), torch.ones(known["dim"]), 1.0, 0.0, 1.0)
    model = DynamicsModel(known["kind"], ModelConfig(**known["config"]), blank, known["n_features"])
    model.load_state_dict(prefixed(tensors, "best."))
    return model.eval()


@torch.no_grad()
def validate(model: DynamicsModel, windows: Windows, config: TrainConfig) -> float:
    """Mean loss on validation speakers: the training objective without dropout and without forcing."""
    index = windows.evenly(MAX_VALIDATION // config.unroll)
    index = index[windows.frames.moving[windows.target[index]]]
    if len(index) == 0:
        raise NumericalError("validation split: nothing but digital silence: use more speakers")
    device = device_of(model)
    generator = torch.Generator()
    total = 0.0
    for segment in windows.batches(index, 1024):
        loss = _loss(model, segment.to(device), config, 1.0, generator)
        total += float(loss) * len(segment.context)
    return total / len(index)


def _loss(
    model: DynamicsModel,
    segment: Segment,
    config: TrainConfig,
    progress: float,
    generator: torch.Generator,
    adversary: Adversary | None = None,
) -> Tensor:
    if config.context_noise and model.training:
        segment = noisy(segment, config, generator)
    if config.unroll == 1:
        return teacher_forced_loss(model, segment)
    mask = sampling_mask(segment, config, progress, generator)
    return unrolled_loss(model, segment, config, mask, generator, adversary)


def _epoch_batches(windows: Windows, config: TrainConfig, generator: torch.Generator) -> Iterator[Segment]:
    """Shuffled segments; with unrolling 1 / K of them, because each trains K steps."""
    index = windows.with_valid_target()
    if len(index) == 0:
        raise NumericalError("training split: nothing but digital silence: use more speech")
    order = index[torch.randperm(len(index), generator=generator)]
    n = max(len(order) // config.unroll, min(len(order), config.batch_size))
    return windows.batches(order[:n], config.batch_size, reuse=True)
