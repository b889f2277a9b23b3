"""All magnitudes of a trajectory at once, from its directions and from what the context says of the utterance."""

from math import exp, log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.config import ModelConfig
from audio_engram.data.frames import SILENCE
from audio_engram.data.windows import Segment
from audio_engram.distributions import Magnitude
from audio_engram.dynamics.directions import directions
from audio_engram.dynamics.heads import Start, magnitude_law
from audio_engram.seeds import generator_for

KERNEL = 5
LEAST = -5.0  # spreads of log m below its mean: digital silence is not infinitely far from speech


class MagnitudeModel(nn.Module):
    """`model(context, ahead)` is the law of the magnitude of every one of the steps that follow the context.

    Convolutions over the directions of context and future, looking both ways, each layer twice as far as the one
    before. Of the utterance only the context is known: the mean of its frames (who speaks, how loud), mean and spread
    of its log magnitudes (how fast). `config.width` is this network's own.
    """

    data_loc: Tensor
    data_scale: Tensor
    centre: Tensor

    def __init__(self, config: ModelConfig, start: Start) -> None:
        super().__init__()
        self.config, self.precision = config, torch.float32
        dim, width = len(start.last), config.width
        self.embed = nn.Linear(dim + 1, width)
        self.describe = nn.Linear(dim + 2, width, bias=False)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding="same", dilation=2**place) for place in range(config.depth)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(width, 3 * config.magnitude_components)
        self.register_buffer("centre", torch.tensor([start.log_magnitude, log(start.log_spread)]))
        self.register_buffer("data_loc", torch.zeros(dim) if start.data_loc is None else start.data_loc.clone())
        self.register_buffer("data_scale", torch.ones(dim) if start.data_scale is None else start.data_scale.clone())

    def forward(self, context: Float[Tensor, "B W D"], ahead: Float[Tensor, "B S D"]) -> Magnitude:
        """The law of each of S magnitudes, given all of their directions `ahead`; shorter increments have none."""
        known = self.directions(context)
        enabled = self.precision != torch.float32 and self.training
        with torch.autocast(context.device.type, torch.bfloat16, enabled=enabled):
            raw = self._network(torch.cat([known, ahead], dim=1), self.features(context))
        return magnitude_law(raw.float()[:, known.shape[1] :], self.centre)

    def directions(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B N1 D"]:
        """The unit vectors of increments; zeros where there is digital silence."""
        return directions(latents, least=SILENCE * exp(float(self.centre[0])))

    def features(self, context: Float[Tensor, "B W D"]) -> Float[Tensor, "B F"]:
        """The mean frame, and mean and deviation of log m, in training spreads about the training mean."""
        length = torch.linalg.vector_norm(context.diff(dim=1), dim=2).clamp(min=1e-30)
        known = ((length.log() - self.centre[0]) / self.centre[1].exp()).clamp(min=LEAST)
        return torch.cat(
            [context.mean(1), known.mean(1, keepdim=True), known.std(1, correction=0, keepdim=True)], dim=1
        )

    def _network(self, u: Float[Tensor, "B N D"], features: Float[Tensor, "B F"]) -> Float[Tensor, "B N M"]:
        # How sharply the path turns is a product of two directions, which no sum of linear layers forms.
        turn = nn.functional.pad((u[:, 1:] * u[:, :-1]).sum(2, keepdim=True), (0, 0, 1, 0))
        x = self.embed(torch.cat([u, turn], dim=2)) + self.describe(features).unsqueeze(1)
        for layer in self.layers:
            x = x + self.dropout(nn.functional.gelu(layer(nn.functional.gelu(x).mT).mT))
        return self.linear(x)

    def initialise(self, seed: int) -> None:
        """Normal weights of variance 1 / inputs, a tenth of that deviation at the end, no biases."""
        generator = generator_for(seed, "initialise")
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                shrink = 0.1 if module is self.linear else 1.0
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=shrink * fan_in**-0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def magnitude_loss(model: MagnitudeModel, segment: Segment) -> Float[Tensor, ""]:
    """-log p of the true magnitudes given all true directions, in nats per frame that moves."""
    delta, valid = segment.delta, segment.valid
    length = torch.linalg.vector_norm(delta, dim=2)
    ahead = torch.where(valid.unsqueeze(2), nn.functional.normalize(delta, dim=2, eps=1e-12), 0.0)
    # What does not move has no law; replaced first, because the gradient of its logarithm is not finite.
    log_prob = model(segment.context, ahead).log_prob(torch.where(valid, length, 1.0))
    return -torch.where(valid, log_prob, 0.0).sum() / valid.sum().clamp(min=1)
