"""A classifier of contexts: which cluster will the next increment fall into?"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audio_engram.seeds import generator_for, seed_for

WIDTH, EPOCHS, PATIENCE, BATCH, RATE, DECAY = 256, 30, 3, 512, 1e-3, 1e-2


def fit_classifier(
    train: tuple[Float[Tensor, "N F"], Int[Tensor, " N"]],
    validation: tuple[Float[Tensor, "M F"], Int[Tensor, " M"]],
    n_classes: int,
    hidden: bool,
    seed: int,
) -> nn.Module:
    """Train softmax regression, or one hidden layer, by cross-entropy; keep what was best on validation speakers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "classifier", int(hidden), n_classes))
        model = _network(train[0].shape[1], n_classes, hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    best, kept, waited = float("inf"), model.state_dict(), 0
    for epoch in range(EPOCHS):
        generator = generator_for(seed, "classifier epoch", epoch)
        for part in torch.randperm(len(train[0]), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(train[0][part]), train[1][part]).backward()
            optimizer.step()
        loss = _loss(model, validation)
        if loss < best:
            best, waited = loss, 0
            kept = {key: value.clone() for key, value in model.state_dict().items()}
        else:
            waited += 1
        if waited == PATIENCE:
            break
    model.load_state_dict(kept)
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, features: Float[Tensor, "N F"]) -> Int[Tensor, " N"]:
    """The most probable class of each row."""
    return torch.cat([model(part).argmax(1) for part in features.split(8192)])


def _network(n_features: int, n_classes: int, hidden: bool) -> nn.Module:
    if not hidden:
        return nn.Linear(n_features, n_classes)
    return nn.Sequential(nn.Linear(n_features, WIDTH), nn.GELU(), nn.Linear(WIDTH, n_classes))


@torch.no_grad()
def _loss(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    losses = [
        nn.functional.cross_entropy(model(x), y, reduction="sum").double()
        for x, y in zip(data[0].split(8192), data[1].split(8192), strict=True)
    ]
    return float(torch.stack(losses).sum()) / len(data[1])
