"""Encode utterances in length-sorted batches: the same latents as one by one, with little padding."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.device import device_of
from audio_engram.errors import UsageError


def plan_batches(lengths: Sequence[int], max_samples: int) -> list[list[int]]:
    """Indices of `lengths`, shortest first, in batches of one or of at most `max_samples` with padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= max_samples:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def encode_batch(codec: Codec, audio: Sequence[Float[Tensor, " _"]]) -> list[Float[Tensor, "_ D"]]:
    """Latents of each utterance, on the CPU; a codec's padding invariance makes them those of a batch of one.

    Raises: UsageError when the codec does not give `T // hop` frames.
    """
    frames = [codec.n_frames(len(one)) for one in audio]
    padded = torch.zeros(len(audio), 1, max(frames) * codec.hop)
    for row, (one, count) in enumerate(zip(audio, frames, strict=True)):
        # What is left after the last whole frame would otherwise be heard by a codec that looks ahead.
        padded[row, 0, : count * codec.hop] = one[: count * codec.hop]
    latents = codec.encode(padded.to(device_of(codec))).float().cpu()
    wanted = (len(audio), max(frames), codec.latent_dim)
    if latents.shape != wanted:
        raise UsageError(f"codec {codec.name} gave latents {tuple(latents.shape)}, wanted {wanted}; mend the codec")
    return [rows[:count] for rows, count in zip(latents, frames, strict=True)]


def device_kind(codec: Codec) -> str:
    """What the codec runs on, as far as it may change the last bit of a latent: `cpu`, or the model of the GPU."""
    device = device_of(codec)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
