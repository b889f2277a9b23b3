"""Models with a memory, and a world in which the context selects one of eight directions."""

import torch

from audio_engram.config import ModelConfig
from audio_engram.distributions import VonMisesFisher
from audio_engram.dynamics.heads import Start
from audio_engram.dynamics.model import make_model
from audio_engram.sections import MemoryConfig

D, B, K = 6, 5, 4
PLACEBOS = ("shuffled_keys", "random", "one", "matched")


def configured(**memory):
    """A small configuration with these settings of the memory."""
    small = {"prototypes": K, "key_width": 3, "direction": "blend"}
    return ModelConfig(context=3, width=16, depth=2, memory=MemoryConfig(**{**small, **memory}))


def started(prototypes=None, dim=D):
    """An AR(1) start with prototypes."""
    scale = torch.linspace(0.5, 1.0, dim)
    return Start(-0.4 * scale, scale, 5.0, 0.4, 0.3, prototypes=prototypes)


def directions(k=K, dim=D, seed=3):
    """K unit vectors."""
    rows = torch.randn(k, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def contexts(n=B, seed=0):
    return torch.randn(n, 3, D, generator=torch.Generator().manual_seed(seed))


def lively(config, seed=1):
    """A model whose outputs and memory are far from their start, in float64."""
    model = make_model("vmf", config, started(directions()), seed).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


class Selected:
    """The last frame lies by one of eight centres, and the increment points in the direction that belongs to it.

    True directions have cosine A_32(60) = 0.77 to the increments.
    """

    dim, n, concentration = 32, 8, 60.0

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.directions = directions(self.n, self.dim, seed)
        self.centres = torch.randn(self.n, self.dim, generator=self.generator)

    def draw(self, rows):
        """Contexts and increments."""
        which = torch.randint(self.n, (rows,), generator=self.generator)
        noise = torch.randn(rows, 2, self.dim, generator=self.generator)
        noise[:, 1] = self.centres[which] + 0.1 * noise[:, 1]
        kappa = torch.full((rows,), self.concentration)
        d = VonMisesFisher(self.directions[which], kappa).sample(generator=self.generator)
        return noise, d * (0.3 * torch.randn(rows, 1, generator=self.generator)).exp()


def trained(seed, steps=200, **memory):
    """Held-out nats per frame and cosine after a short training on 256 examples, alike for every variant."""
    world = Selected(seed)
    (context, delta), (held, truth) = world.draw(256), world.draw(2000)
    settings = MemoryConfig(direction="alone", prototypes=world.n, key_width=16, **memory)
    config = ModelConfig(context=2, width=32, depth=1, dropout=0.0, memory=settings)
    start = Start(torch.zeros(32), torch.ones(32), 60.0, 0.0, 0.3, prototypes=world.directions)
    model = make_model("vmf", config, start, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(256, (32,), generator=world.generator)
        loss = -model(context[batch]).log_prob(delta[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(held)
        cosine = torch.cosine_similarity(predicted.direction, truth).mean()
        return -float(predicted.log_prob(truth).mean()), float(cosine), model
