"""Training steps, batch gathering, the differentiable rollout and the injection diagnostic, against their GEMMs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from audio_engram.config import ModelConfig
from audio_engram.data.frames import Frames
from audio_engram.data.windows import Windows
from audio_engram.dynamics.heads import Start
from audio_engram.dynamics.model import DynamicsModel, make_model
from audio_engram.forcing import free_running, injection, teacher_forcing
from audio_engram.losses import teacher_forced_loss
from audio_engram.metrics import score_rollouts
from audio_engram.rollout import RolloutOptions, rollout
from timing import Row, ratio, row, seconds

W, D, WIDTH, K = 8, 512, 1024, 16
CONFIG = ModelConfig(context=W, width=WIDTH, dropout=0.0)


def rows() -> Iterator[Row]:
    """All rows of this file."""
    yield gathering()
    for kind, demand in (("vmf", 1.12), ("mdn", 1.15)):
        yield training_step(kind, demand)
    for kind, demand in (("vmf", 0.58), ("mdn", 0.68)):
        yield autocast_step(kind, demand)
    yield differentiable_rollout(checkpointed=False)
    yield differentiable_rollout(checkpointed=True)
    yield saved_by_checkpointing()
    yield injection_diagnostic()
    for kind in ("vmf", "mdn"):
        yield sampled_rollouts(kind)


def model_of(kind: str, dim: int = D) -> DynamicsModel:
    """A fresh model of the size that the table names."""
    start = Start(torch.zeros(dim), torch.ones(dim), 300.0, 3.0, 0.3)
    return make_model(kind, CONFIG, start, seed=0)


def windows_of(steps: int, dim: int = D, frames: int = 20_000) -> Windows:
    """White noise in memory, cut into segments."""
    z = torch.randn(frames, dim, generator=torch.Generator().manual_seed(0))
    offsets = torch.arange(0, frames + 1, 500)
    zeros = torch.zeros(frames, dtype=torch.long)
    moving = torch.ones(frames, dtype=torch.bool)
    names = tuple(str(i) for i in range(len(offsets) - 1))
    held = Frames(z, torch.zeros(dim), torch.ones(dim), offsets, zeros, zeros, moving, ("s",), names)
    return Windows(held, "train", W, steps)


class Gemms:
    """The matrix products of one pass through a model, and nothing else."""

    def __init__(self, model: DynamicsModel, batch: int, backward: bool) -> None:
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
        self.weights = [m.weight.detach() for m in linear]
        self.inputs = [torch.randn(batch, w.shape[1]) for w in self.weights]
        self.grads = [torch.randn(batch, w.shape[0]) for w in self.weights] if backward else []

    def __call__(self) -> None:
        """Forward; with `backward` the products with the weights and with the inputs too (no input gradient first)."""
        for x, w in zip(self.inputs, self.weights, strict=True):
            x @ w.T
        for place, g in enumerate(self.grads):
            g.T @ self.inputs[place]
            if place:
                g @ self.weights[place]


def gathering() -> Row:
    """Cutting a batch of 2048 segments against copying as many bytes."""
    windows = windows_of(steps=1)
    index = torch.randint(len(windows), (2048,), generator=torch.Generator().manual_seed(1))
    block = torch.randn(2048, (W + 1) * D)
    target = torch.empty_like(block)
    out = torch.empty(2048 * (W + 1), D)
    measured = ratio(lambda: windows.gather(index, out), lambda: target.copy_(block))
    return row("batch gathering / memcpy, 2048 x 9 x 512", measured, 3.5, "into one block, as training does")


def training_step(kind: str, demand: float) -> Row:
    """Loss, backward and optimizer in float32 against the step's GEMMs."""
    model = model_of(kind).train()
    step = _step(model, torch.float32)
    measured = ratio(step, Gemms(model, 2048, backward=True), rounds=4)
    return row(f"training step {kind} / its GEMMs, B 2048, 8 x 512", measured, demand)


def autocast_step(kind: str, demand: float) -> Row:
    """The same step under bfloat16 autocast against itself in float32."""
    model = model_of(kind).train()
    measured = ratio(_step(model, torch.bfloat16), _step(model, torch.float32), rounds=4)
    return row(f"training step {kind}, bf16 autocast / float32", measured, demand, "needs AVX512-BF16 or AMX")


def _step(model: DynamicsModel, precision: torch.dtype):  # type: ignore[no-untyped-def]
    windows = windows_of(steps=1)
    segment = windows.gather(torch.arange(2048))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model.precision = precision
        loss = teacher_forced_loss(model, segment)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def differentiable_rollout(checkpointed: bool) -> Row:
    """Forward and backward through K steps against the GEMMs of K steps, B 256."""
    model = model_of("vmf").train()
    context, truth = _rolled_data()
    options = RolloutOptions(checkpoint_steps=checkpointed)

    def work() -> None:
        loss = rollout(model, context, free_running(K), truth, options).log_probs
        assert loss is not None
        (-loss.mean()).backward()

    # Gradients through the states: from the second step on the first layer has an input gradient too.
    floor = Gemms(model, 256, backward=True)
    first = (floor.grads[0], floor.weights[0])

    def gemms() -> None:
        for s in range(K):
            floor()
            if s:
                first[0] @ first[1]

    name = "checkpointed " if checkpointed else ""
    demand = 1.55 if checkpointed else 1.18
    return row(f"K=16 differentiable rollout {name}/ its GEMMs, B 256", ratio(work, gemms, rounds=4), demand)


def saved_by_checkpointing() -> Row:
    """What a checkpointed rollout keeps for the backward pass, in MB."""
    model = model_of("vmf").train()
    context, truth = _rolled_data()
    kept: dict[int, int] = {}
    held = {p.untyped_storage().data_ptr() for p in model.parameters()} | {
        t.untyped_storage().data_ptr() for t in (context, truth)
    }

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = rollout(model, context, free_running(K), truth, RolloutOptions(checkpoint_steps=True))
    assert result.log_probs is not None
    return row("K=16 checkpointed rollout, B 256: saved [MB]", sum(kept.values()) / 1e6, 20.0)


def _rolled_data() -> tuple[Tensor, Tensor]:
    segment = windows_of(steps=K).gather(torch.arange(256))
    return segment.context.contiguous(), segment.future.contiguous()


def injection_diagnostic() -> Row:
    """Four modes of 256 segments, scores included, against the forward GEMMs of their steps."""
    model = model_of("mdn").eval()
    windows = windows_of(steps=K)
    index = torch.arange(256)
    masks = {"A": teacher_forcing(K), "B": injection(K, (4, 8, 12)), "C": injection(K, (1,)), "D": free_running(K)}
    floor = Gemms(model, 4 * 256, backward=False)

    def gemms() -> None:
        for _ in range(K):
            floor()

    measured = ratio(
        lambda: score_rollouts(model, windows, index, masks, torch.zeros(D)),
        gemms,
        rounds=3,
    )
    return row("injection diagnostic, 4 modes / forward GEMMs", measured, 1.2)


def sampled_rollouts(kind: str) -> Row:
    """64 rollouts of 60 s at 12.5 Hz that draw every increment: minutes, and times the forward GEMMs of their steps."""
    model, steps = model_of(kind), 750
    context = windows_of(steps=1).gather(torch.arange(64)).context.contiguous()
    floor = Gemms(model, 64, backward=False)

    def work() -> None:
        with torch.no_grad():
            drawn = RolloutOptions("sample", generator=torch.Generator().manual_seed(0))
            rollout(model, context, free_running(steps), options=drawn)

    def gemms() -> None:
        for _ in range(steps):
            floor()

    spent, least = seconds(work), seconds(gemms)
    return row(f"64 sampled rollouts of 60 s, {kind} [min]", spent / 60, 2.0, f"{spent / least:.2f} x forward GEMMs")
