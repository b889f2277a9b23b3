"""A discriminator of rolled-out against true stretches, as a further loss of unrolled training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from audio_engram import checkpoint
from audio_engram.checkpoint import prefixed
from audio_engram.data.windows import Segment
from audio_engram.errors import NumericalError
from audio_engram.seeds import generator_for

LEARNING_RATE = 2e-4
BETAS = (0.0, 0.9)  # no momentum: the other side moves as well (Gulrajani et al. 2017)


class Discriminator(nn.Module):
    """A score of S latents and their increments, high for true ones; each layer's spectral norm is 1 (Miyato 2018)."""

    def __init__(self, dim: int, steps: int, width: int, seed: int) -> None:
        super().__init__()
        generator = generator_for(seed, "discriminator")
        sizes = [(2 * dim * steps, width), (width, width), (width, 1)]
        # Layers and the norm's power iteration draw from the global stream, which is fixed here and left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            first, second, last = (_layer(n_in, n_out, generator) for n_in, n_out in sizes)
        self.layers = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), last)

    def forward(self, previous: Float[Tensor, "B D"], latents: Float[Tensor, "B S D"]) -> Float[Tensor, " B"]:
        """One score for each stretch; `previous` is the frame before it."""
        deltas = torch.diff(latents, dim=1, prepend=previous.unsqueeze(1))
        return self.layers(torch.cat([latents, deltas], dim=2).flatten(1)).squeeze(1)


def _layer(n_in: int, n_out: int, generator: torch.Generator) -> nn.Module:
    linear = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(linear.weight, generator=generator)
    nn.init.zeros_(linear.bias)
    return spectral_norm(linear)


class Adversary:
    """The discriminator with its optimizer; both sides' hinge losses (Lim and Ye 2017)."""

    def __init__(self, dim: int, steps: int, width: int, seed: int, device: torch.device) -> None:
        self.discriminator = Discriminator(dim, steps, width, seed).to(device)
        self.optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self.told_apart: list[Tensor] = []
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, segment: Segment, latents: Float[Tensor, "B S D"]) -> Float[Tensor, ""]:
        """What the model loses by being told apart; the stretches are kept for the discriminator's own step."""
        previous = segment.context[:, -1]
        self._seen = previous, segment.future, latents.detach()
        return -self.discriminator(previous, latents).mean()

    def step(self) -> None:
        """One step of the discriminator on the stretches that were last seen.

        Raises:
            NumericalError: its loss is not finite.
        """
        assert self._seen is not None, "nothing was judged yet"
        previous, true, rolled = self._seen
        real, fake = self.discriminator(previous, true), self.discriminator(previous, rolled)
        loss = (1 - real).relu().mean() + (1 + fake).relu().mean()
        if not loss.isfinite():
            raise NumericalError("training: the discriminator's loss is not finite: lower train.learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.told_apart.append(((real > fake).double().mean()).detach())

    def accuracy(self) -> float:
        """How often a true stretch scored above the one rolled out from its context, since last asked: 0.5 is best."""
        value = float(torch.stack(self.told_apart).mean()) if self.told_apart else float("nan")
        self.told_apart = []
        return value

    def tensors(self) -> dict[str, Tensor]:
        """All that a resumed training needs."""
        weights = {f"weights.{k}": v for k, v in self.discriminator.state_dict().items()}
        return weights | {f"moments.{k}": v for k, v in checkpoint.optimizer_tensors(self.optimizer).items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`."""
        self.discriminator.load_state_dict(prefixed(tensors, "weights."))
        checkpoint.restore_optimizer(self.optimizer, prefixed(tensors, "moments."))
