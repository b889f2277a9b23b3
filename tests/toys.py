"""Small frames, models and oracles that the tests of the core share."""

import torch
from torch import Tensor, nn

from audio_engram.config import ModelConfig, TrainConfig
from audio_engram.data.frames import SPLITS, Frames, _moving
from audio_engram.data.processes import AR
from audio_engram.data.windows import Segment, Windows
from audio_engram.distributions import DiagonalGaussian
from audio_engram.dynamics.baselines import fit_baseline
from audio_engram.dynamics.heads import Start, measure_start
from audio_engram.dynamics.model import DynamicsModel, make_model

SMALL = ModelConfig(context=3, width=16, depth=2, components=3)


def make_frames(utterances: list[Tensor], splits: list[str], speakers: list[int] | None = None) -> Frames:
    """Frames that stand as they are (loc 0, scale 1); each utterance has a speaker of its own unless told."""
    lengths = torch.tensor([len(u) for u in utterances])
    z = torch.cat(utterances)
    names = speakers or list(range(len(utterances)))
    split = torch.tensor([SPLITS.index(s) for s in splits]).repeat_interleave(lengths)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    return Frames(
        z=z,
        loc=torch.zeros(z.shape[1]),
        scale=torch.ones(z.shape[1]),
        offsets=offsets,
        speaker=torch.tensor(names).repeat_interleave(lengths),
        split=split,
        moving=_moving(z.float(), offsets, split == SPLITS.index("train")),
        speakers=tuple(f"s{i}" for i in range(max(names) + 1)),
        utterances=tuple(f"u{i}" for i in range(len(utterances))),
    )


def make_start(dim: int, seed: int = 0) -> Start:
    """An AR(1) start that is not the same in every dimension."""
    generator = torch.Generator().manual_seed(seed)
    return Start(
        last=-0.3 - 0.2 * torch.rand(dim, generator=generator),
        scale=0.5 + 0.5 * torch.rand(dim, generator=generator),
        concentration=5.0,
        log_magnitude=0.4,
        log_spread=0.3,
    )


def small_model(kind: str, dim: int, config: ModelConfig = SMALL, n_features: int = 0) -> DynamicsModel:
    """A model whose outputs are far from their start, so that nothing cancels; float64, in eval mode."""
    model = make_model(kind, config, make_start(dim), seed=1, n_features=n_features).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        weight = model.head.linear.weight
        weight.add_(0.2 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return model


def walk(n: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random walk in which the first coordinate is the number of the frame."""
    z = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).cumsum(0)
    z[:, 0] = torch.arange(n)
    return z.to(dtype)


class Oracle(DynamicsModel):
    """Reads the frame's number off the context of a `walk` and knows the increment `ahead` frames later."""

    def __init__(self, z: Tensor, ahead: int, scale: float = 0.1) -> None:
        nn.Module.__init__(self)
        self.deltas, self.ahead, self.scale = z[1:] - z[:-1], ahead, scale
        self.n_features = 0
        self.free = nn.Parameter(torch.zeros((), dtype=z.dtype))

    def forward(self, context: Tensor, utterance: Tensor | None = None) -> DiagonalGaussian:
        at = context[:, -1, 0].round().long() + self.ahead - 1
        loc = self.deltas[at.clamp(0, len(self.deltas) - 1)] + self.free
        return DiagonalGaussian(loc, torch.full_like(loc, self.scale))


def best_log_prob(dim: int, scale: float = 0.1) -> float:
    """The oracle's log-density at its own mean."""
    return float(DiagonalGaussian(torch.zeros(dim), torch.full((dim,), scale)).log_prob(torch.zeros(dim)))


def same_segment(a: Segment, b: Segment) -> bool:
    """Bit-equal in every field."""
    names = ("context", "future", "previous", "delta", "valid", "speaker", "utterance")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


def ar_frames(n_speakers: int = 12, n: int = 80, dim: int = 4) -> Frames:
    """A small rotating autoregression; of each four speakers two are for training."""
    world = AR()
    world.dim, world.frames = dim, n
    z = [world.utterance(torch.Generator().manual_seed(i), i) for i in range(n_speakers)]
    order = ("train", "validation", "train", "test")
    return make_frames(z, [order[i % 4] for i in range(n_speakers)])


def training_toy(kind: str, train: TrainConfig, dropout: float = 0.0) -> tuple[DynamicsModel, tuple[Windows, Windows]]:
    """An untrained model and the windows that suit the configuration; the same in every call."""
    frames = ar_frames()
    windows = tuple(Windows(frames, split, SMALL.context, train.unroll) for split in ("train", "validation"))
    start = measure_start(windows[0], fit_baseline("ar1", windows[0]))
    config = SMALL.model_copy(update={"dropout": dropout})
    return make_model(kind, config, start, seed=0), (windows[0], windows[1])
