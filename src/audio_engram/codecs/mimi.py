"""Mimi (Defossez et al. 2024, arXiv:2410.00037): the codec of Moshi, through transformers' `MimiModel`.

Its four taps are different spaces. Only two of them are what the decoder takes: `proj`, continuous, and `post_q`,
built from codes. In training, half of the sequences went to the decoder without quantisation (the paper's paragraph
"Quantization rate"): between the projections, which is `proj`.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.hub import Checkpoint, HubCodec
from audio_engram.config import Option
from audio_engram.errors import UsageError

FRAME = 1920
RATES = {"proj": (12.5, 50.0), "post_q": (12.5, 50.0), "pre_q": (12.5, 50.0), "pre_downsample": (25.0,)}
PLAYABLE = ("proj", "post_q")


class MimiCodec(HubCodec):
    """512-dimensional latents at 12.5 Hz of 24 kHz audio; causal.

    `proj`: the encoder's output through each quantiser branch's input and output projection, summed.
    `post_q`: the same with the first `codebooks` codebooks between the projections.
    `pre_q`: the encoder's output. `pre_downsample`: its transformer's output, at 25 Hz.
    At 50 Hz a tap is read at four offsets of 480 samples: the network itself has no tensor of that rate.
    """

    name = "mimi"
    sample_rate = 24000
    taps = ("proj", "post_q", "pre_q", "pre_downsample")
    offers = dict.fromkeys(sorted({rate for rates in RATES.values() for rate in rates}), 512)
    checkpoint = Checkpoint(
        model="MimiModel",
        config="MimiConfig",
        model_type="mimi",
        repository="kyutai/mimi",
        revision="89091b3e466eb6a9d11e537bf26b144f194978f7",
        facts={"sampling_rate": 24000, "frame_size": FRAME, "use_causal_conv": True, "audio_channels": 1},
        small={
            "num_filters": 4,
            "hidden_size": 32,
            "upsample_groups": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "codebook_size": 32,
            "codebook_dim": 16,
            "vector_quantization_hidden_dimension": 16,
            "num_quantizers": 4,
            # The published model starts its transformers at 0.01: too faint for a test to see.
            "layer_scale_initial_scale": 1.0,
            "initializer_range": 0.2,
        },
    )

    def __init__(
        self,
        weights: str = "",
        tap: str = "",
        frame_rate: int | float = 0,
        codebooks: Option = 0,
        revision: str = "",
        random_seed: Option | None = None,
    ) -> None:
        self_tap = tap or ("pre_downsample" if frame_rate == 25 else "proj")
        _check_rate(self_tap, frame_rate)
        super().__init__(weights, revision, random_seed)
        self.tap = self_tap
        self.playable = self_tap in PLAYABLE
        self.frame_rate = float(frame_rate or RATES[self_tap][0])
        self.latent_dim = self.model.config.hidden_size
        self.codebooks = self._count(codebooks)
        # At 50 Hz four neighbours hold the same sound shifted; one in four is decoded.
        self.decoded_every = 4 if self.frame_rate == 50 else 1
        if self_tap == "post_q":
            self.options["codebooks"] = self.codebooks

    def playable_taps(self) -> tuple[str, ...]:
        """The taps whose latents the decoder takes."""
        return PLAYABLE

    def decode_codes(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B 1 T"]:
        """Return the audio of the codes of all codebooks."""
        decoded = self.model.decoder(self._quantised(self.model.encoder(audio).latents, None)).audio_values
        return decoded[..., : audio.shape[-1]]

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of audio that is a whole number of frames long."""
        return self._tapped(audio) if self.decoded_every == 1 else self._interleaved(audio)

    def _audio(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        every, n_frames = self.decoded_every, latents.shape[1]
        # The last of each four ends where a frame of 12.5 Hz ends; of an incomplete four, the newest there is.
        ends = [*range(every - 1, n_frames, every), *([n_frames - 1] if n_frames % every else [])]
        chosen = latents if every == 1 else latents[:, ends]
        return self.model.decoder(chosen.transpose(1, 2)).audio_values[..., : n_frames * self.hop]

    def _tapped(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        encoder = self.model.encoder
        if self.tap == "pre_downsample":
            return encoder.encoder_transformer(encoder.encoder_seanet(audio).transpose(1, 2)).last_hidden_state
        latents = encoder(audio).latents
        if self.tap == "proj":
            latents = self._projected(latents)
        elif self.tap == "post_q":
            latents = self._quantised(latents, self.codebooks)
        return latents.transpose(1, 2)

    def _interleaved(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Latent n sees audio up to sample (n + 1) * hop, as at any rate: earlier phases hear it delayed."""
        every, samples = self.decoded_every, audio.shape[-1]
        n_frames = samples // self.hop
        length = math.ceil(n_frames / every) * FRAME
        delays = [self.hop * (every - 1 - phase) for phase in range(every)]
        phases = [self._tapped(F.pad(audio, (delay, length - samples - delay))) for delay in delays]
        return torch.stack(phases, 2).flatten(1, 2)[:, :n_frames]

    def _projected(self, latents: Float[Tensor, "B D N"]) -> Float[Tensor, "B D N"]:
        quantizer = self.model.quantizer
        semantic, acoustic = quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer
        return _branch(semantic, latents) + _branch(acoustic, latents)

    def _quantised(self, latents: Float[Tensor, "B D N"], codebooks: int | None) -> Float[Tensor, "B D N"]:
        codes = self.model.quantizer.encode(latents, codebooks)
        return self.model.quantizer.decode(codes.transpose(0, 1))

    def _count(self, codebooks: Option) -> int:
        most = self.model.config.num_quantizers
        least = self.model.config.num_semantic_quantizers
        if codebooks and self.tap != "post_q":
            raise UsageError(f"codec.options.codebooks: only the tap post_q goes through codebooks, not {self.tap}")
        if codebooks and not (isinstance(codebooks, int) and least <= codebooks <= most):
            raise UsageError(f"codec.options.codebooks: mimi has {least} to {most}, not {codebooks!r}")
        return int(codebooks or most)


def _branch(branch: Any, latents: Float[Tensor, "B D N"]) -> Float[Tensor, "B D N"]:
    return latents if branch.input_proj is None else branch.output_proj(branch.input_proj(latents))


def _check_rate(tap: str, frame_rate: int | float) -> None:
    if frame_rate and frame_rate not in RATES[tap]:
        rates = ", ".join(f"{' or '.join(f'{rate:g}' for rate in offered)} Hz at {at}" for at, offered in RATES.items())
        raise UsageError(f"codec.frame_rate: mimi's tap {tap} has no {frame_rate:g} Hz; it has {rates}")
