"""Denoising score matching (Vincent 2011): the denoiser learns to undo noise of many sizes.

Every epoch draws from a generator of its own and the learning rate is a function of the step, so that a training that
was killed goes on to the same bytes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, cos, pi
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram import checkpoint
from audio_engram.checkpoint import prefixed
from audio_engram.data.windows import Segment, Windows
from audio_engram.errors import NumericalError, UsageError
from audio_engram.score.denoiser import Denoiser, ScoreConfig, describe
from audio_engram.seeds import generator_for

SAVE_EVERY = 15.0  # seconds; when it is saved does not change what is computed
MAX_VALIDATION = 8192
GOLDEN = 0.6180339887
STANDARDISATION = ("data_loc", "data_scale")


@dataclass
class DenoisingHistory:
    """Losses per epoch, the best epoch, and whether training has ended."""

    epochs: list[dict[str, int | float]] = field(default_factory=list)
    best: float = float("inf")
    best_epoch: int = -1
    finished: bool = False


def fit_denoiser(
    model: Denoiser,
    windows: tuple[Windows, Windows],
    config: ScoreConfig,
    seed: int,
    path: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> DenoisingHistory:
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
    fitting = _Fitting(model, config, seed)
    if path is not None and path.exists():
        fitting.restore(path)
    saved = time.monotonic()
    while not fitting.over():
        fitting.epoch(*windows)
        progress(fitting.line())
        if path is not None and (fitting.over() or time.monotonic() - saved > SAVE_EVERY):
            fitting.save(path)
            saved = time.monotonic()
    fitting.finish(path)
    return fitting.history


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
    sigma = model.config.levels(u).to(device)
    estimate = model(torch.addcmul(clean, sigma.unsqueeze(1), noise.to(device)), sigma, context)
    _, c_out, _ = model.preconditioning(sigma.unsqueeze(1))
    return ((estimate - clean).square().sum(1) / c_out.square().sum(1)).mean()


class _Fitting:
    """Denoiser, optimizer and history, which are saved and restored together."""

    def __init__(self, model: Denoiser, config: ScoreConfig, seed: int) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.history = DenoisingHistory()
        self.best = self._weights()

    def over(self) -> bool:
        return self.history.finished or len(self.history.epochs) >= self.config.epochs

    def epoch(self, train: Windows, validation: Windows) -> None:
        """Every training frame once, each with a noise level and noise of its own; then one validation."""
        number, h = len(self.history.epochs), self.history
        generator = generator_for(self.seed, "epoch", number)
        order = torch.randperm(len(train), generator=generator)
        n_batches = ceil(len(order) / self.config.batch_size)
        self.model.train()
        losses = []
        for batch, segment in enumerate(train.batches(order, self.config.batch_size, reuse=True)):
            self._set_learning_rate((number + batch / n_batches) / self.config.epochs)
            losses.append(self._step(segment, generator))
        self.model.eval()
        held_out = validate(self.model, validation, self.seed)
        h.epochs.append({"epoch": number + 1, "train": float(torch.stack(losses).mean()), "validation": held_out})
        if held_out < h.best:
            h.best, h.best_epoch, self.best = held_out, number + 1, self._weights()

    def _set_learning_rate(self, done: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 + cos(pi * done)) / 2

    def _step(self, segment: Segment, generator: torch.Generator) -> Tensor:
        loss = _loss(self.model, segment, torch.rand(len(segment.context), generator=generator), generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise NumericalError(
                f"denoiser: loss {loss.item():.3g}, gradient norm {norm.item():.3g}: lower score.learning_rate"
            )
        self.optimizer.step()
        return loss.detach()

    def line(self) -> str:
        last = self.history.epochs[-1]
        losses = f"train {last['train']:.3f} validation {last['validation']:.3f}"
        return f"epoch {last['epoch']}/{self.config.epochs} {losses}"

    def finish(self, path: Path | None) -> None:
        """Take the best weights; the file then holds them alone."""
        self.model.load_state_dict(self.best)
        self.model.eval()
        if not self.history.finished:
            self.history.finished = True
            if path is not None:
                self.save(path)

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _note(self) -> dict[str, object]:
        config = self.config.model_dump(mode="json")
        return {"history": vars(self.history), "score": config, "seed": self.seed, "model": describe(self.model)}

    def save(self, path: Path) -> None:
        """The best weights, and until the end what is needed to go on."""
        parts = {"best": self.best}
        if not self.history.finished:
            parts["model"] = self.model.state_dict()
            parts["optimizer"] = checkpoint.optimizer_tensors(self.optimizer)
        tensors = {f"{part}.{k}": v for part, some in parts.items() for k, v in some.items()}
        checkpoint.save(path, tensors, self._note())

    def restore(self, path: Path) -> None:
        """Go on from a saved state."""
        tensors, note = checkpoint.load(path)
        mine = self._note()
        if any(note.get(key) != mine[key] for key in ("score", "seed", "model")):
            raise UsageError(f"checkpoint {path}: of another configuration: use --overwrite or another --out")
        best = prefixed(tensors, "best.")
        if any(k in best and not torch.equal(best[k], self.best[k].cpu()) for k in STANDARDISATION):
            raise UsageError(f"checkpoint {path}: of other latents: use --overwrite or another --out")
        try:
            self._take(tensors, DenoisingHistory(**note["history"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            # Ours once, but a part is gone or has another shape.
            raise checkpoint.damaged(path, str(error).splitlines()[-1].strip()) from None

    def _take(self, tensors: dict[str, Tensor], history: DenoisingHistory) -> None:
        self.history, self.best = history, prefixed(tensors, "best.")
        self.model.load_state_dict(self.best)
        if history.finished:
            return
        self.model.load_state_dict(prefixed(tensors, "model."))
        checkpoint.restore_optimizer(self.optimizer, prefixed(tensors, "optimizer."))
