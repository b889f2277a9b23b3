"""The audio tokenizer of Pocket TTS (Kyutai): Mimi's architecture with a continuous bottleneck and no quantiser."""

from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.hub import Checkpoint, HubCodec
from audio_engram.config import Option


class PocketCodec(HubCodec):
    """32-dimensional latents at 12.5 Hz of 24 kHz audio; causal. The decoder was trained on these very latents."""

    name = "pocket"
    sample_rate = 24000
    frame_rate = 12.5
    latent_dim = 32
    checkpoint = Checkpoint(
        model="PocketTTSAudioTokenizerModel",
        config="PocketTTSAudioTokenizerConfig",
        model_type="pocket_tts_audio_tokenizer",
        repository="eustlb/pocket-tts-audio-tokenizer",
        # The name is the one in transformers' own documentation; no trustworthy source for a commit was at hand.
        revision=None,
        facts={"sampling_rate": 24000, "frame_size": 1920, "use_causal_conv": True},
        small={
            "num_filters": 4,
            "hidden_size": 32,
            "upsample_groups": 32,
            "intermediate_size": 32,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            # The published model starts its transformer at 0.01: too faint for a test to see.
            "layer_scale_initial_scale": 1.0,
            "initializer_range": 0.2,
        },
    )

    def __init__(self, weights: str = "", revision: str = "", random_seed: Option | None = None) -> None:
        super().__init__(weights, revision, random_seed)
        self.latent_dim = self.model.config.latent_dim

    def decode_codes(self, audio: Float[Tensor, "B 1 T"]) -> None:
        """There are no codes."""

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of audio that is a whole number of frames long."""
        return self.model.encode(audio).latents

    def _audio(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        return self.model.decode(latents).audio_values
