"""The making and training of a run's models: each on first use, then kept in `checkpoints/`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.clustering import SphericalKMeans
from audio_engram.config import Config, ModelConfig, TrainConfig
from audio_engram.data.frames import Frames
from audio_engram.data.publish import make_folder
from audio_engram.data.windows import Windows
from audio_engram.device import find_device
from audio_engram.distributions import Residuals
from audio_engram.dynamics.anchor import MOST, drawn
from audio_engram.dynamics.baselines import Baseline, BaselineName
from audio_engram.dynamics.drawn_residuals import DrawnResiduals, store_residuals
from audio_engram.dynamics.heads import measure_start
from audio_engram.dynamics.memory import matched_width
from audio_engram.dynamics.model import DynamicsModel, make_model
from audio_engram.dynamics.prototypes import check_size, load_prototypes, with_prototypes
from audio_engram.regimes import REGIMES, ROLES, Regime, memory_regime
from audio_engram.seeds import generator_for, seed_for
from audio_engram.train import fit
from audio_engram.training_loop import History

Log = Callable[[str], None]
PROTOTYPES = "prototypes"
NO_ROLE = {"direction": "none", "concentration": False, "magnitude": False, "placebo": "none"}


class Models(ABC):
    """Models trained on the windows that a run has; `histories` holds what every training went through, by its name."""

    folder: Path
    config: Config
    log: Log
    histories: dict[str, History]

    @abstractmethod
    def frames(self, data: str = "real") -> Frames:
        """The frames, or one of their surrogates."""

    @abstractmethod
    def windows(self, split: str, steps: int, data: str = "real") -> Windows:
        """Segments of a split."""

    @abstractmethod
    def baseline(self, name: BaselineName, lag: int = 1, data: str = "real") -> Baseline:
        """A trivial baseline, fitted on the training split."""

    @abstractmethod
    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` makes, made once per run and key."""

    @cached_property
    def device(self) -> torch.device:
        """Where models live."""
        return find_device(self.config.device)

    def model(self, kind: str, lag: int = 1, data: str = "real", utterance: bool = False) -> DynamicsModel:
        """A model trained by teacher forcing at a lag; trained on first use, then kept in `checkpoints/`."""
        name = f"{kind}{'_utterance' if utterance else ''}-lag{lag}" + ("" if data == "real" else f"-{data}")

        def make() -> DynamicsModel:
            model = self._new_model(kind, lag, data, utterance)
            return self._fit(name, model, (lag, data), self.config.train)

        return self.once(("model", name), make)

    def unrolled_model(self, kind: str, unroll: int) -> DynamicsModel:
        """The lag-1 model trained further, over `unroll` steps on its own states."""

        def make() -> DynamicsModel:
            # Cut first: audio too short for this many steps must not show after the hours of the lag-1 model.
            for split in ("train", "validation"):
                self.windows(split, unroll)
            model = self._new_model(kind, 1, "real", False)
            model.load_state_dict(self.model(kind).state_dict())
            train = self._unrolled(self.config.train, unroll)
            return self._fit(f"{kind}-unroll{unroll}", model, (unroll, "real"), train)

        return self.once(("model", kind, unroll), make)

    def drawing(self, regime: Regime) -> DynamicsModel | DrawnResiduals:
        """The model of a regime as rollouts draw from it: by its own density, or from stored residuals."""
        if not regime.bandwidth:
            return self.trained(regime)
        control = self.trained(REGIMES[regime.control])

        def make() -> Residuals:
            return store_residuals(control, self.windows("train", 1), seed_for(self.config.seed, "residuals"))

        residuals = self.once(("residuals", regime.control), make)
        return DrawnResiduals(control, residuals, regime.bandwidth, regime.share).eval()

    def trained(self, regime: Regime) -> DynamicsModel:
        """The model of a training regime, at lag 1."""
        regime = self.training_of(regime)

        def make() -> DynamicsModel:
            model = self._new_model(regime.head, 1, "real", regime.utterance, self._changed(regime))
            train = self.config.train.model_copy(update=regime.train)
            if regime.start:
                model.load_state_dict(self.trained(REGIMES[regime.start]).state_dict())
                train = self._unrolled(train, train.unroll)
            return self._fit(f"regime-{regime.name}", model, (train.unroll, "real"), train, regime.stream)

        if not (regime.model or regime.train or regime.memory or regime.utterance):
            return self.model(regime.head)
        return self.once(("regime", regime.name), make)

    def training_of(self, regime: Regime) -> Regime:
        """The regime whose training is this one's too: layers in a memory's place know no role, and of those as wide
        the first role's is trained."""
        layers = [memory_regime(role, "matched") for role in ROLES]
        if regime not in layers:
            return regime
        return next(one for one in layers if self._width(one) == self._width(regime))

    def _width(self, regime: Regime) -> int:
        return matched_width(self.config.model.model_copy(update=self._changed(regime)), self.frames().dim)

    def kept_archetypes(self, count: int) -> Path | None:
        """Where this run has kept so many archetypes, if it has."""
        kept = self.folder / PROTOTYPES / f"k{count}.safetensors"
        return kept if kept.exists() else None

    def prototypes(self, count: int) -> Float[Tensor, "K D"]:
        """The directions that a memory of so many starts from: the archetypes this run has kept, or clusters made now.

        Raises:
            UsageError: for more than the training split has increments.
        """

        def make() -> Tensor:
            if kept := self.kept_archetypes(count):
                self.log(f"memory: starts from {kept}")
                return load_prototypes(kept, self.frames().scale)
            self.log(f"memory: starts from {count} clusters of training increments")
            return _clustered(self.windows("train", 1), count, self.config.seed)

        return self.once(("prototypes", count), make)

    def _changed(self, regime: Regime) -> dict[str, Any]:
        """What the regime changes of the model; of a memory the sizes stay as configured."""
        if not regime.memory:
            return regime.model
        return regime.model | {"memory": self.config.model.memory.model_copy(update=NO_ROLE | regime.memory)}

    def _unrolled(self, train: TrainConfig, unroll: int) -> TrainConfig:
        """Settings of a training that goes on from a teacher-forced model."""
        settings = self.config.experiments
        changed = {
            "unroll": unroll,
            "epochs": settings.unroll_epochs,
            "batch_size": settings.unroll_batch_size,
            "learning_rate": train.learning_rate / 2,
        }
        return train.model_copy(update=changed)

    def _new_model(
        self, kind: str, lag: int, data: str, utterance: bool, changed: Mapping[str, Any] | None = None
    ) -> DynamicsModel:
        config = self.config.model.model_copy(update=dict(changed or {}))
        ar1 = self.baseline("ar1", lag, data)
        windows = self.windows("train", lag, data)
        directions = self.prototypes(config.memory.prototypes) if _starts_from_prototypes(kind, config) else None
        start = with_prototypes(measure_start(windows, ar1, config.covariance), config, windows, directions)
        n_features = self.frames().dim + 1 if utterance else 0
        # Not the data: real and surrogate start from the same weights, so that less than luck divides them.
        seed = seed_for(self.config.seed, kind, lag)
        return make_model(kind, config, start, seed, n_features).to(self.device)

    def _fit(
        self, name: str, model: DynamicsModel, cut: tuple[int, str], train: TrainConfig, stream: str = ""
    ) -> DynamicsModel:
        steps, data = cut
        windows = self.windows("train", steps, data), self.windows("validation", steps, data)
        folder = self.folder / "checkpoints"
        make_folder(folder)
        history = fit(
            model,
            windows,
            train,
            seed_for(self.config.seed, "train", stream or name),
            folder / f"{name}.safetensors",
            lambda line: self.log(f"train {name}: {line}"),
        )
        self.histories[name] = history
        return model.eval()


def _starts_from_prototypes(kind: str, config: ModelConfig) -> bool:
    memory = config.memory
    return kind == "vmf" and memory.direction != "none" and memory.placebo not in ("random", "matched")


def _clustered(windows: Windows, count: int, seed: int) -> Float[Tensor, "K D"]:
    index = windows.with_valid_target()
    check_size(count, len(index), "model.memory.prototypes")
    some = index[drawn(len(index), max(MOST, count), seed)]
    means = SphericalKMeans(count, generator=generator_for(seed, "memory", "directions"), n_init=1)
    return means.fit(windows.increments(some)).cluster_centers_
