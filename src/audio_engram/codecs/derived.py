"""What the configuration asks to be made of a codec's latents, in this order: (un)stack, smooth, PCA."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from audio_engram import checkpoint
from audio_engram.codecs.base import Codec
from audio_engram.codecs.pca import Projected, check_components
from audio_engram.codecs.projected import Stacked, Unstacked, apply, wrappers
from audio_engram.codecs.smoothed import Hybrid, Smoothed
from audio_engram.codecs.smoother import LearnedSmoother, fit_smoother
from audio_engram.config import ENCODING, CodecConfig
from audio_engram.data.publish import make_folder
from audio_engram.device import device_of
from audio_engram.errors import DataError, UsageError

SHORT = 32  # frames

Training = Callable[[], list[Tensor]]
"""The base codec's latents of every training utterance."""


def check_derived(base: Codec, config: CodecConfig) -> None:
    """Refuse what cannot be derived from these latents, before anything is encoded.

    Raises:
        UsageError: naming the setting.
    """
    inner = with_rate(base, config)
    check_components(inner, config.pca)
    if config.hybrid and config.smooth == 1:
        raise UsageError("codec.hybrid: it takes directions from a smoothed trajectory: set codec.smooth to 3 or more")
    if config.smoother:
        LearnedSmoother(inner, config.smoother)


@torch.no_grad()
def check_decoder(base: Codec) -> None:
    """Decode something short, for what listens does so only after all training.

    Raises:
        CodecError: a user's `decode` fails.
    """
    if base.playable:
        base.render(torch.zeros(1, SHORT, base.latent_dim, device=device_of(base)))


def derive_codec(base: Codec, config: CodecConfig, training: Training, kept: Path, seed: int) -> Codec:
    """The codec of these latents around `base`; what is fitted sees training speakers only.

    A learned smoother is kept in the folder `kept` and found again there.
    """
    codec = with_rate(base, config)
    if config.smooth > 1:
        codec = (Hybrid if config.hybrid else Smoothed)(codec, config.smooth)
    if config.smoother:
        codec = _smoother(codec, config.smoother, training, kept, seed)
    if config.pca or config.whiten:
        chain = wrappers(codec)
        codec = Projected(codec, (apply(chain, one) for one in training()), config.pca, config.whiten)
    return codec.to(device_of(base)).eval().requires_grad_(False)


def with_rate(base: Codec, config: CodecConfig) -> Codec:
    """The codec at the frame rate that `stack` or `unstack` makes of its own."""
    codec = Stacked(base, config.stack) if config.stack > 1 else base
    return Unstacked(codec, config.unstack) if config.unstack > 1 else codec


def _smoother(inner: Codec, worth: float, training: Training, kept: Path, seed: int) -> Codec:
    smoother = LearnedSmoother(inner, worth).to(device_of(inner))
    file = kept / "smoother.safetensors"
    chain = wrappers(inner)
    utterances = [apply(chain, one) for one in training()]
    if file.exists():
        return _kept(smoother, file, utterances)
    fit_smoother(smoother, utterances, seed)
    own = {key: value for key, value in smoother.state_dict().items() if not key.startswith("inner.")}
    make_folder(kept)
    checkpoint.save(file, own, {})
    return smoother


def _kept(smoother: LearnedSmoother, file: Path, utterances: list[Tensor]) -> Codec:
    """A smoother that an earlier run has trained on these very latents.

    Raises:
        DataError: the file is damaged, or of other latents.
    """
    remedy = f"delete {file} and go on with --resume"
    tensors, _ = checkpoint.load(file)
    try:
        lacking = smoother.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise checkpoint.damaged(file, str(error).splitlines()[-1].strip()) from error
    if lacking.unexpected_keys or any(not key.startswith("inner.") for key in lacking.missing_keys):
        raise DataError(f"{file}: is no learned smoother of this codec: {remedy}")
    if not smoother.stands_for(utterances):
        raise DataError(f"{file}: was trained on other latents: {remedy}")
    return smoother


def base_config(codec: CodecConfig) -> CodecConfig:
    """The settings of the codec alone, without what is derived from its latents."""
    return CodecConfig(**{name: getattr(codec, name) for name in ENCODING})


def folder_name(codec: CodecConfig) -> str:
    """A short name of its own for every codec configuration."""
    said = codec.model_dump(exclude_defaults=True, exclude={"name", "weights", "options"})
    words = [codec.name, *(key if value is True else f"{key}{value}" for key, value in said.items())]
    digest = hashlib.sha256(codec.model_dump_json().encode()).hexdigest()[:6]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([*words, digest]))
