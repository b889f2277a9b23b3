"""The one training loop: teacher forcing at any lag, or unrolled on the model's own states.

Every epoch draws from a generator of its own, so that a resumed training continues the same random streams.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.adversary import Adversary
from audio_engram.checkpoint import prefixed
from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.windows import Segment, Windows
from audio_engram.dynamics.heads import Start
from audio_engram.dynamics.model import DynamicsModel, training_precision
from audio_engram.errors import NumericalError, UsageError
from audio_engram.losses import noisy, sampling_mask, teacher_forced_loss, unrolled_loss
from audio_engram.seeds import generator_for

SAVE_EVERY = 15.0  # seconds; when it is saved does not change what is computed
MAX_VALIDATION = 8192
FACTOR = 0.5
STANDARDISATION = ("data_loc", "data_scale")

Progress = Callable[[str], None]


@dataclass
class History:
    """Losses per epoch, and where training stands: best epoch, epochs without gain, current learning rate."""

    epochs: list[dict[str, int | float]] = field(default_factory=list)
    best: float = float("inf")
    best_epoch: int = -1
    waited: int = 0
    learning_rate: float = 0.0
    finished: bool = False


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
        NumericalError: if the loss is not finite.
    """
    if config.adversary and config.unroll == 1:
        raise UsageError("train.adversary: judges rollouts: set train.unroll above 1")
    if config.step == "sample" and config.checkpoint_steps:
        raise UsageError("train.checkpoint_steps: would draw every sample twice, differently: use one or the other")
    if config.unroll > 1 and windows[0].steps != config.unroll:
        raise UsageError(f"unroll {config.unroll}: the windows have {windows[0].steps} steps: cut them alike")
    if config.context_noise and config.clean_frames >= windows[0].context:
        raise UsageError(
            f"train.clean_frames = {config.clean_frames}: leaves no frame of {windows[0].context} for "
            "train.context_noise: use fewer"
        )
    training = _Training(model, config, seed)
    if path is not None and path.exists():
        training.restore(path)
    saved = time.monotonic()
    while not training.over():
        training.epoch(*windows)
        progress(training.line())
        if path is not None and (training.over() or time.monotonic() - saved > SAVE_EVERY):
            training.save(path)
            saved = time.monotonic()
    training.keep_best()
    if path is not None and not training.history.finished:
        training.history.finished = True
        training.save_model(path)
    return training.history


class _Training:
    """Model, optimizer and history, which are saved and restored together."""

    def __init__(self, model: DynamicsModel, config: TrainConfig, seed: int) -> None:
        self.model, self.config, self.seed = model, config, seed
        self.device = next(model.parameters()).device
        model.precision = training_precision(config.precision, self.device)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.95),
            fused=True,
        )
        self.adversary = self._adversary()
        self.history = History(learning_rate=config.learning_rate)
        self.best = self._weights()

    def _adversary(self) -> Adversary | None:
        if not self.config.adversary:
            return None
        dim, width = len(self.model.data_loc), self.model.config.width
        return Adversary(dim, self.config.unroll, width, self.seed, next(self.model.parameters()).device)

    def over(self) -> bool:
        h, c = self.history, self.config
        return h.finished or len(h.epochs) >= c.epochs or h.waited >= c.patience

    def epoch(self, train: Windows, validation: Windows) -> None:
        """One pass, one validation, and a smaller learning rate where validation did not gain."""
        number = len(self.history.epochs)
        generator = generator_for(self.seed, "epoch", number)
        loss = self._pass(train, generator, number)
        held_out = validate(self.model, validation, self.config)
        h = self.history
        h.epochs.append({"epoch": number + 1, "train": loss, "validation": held_out})
        if self.adversary is not None:
            h.epochs[-1]["told_apart"] = self.adversary.accuracy()
        if held_out < h.best:
            h.best, h.best_epoch, h.waited = held_out, number + 1, 0
            self.best = self._weights()
        else:
            h.waited += 1
            h.learning_rate *= FACTOR
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.history.learning_rate

    def _pass(self, train: Windows, generator: torch.Generator, number: int) -> float:
        self.model.train()
        # Dropout draws from the global stream, which therefore is fixed too, without touching the caller's.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            losses = [
                self._step(segment, generator, number) for segment in _epoch_batches(train, self.config, generator)
            ]
        self.model.eval()
        return float(torch.stack(losses).mean())

    def _step(self, segment: Segment, generator: torch.Generator, number: int) -> Tensor:
        segment = segment.to(self.device)
        loss = _loss(self.model, segment, self.config, number / self.config.epochs, generator, self.adversary)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        if not (loss.isfinite() and norm.isfinite()):
            raise NumericalError(
                f"training: loss {loss.item():.3g}, gradient norm {norm.item():.3g} in epoch {number + 1}: "
                "lower train.learning_rate"
            )
        self.optimizer.step()
        if self.adversary is not None:
            self.adversary.step()
        return loss.detach()

    def line(self) -> str:
        last = self.history.epochs[-1]
        return (
            f"epoch {last['epoch']}/{self.config.epochs} train {last['train']:.3f} validation {last['validation']:.3f}"
        )

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def keep_best(self) -> None:
        self.model.load_state_dict(self.best)
        self.model.eval()

    def save(self, path: Path) -> None:
        """Everything needed to go on."""
        tensors = {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in checkpoint.optimizer_tensors(self.optimizer).items()}
        if self.adversary is not None:
            tensors |= {f"adversary.{k}": v for k, v in self.adversary.tensors().items()}
        checkpoint.save(path, tensors, self._note())

    def save_model(self, path: Path) -> None:
        """The best weights alone."""
        checkpoint.save(path, {f"best.{k}": v for k, v in self.best.items()}, self._note())

    def _note(self) -> dict[str, object]:
        return {
            "history": vars(self.history),
            "train": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "model": describe(self.model),
        }

    def restore(self, path: Path) -> None:
        """Go on from a saved state."""
        tensors, note = checkpoint.load(path)
        mine = self._note()
        if any(note.get(key) != mine[key] for key in ("train", "seed", "model")):
            raise UsageError(f"checkpoint {path}: of another configuration: use --overwrite or another --out")
        best = prefixed(tensors, "best.")
        if any(k in best and not torch.equal(best[k], getattr(self.model, k).cpu()) for k in STANDARDISATION):
            # Derived latents differ in their last bits where another number of threads adds them up.
            raise UsageError(
                f"checkpoint {path}: of other latents: use --overwrite or another --out, or go on with as many threads "
                f"as before ({torch.get_num_threads()} here, see OMP_NUM_THREADS)"
            )
        try:
            self._take(tensors, best, History(**note["history"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            # Ours once, but a part is gone or has another shape.
            reason = str(error).splitlines()[-1].strip()
            raise checkpoint.damaged(path, reason) from None

    def _take(self, tensors: dict[str, Tensor], best: dict[str, Tensor], history: History) -> None:
        self.model.load_state_dict(best)
        self.history, self.best = history, best
        if history.finished:
            return
        self.model.load_state_dict(prefixed(tensors, "model."))
        checkpoint.restore_optimizer(self.optimizer, prefixed(tensors, "optimizer."))
        self._set_learning_rate()
        if self.adversary is not None:
            self.adversary.restore(prefixed(tensors, "adversary."))


def describe(model: DynamicsModel) -> dict[str, object]:
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
        DataError: if the file is damaged.
    """
    tensors, note = checkpoint.load(path)
    known = note["model"]
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
    device = next(model.parameters()).device
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
