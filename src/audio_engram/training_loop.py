"""The one training loop: epochs, the weights that are best on validation speakers, progress saved and gone on with.

What is learned, from which batches and how it is validated, is said by those who derive from it. Every epoch draws from
a generator of its own, so that a training that was killed goes on to the same bytes.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from audio_engram import checkpoint
from audio_engram.checkpoint import prefixed
from audio_engram.config import TrainConfig
from audio_engram.data.windows import Segment, Windows
from audio_engram.errors import NumericalError, UsageError
from audio_engram.sections import ScoreConfig
from audio_engram.seeds import generator_for

SAVE_EVERY = 15.0  # seconds; when it is saved does not change what is computed
STANDARDISATION = ("data_loc", "data_scale")

Progress = Callable[[str], None]


@dataclass
class History:
    """Losses per epoch, and where training stands: best epoch, epochs without gain, current learning rate.

    A validation loss that is not finite is None; `left_out` counts batches that are not in the training loss. `broken`
    is a training that ended because most batches of its last epoch were left out; the best epoch was before, or is -1
    where no validation loss was finite: the model is then the one that training started from.
    """

    epochs: list[dict[str, int | float | None]] = field(default_factory=list)
    best: float = float("inf")
    best_epoch: int = -1
    waited: int = 0
    learning_rate: float = 0.0
    finished: bool = False
    broken: bool = False


class Training(ABC):
    """Model, optimizer and history, which are saved and restored together."""

    section: ClassVar[str]  # of the configuration, which checkpoints and messages name
    leaves_out = False  # whether a batch whose loss is not finite is left out and counted, and not an error

    def __init__(self, model: nn.Module, config: TrainConfig | ScoreConfig, seed: int, **optimizer: Any) -> None:
        """`optimizer` are settings of AdamW beyond those of the configuration."""
        self.model, self.config, self.seed = model, config, seed
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True, **optimizer
        )
        self.history = History(learning_rate=config.learning_rate)
        self.best = self._weights()

    @abstractmethod
    def batches(self, train: Windows, generator: torch.Generator) -> Iterator[Segment]:
        """What one epoch sees."""

    @abstractmethod
    def loss(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """What is minimised."""

    @abstractmethod
    def validate(self, windows: Windows) -> float:
        """What is compared between epochs."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What must be known beside the weights to build the model again."""

    def run(self, windows: tuple[Windows, Windows], path: Path | None, progress: Progress) -> History:
        """Train on (training, validation) windows to the end, or go on where the file at `path` stopped."""
        if path is not None and path.exists():
            self._restore(path)
        saved = time.monotonic()
        while not self.over():
            self.epoch(*windows)
            progress(self._line())
            if path is not None and (self.over() or time.monotonic() - saved > SAVE_EVERY):
                self._save(path)
                saved = time.monotonic()
        self._finish(path)
        return self.history

    def over(self) -> bool:
        """Whether the last epoch was the last."""
        return self.history.finished or self.history.broken or len(self.history.epochs) >= self.config.epochs

    def epoch(self, train: Windows, validation: Windows) -> None:
        """One pass, then one validation."""
        loss, left_out = self._pass(train)
        held_out = self.validate(validation)
        h = self.history
        known = held_out if isfinite(held_out) else None
        h.epochs.append({"epoch": len(h.epochs) + 1, "train": loss, "validation": known, **left_out})
        if held_out < h.best:
            h.best, h.best_epoch, h.waited = held_out, len(h.epochs), 0
            self.best = self._weights()
        else:
            h.waited += 1

    def set_learning_rate(self, rate: float) -> None:
        """From the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _pass(self, train: Windows) -> tuple[float | None, dict[str, int]]:
        """The mean loss, and under `left_out` how many batches are not in it, if any; most of them end the training."""
        generator = generator_for(self.seed, "epoch", len(self.history.epochs))
        self.model.train()
        # Dropout draws from the global stream, which therefore is fixed too, without touching the caller's.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            losses = [self.step(segment, generator) for segment in self.batches(train, generator)]
        self.model.eval()
        kept = [loss for loss in losses if loss.isfinite()]
        left_out = len(losses) - len(kept)
        self.history.broken = 2 * left_out > len(losses)
        mean = float(torch.stack(kept).mean()) if kept else None
        return mean, {"left_out": left_out} if left_out else {}

    def step(self, segment: Segment, generator: torch.Generator) -> Tensor:
        """Learn from one batch; from one that is left out nothing, and its loss is NaN."""
        loss = self.loss(segment, generator)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        if not (loss.isfinite() and norm.isfinite()):
            if self.leaves_out:
                return torch.full_like(loss.detach(), torch.nan)
            raise NumericalError(
                f"training: loss {loss.item():.3g}, gradient norm {norm.item():.3g} in epoch "
                f"{len(self.history.epochs) + 1}: lower {self.section}.learning_rate"
            )
        self.optimizer.step()
        return loss.detach()

    def _line(self) -> str:
        last = self.history.epochs[-1]
        said = (f"{part} {_told(last[part])}" for part in ("train", "validation"))
        left_out = f" ({last['left_out']} batches not finite, left out)" if "left_out" in last else ""
        best = self.history.best_epoch
        stays = f"epoch {best}" if best > 0 else "the model it started from"
        end = f"; ends here, {stays} stays" if self.history.broken else ""
        return f"epoch {last['epoch']}/{self.config.epochs} {' '.join(said)}{left_out}{end}"

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _finish(self, path: Path | None) -> None:
        """Take the best weights; the file then holds them alone."""
        self.model.load_state_dict(self.best)
        self.model.eval()
        if not self.history.finished:
            self.history.finished = True
            if path is not None:
                self._save(path)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """What is needed to go on, beside the best weights and the history."""
        return {"model": self.model.state_dict(), "optimizer": checkpoint.optimizer_tensors(self.optimizer)}

    def take_parts(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `parts`."""
        self.model.load_state_dict(prefixed(tensors, "model."))
        checkpoint.restore_optimizer(self.optimizer, prefixed(tensors, "optimizer."))
        self.set_learning_rate(self.history.learning_rate)

    def _save(self, path: Path) -> None:
        """The best weights, and until the end what is needed to go on."""
        parts = {"best": self.best} | ({} if self.history.finished else self.parts())
        tensors = {f"{part}.{k}": v for part, some in parts.items() for k, v in some.items()}
        checkpoint.save(path, tensors, {"history": vars(self.history), **self._note()})

    def _note(self) -> dict[str, Any]:
        return {self.section: self.config.model_dump(mode="json"), "seed": self.seed, "model": self.describe()}

    def _restore(self, path: Path) -> None:
        """Go on from a saved state."""
        tensors, note = checkpoint.load(path)
        here = dict(sorted(self._note().items(), key=lambda item: item[0] != "model"))
        if unlike := _unlike({key: note.get(key) for key in here}, here):
            raise UsageError(
                f"checkpoint {path}: of another training ({unlike}): delete it and run again with --resume, or use "
                "another --out"
            )
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
            raise checkpoint.damaged(path, str(error).splitlines()[-1].strip()) from None

    def _take(self, tensors: dict[str, Tensor], best: dict[str, Tensor], history: History) -> None:
        self.model.load_state_dict(best)
        self.history, self.best = history, best
        if not history.finished:
            self.take_parts(tensors)


def _told(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.3f}"


def _unlike(there: dict[str, Any], here: dict[str, Any], section: str = "") -> str:
    """The first thing that two notes do not have in common, as `model.kind = 'vmf' there, 'mdn' here`; or nothing."""
    for key in dict.fromkeys([*here, *there]):
        other, value = there.get(key), here.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := _unlike(other, value, f"{section}{key}."):
                return inner
        elif other != value:
            return f"{section}{key} = {other!r} there, {value!r} here"
    return ""
