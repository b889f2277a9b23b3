"""EnCodec (Defossez et al. 2022, arXiv:2210.13438) through transformers; the latents are those before the quantiser."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.hub import Checkpoint, HubCodec
from audio_engram.config import Option
from audio_engram.errors import UsageError

SMALL = {"num_filters": 4, "hidden_size": 16, "num_lstm_layers": 1, "codebook_size": 32}
CHUNK_SECONDS = 1.0
# Added to the level of a chunk, as the published model adds it: silence has a finite logarithm.
QUIETEST = 1e-8
# Of the logarithm of a level: 26 dB over full scale. A diverged rollout must not overflow the exponential.
CEILING = 3.0


class EncodecCodec(HubCodec):
    """128-dimensional latents at 75 Hz of 24 kHz audio.

    At the start of an utterance the published encoder pads by reflection: latents 0 to 2 would see up to 80 ms of
    their future. `lead_in` frames of silence before the audio, dropped again, take that away; with `lead_in` = 0
    the latents are `model.encoder(audio)` to the bit and the codec declares itself not causal.
    """

    name = "encodec"
    sample_rate = 24000
    frame_rate = 75.0
    latent_dim = 128
    taps = ("pre_q",)
    tap = "pre_q"
    checkpoint = Checkpoint(
        model="EncodecModel",
        config="EncodecConfig",
        model_type="encodec",
        repository="facebook/encodec_24khz",
        revision="c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
        facts={
            "sampling_rate": 24000,
            "hop_length": 320,
            "audio_channels": 1,
            "use_causal_conv": True,
            "normalize": False,
            "chunk_length_s": None,
        },
        small=SMALL,
    )

    def __init__(
        self, weights: str = "", lead_in: Option = 8, revision: str = "", random_seed: Option | None = None
    ) -> None:
        if not isinstance(lead_in, int) or not (lead_in == 0 or 3 <= lead_in <= 750):
            raise UsageError(f"codec.options.lead_in: 0 or 3 to 750 frames of silence, not {lead_in!r}")
        super().__init__(weights, revision, random_seed)
        self.latent_dim = self.model.config.hidden_size
        self.lead_in = int(lead_in)
        self.causal = self.lead_in > 0
        self.options["lead_in"] = self.lead_in

    def decode_codes(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B 1 T"]:
        """Return the audio of the codes of all codebooks."""
        return self.model.decoder(_quantised(self.model, self.analyse(audio).transpose(1, 2)))

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of audio that is a whole number of frames long."""
        padded = F.pad(audio, (self.lead_in * self.hop, 0)) if self.lead_in else audio
        return self.model.encoder(padded)[..., self.lead_in :].transpose(1, 2)

    def _audio(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        return self.model.decoder(latents.transpose(1, 2))


class Encodec48Codec(HubCodec):
    """129-dimensional latents at 150 Hz of 48 kHz stereo audio, each second of it by itself; not causal.

    The published model divides every second by its level and normalises inside its layers over that second, so a
    latent sees all of it: up to 993 ms of its future. The last dimension is the natural logarithm of the level,
    without which loudness could not come back. Mono audio is given to both channels; decoded audio is their mean.
    """

    name = "encodec_48khz"
    sample_rate = 48000
    frame_rate = 150.0
    latent_dim = 129
    causal = False
    taps = ("pre_q",)
    tap = "pre_q"
    checkpoint = Checkpoint(
        model="EncodecModel",
        config="EncodecConfig",
        model_type="encodec",
        repository="facebook/encodec_48khz",
        revision="c3def8e7185ac8c8efdce6eb8c4a651e487a503e",
        facts={
            "sampling_rate": 48000,
            "hop_length": 320,
            "audio_channels": 2,
            "use_causal_conv": False,
            "normalize": True,
            "chunk_length_s": CHUNK_SECONDS,
        },
        small=SMALL
        | {
            "sampling_rate": 48000,
            "audio_channels": 2,
            "normalize": True,
            "chunk_length_s": CHUNK_SECONDS,
            "overlap": 0.01,
            "norm_type": "time_group_norm",
            "use_causal_conv": False,
            "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
        },
    )

    def __init__(self, weights: str = "", revision: str = "", random_seed: Option | None = None) -> None:
        super().__init__(weights, revision, random_seed)
        self.latent_dim = self.model.config.hidden_size + 1

    @property
    def chunk(self) -> int:
        """Latents in a second that is encoded by itself."""
        return round(CHUNK_SECONDS * self.frame_rate)

    def decode_codes(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B 1 T"]:
        """Return the audio of the codes of all codebooks, with every second's level."""
        latents = self.analyse(audio)
        quantised = _quantised(self.model, latents[..., :-1].transpose(1, 2)).transpose(1, 2)
        return self._audio(torch.cat([quantised, latents[..., -1:]], -1))

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of audio that is a whole number of frames long."""
        # Seconds first: a batch of them is one call, whatever the length of the audio.
        seconds = [self._encode(x) for x in _seconds(audio.transpose(1, 2), self.chunk * self.hop)]
        return torch.cat([x.reshape(audio.shape[0], -1, self.latent_dim) for x in seconds], 1)

    def _audio(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        seconds = [self._decode(x) for x in _seconds(latents, self.chunk)]
        return torch.cat([x.reshape(latents.shape[0], 1, -1) for x in seconds], 2)

    def _encode(self, audio: Float[Tensor, "K T 1"]) -> Float[Tensor, "K N D"]:
        level = audio.square().mean(1, keepdim=True).sqrt() + QUIETEST
        latents = self.model.encoder((audio / level).transpose(1, 2).expand(-1, 2, -1)).transpose(1, 2)
        return torch.cat([latents, level.log().expand(-1, latents.shape[1], 1)], -1)

    def _decode(self, latents: Float[Tensor, "K N D"]) -> Float[Tensor, "K 1 T"]:
        level = latents[..., -1].mean(1).clamp(max=CEILING).exp()
        return self.model.decoder(latents[..., :-1].transpose(1, 2)).mean(1, keepdim=True) * level[:, None, None]


def _quantised(model: Any, latents: Float[Tensor, "B D N"]) -> Float[Tensor, "B D N"]:
    return model.quantizer.decode(model.quantizer.encode(latents, model.config.target_bandwidths[-1]))


def _seconds(rows: Float[Tensor, "B T C"], length: int) -> list[Float[Tensor, "..."]]:
    """Return the whole chunks of that length along the second axis as one batch, and what is left as another."""
    whole = rows.shape[1] // length * length
    parts = rows[:, :whole].reshape(-1, length, rows.shape[2]), rows[:, whole:]
    return [part for part in parts if part.shape[0] and part.shape[1]]
