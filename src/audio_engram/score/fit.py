"""Denoising score matching (Vincent 2011): the denoiser learns to undo noise of many sizes."""

from collections.abc import Iterator
from math import ceil, cos, pi
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.checkpoint import prefixed
from audio_engram.data.windows import Segment, Windows
from audio_engram.errors import UsageError
from audio_engram.score.denoiser import Denoiser, describe, levels
from audio_engram.sections import ScoreConfig
from audio_engram.seeds import generator_for
from audio_engram.training_loop import History, Progress, Training

MAX_VALIDATION = 8192
GOLDEN = 0.6180339887


def fit_denoiser(
    model: Denoiser,
    windows: tuple[Windows, Windows],
    config: ScoreConfig,
    seed: int,
    path: Path | None = None,
    progress: Progress = lambda line: None,
) -> History:
    """Train in place on (training, validation) windows of one step; keep the weights best on validation speakers.

    The frame to be denoised is the one after the context, which is what a rollout hands to its corrector. Digital
    silence is trained on too: it is a place where states are, though no increment has a density there.
    With a `path`, progress is saved there and a training that was killed goes on from it.

    Raises:
        UsageError: for windows of more steps, or a checkpoint of another configuration or of other latents.
        DataError: if the checkpoint is damaged.
        NumericalError: if the loss is not finite.
    """
    if any(one.steps != 1 for one in windows):
        raise UsageError("denoiser: a corrector stands one step after its context: cut windows of 1 step")
    return _Fitting(model, config, seed).run(windows, path, progress)


def load_denoiser(path: Path) -> Denoiser:
    """The denoiser of a checkpoint, ready to use; it knows the standardisation of its latents.

    Raises:
        UsageError: if the file holds another kind of model. DataError: if it is damaged.
    """
    tensors, note = checkpoint.load(path)
    known = note.get("model", {})
    if known.get("kind") != "denoiser":
        raise UsageError(f"checkpoint {path}: holds no denoiser but {known.get('kind', 'no model')}: give another file")
    model = Denoiser(ScoreConfig(**known["config"]), known["dim"], known["context"])
    model.load_state_dict(prefixed(tensors, "best."))
    return model.eval()


@torch.no_grad()
def validate(model: Denoiser, windows: Windows, seed: int) -> float:
    """Mean loss on validation speakers, with the same levels and noise in every call."""
    index = windows.evenly(MAX_VALIDATION)
    generator = generator_for(seed, "validation")
    total = 0.0
    for segment in windows.batches(index, 1024):
        # Neighbours in time get levels far apart.
        u = torch.arange(len(segment.context)) * GOLDEN % 1
        total += float(_loss(model, segment, u, generator)) * len(segment.context)
    return total / len(index)


def _loss(model: Denoiser, segment: Segment, u: Float[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, ""]:
    """Squared error relative to that of the best linear denoiser at the same level: 1 before training.

    For one sigma_data in all directions this is the weight of Karras et al. (2022), eq. 8.
    """
    # Drawn on the CPU, so that every device is trained on the same noise.
    noise = torch.randn(segment.future[:, 0].shape, generator=generator)
    device = model.data_loc.device
    context, clean = segment.context.to(device), segment.future[:, 0].to(device)
    sigma = levels(model.config, u).to(device)
    estimate = model(torch.addcmul(clean, sigma.unsqueeze(1), noise.to(device)), sigma, context)
    _, c_out, _ = model.preconditioning(sigma.unsqueeze(1))
    return ((estimate - clean).square().sum(1) / c_out.square().sum(1)).mean()


class _Fitting(Training):
    """The learning rate falls as one cosine over all epochs; all of them are trained."""

    section = "score"
    model: Denoiser
    config: ScoreConfig

    def batches(self, train: Windows, generator: torch.Generator) -> Iterator[Segment]:
        """Every training frame once."""
        order = torch.randperm(len(train), generator=generator)
        n_batches = ceil(len(order) / self.config.batch_size)
        for batch, segment in enumerate(train.batches(order, self.config.batch_size, reuse=True)):
            done = (len(self.history.epochs) + batch / n_batches) / self.config.epochs
            self.set_learning_rate(self.config.learning_rate * (1 + cos(pi * done)) / 2)
            yield segment

    def loss(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Each frame with a noise level and noise of its own."""
        return _loss(self.model, segment, torch.rand(len(segment.context), generator=generator), generator)

    def validate(self, windows: Windows) -> float:
        return validate(self.model, windows, self.seed)

    def describe(self) -> dict[str, Any]:
        return describe(self.model)
