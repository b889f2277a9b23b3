"""A learned smoother: latents with less acceleration whose sound is still the same."""

import sys

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.codecs.base import Codec
from audio_engram.codecs.probe import band_levels
from audio_engram.codecs.projected import Wrapper
from audio_engram.errors import DataError, NumericalError, UsageError

FRAMES, BATCH, STEPS, RATE = 32, 8, 200, 2e-3
HIDDEN = 256
SAID_EVERY = 50
MOST_LEFT_OUT = 0.1
TOUCH = 1e-4  # dB²


class LearnedSmoother(Wrapper):
    """Latents plus a small correction by two convolutions over three frames each.

    `fit_smoother` trains it to lose acceleration while the decoder's sound stays where it was.
    """

    mixes_frames = True
    loc: Tensor
    scale: Tensor

    def __init__(self, inner: Codec, worth: int | float) -> None:
        """`worth` is how many dB of log-spectral distance the loss of all acceleration is worth."""
        super().__init__(inner)
        if not inner.playable:
            raise UsageError(f"codec.smoother: {inner.title} cannot be decoded, so nothing tells how far to smooth it")
        self.causal = False
        self.worth = worth
        self.options = {"smoother": worth}
        dim = inner.latent_dim
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.first = nn.Conv1d(dim, HIDDEN, 3)
        self.last = nn.Conv1d(HIDDEN, dim, 3, bias=False)

    @property
    def treatment(self) -> str:
        """`learned smoother 3 dB`."""
        return f"learned smoother {self.worth:g} dB"

    def project(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N2 D2"]:
        """Return the smoothed latents; the ends repeat the first and the last frame."""
        if latents.shape[1] == 0:
            return latents
        standard = ((latents - self.loc) / self.scale).transpose(1, 2)
        hidden = F.gelu(self.first(F.pad(standard, (2, 2), mode="replicate")))
        return latents + self.scale * self.last(hidden).transpose(1, 2)

    def stands_for(self, utterances: list[Float[Tensor, "_ D"]]) -> bool:
        """Whether these are the training utterances that it was fitted on."""
        loc, scale = _moments(utterances)
        return bool(torch.equal(self.loc.cpu(), loc) and torch.equal(self.scale.cpu(), scale))

    def restore(self, latents: Float[Tensor, "B N2 D2"]) -> Float[Tensor, "B N D"]:
        """Return the latents as they are: the decoder must accept them."""
        return latents


def _moments(utterances: list[Tensor]) -> tuple[Tensor, Tensor]:
    rows = torch.cat([one for one in utterances if len(one) >= FRAMES])
    return rows.mean(0), rows.std(0).clamp(min=1e-6)


def fit_smoother(smoother: LearnedSmoother, utterances: list[Float[Tensor, "_ D"]], seed: int) -> LearnedSmoother:
    """Train on random cuts of training utterances of the inner codec; returns it frozen.

    Batches without a finite gradient are left out, up to a tenth of them.

    The loss is the log-spectral distance [dB] between the decoded raw and the decoded smoothed latents, plus
    `worth` times the mean square of their second difference relative to the raw one's.

    Raises:
        DataError: no utterance is long enough. NumericalError: more batches than that.
    """
    long = [one for one in utterances if len(one) >= FRAMES]
    if not long:
        raise DataError(f"codec.smoother: no training utterance has {FRAMES} frames: use longer audio")
    generator = torch.Generator().manual_seed(seed)
    _start(smoother, long, generator)
    with torch.enable_grad():
        _train(smoother, long, generator)
    return smoother.eval().requires_grad_(False)


def _start(smoother: LearnedSmoother, utterances: list[Tensor], generator: torch.Generator) -> None:
    """Standard statistics, and a correction of nothing."""
    loc, scale = _moments(utterances)
    smoother.loc.copy_(loc)
    smoother.scale.copy_(scale)
    bound = (3 * len(smoother.loc)) ** -0.5
    with torch.no_grad():
        for values in smoother.first.parameters():
            values.uniform_(-bound, bound, generator=generator)
        smoother.last.weight.zero_()


def _train(smoother: LearnedSmoother, utterances: list[Tensor], generator: torch.Generator) -> None:
    device = smoother.loc.device
    parameters = [p.requires_grad_(True) for p in (*smoother.first.parameters(), *smoother.last.parameters())]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    left_out = 0
    for step in range(STEPS):
        if step % SAID_EVERY == 0:
            print(f"train smoother: step {step + 1}/{STEPS}", file=sys.stderr, flush=True)
        loss = _loss(smoother, _cuts(utterances, generator).to(device))
        optimiser.zero_grad()
        loss.backward()
        # A decoder may have no gradient at a few latents, digital silence among them: their batch teaches nothing.
        if bool(loss.isfinite() & nn.utils.clip_grad_norm_(parameters, 1.0).isfinite()):
            optimiser.step()
        else:
            left_out += 1
        if left_out > MOST_LEFT_OUT * STEPS:
            raise NumericalError(
                f"codec.smoother: the decoder of {smoother.inner.title} gave no finite sound or gradient in {left_out} "
                f"of {step + 1} steps: use a decoder that can be trained through, or leave codec.smoother out"
            )
        schedule.step()


def _cuts(utterances: list[Tensor], generator: torch.Generator) -> Float[Tensor, "B N D"]:
    chosen = torch.randint(len(utterances), (BATCH,), generator=generator).tolist()
    cuts = []
    for index in chosen:
        start = int(torch.randint(len(utterances[index]) - FRAMES + 1, (1,), generator=generator))
        cuts.append(utterances[index][start : start + FRAMES])
    return torch.stack(cuts)


def _loss(smoother: LearnedSmoother, raw: Float[Tensor, "B N D"]) -> Float[Tensor, ""]:
    smooth = smoother.project(raw)
    with torch.no_grad():
        wanted = band_levels(smoother.inner.render(raw).flatten(), smoother.sample_rate)
    heard = band_levels(smoother.inner.render(smooth).flatten(), smoother.sample_rate)
    # Where nothing is changed yet, the root would have an infinite slope.
    distance = ((heard - wanted).square().mean(0) + TOUCH).sqrt().mean()
    jerk, before = ((z / smoother.scale).diff(n=2, dim=1).square().mean() for z in (smooth, raw))
    return distance + smoother.worth * jerk / before
