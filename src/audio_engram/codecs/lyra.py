"""Lyra v2 (google/lyra, Apache-2.0): SoundStream (Zeghidour et al. 2021) from float weights in an .npz file.

Only the encoder and decoder networks are used; the latents are taken before the quantiser.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.codecs.base import Codec
from audio_engram.errors import DataError, MissingError

DILATIONS = (1, 3, 9)


class CausalConv(nn.Conv1d):
    """Convolution whose output n ends at input sample (n + 1) * stride."""

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C2 T2"]:
        """Pad on the left only."""
        left = (self.kernel_size[0] - 1) * self.dilation[0] + 1 - self.stride[0]
        return super().forward(F.pad(x, (left, 0)))


class CausalUpsampling(nn.ConvTranspose1d):
    """Transposed convolution whose output ends with its input."""

    def forward(self, x: Float[Tensor, "B C T"], output_size: list[int] | None = None) -> Float[Tensor, "B C2 T2"]:
        """Cut what the kernel draws beyond `T * stride`."""
        return super().forward(x)[..., : x.shape[-1] * self.stride[0]]


class LyraCodec(Codec):
    """64-dimensional latents at 50 Hz of 16 kHz speech; causal, no look-ahead."""

    name = "lyra"
    sample_rate = 16000
    frame_rate = 50.0
    latent_dim = 64
    taps = ("pre_q",)
    tap = "pre_q"

    def __init__(self, weights: str) -> None:
        super().__init__()
        with torch.device("meta"):
            self.encoder = nn.ModuleList(_encoder_layers())
            self.decoder = nn.ModuleList(_decoder_layers())
        path = Path(weights)
        self.load_state_dict(_read_weights(path, self.state_dict()), assign=True)
        self.requires_grad_(False)
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def description(self) -> dict[str, object]:
        """Return what decides the latents, the weights file's hash among it."""
        return super().description() | {"weights_sha256": self.weights_sha256}

    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the encoder's output."""
        layers = iter(self.encoder)
        x = next(layers)(audio)
        for _ in range(3):
            x = _block(x, layers)
            x = next(layers)(_act(x))
        return next(layers)(_act(x)).transpose(1, 2)

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return the decoder's output for latents that need not have been quantised."""
        if latents.shape[1] == 0:
            return latents.new_zeros(latents.shape[0], 1, 0)
        layers = iter(self.decoder)
        x = _act(next(layers)(latents.transpose(1, 2)))
        for branches in (4, 2, 1):
            parts = x.chunk(branches, dim=1)
            x = torch.cat([layer(part) for layer, part in zip(islice(layers, branches), parts, strict=True)], 1)
            x = _act(_block(x, layers))
        return next(layers)(x)


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a weights file must hold, in graph order."""
    with torch.device("meta"):
        sides = {"encoder": _encoder_layers(), "decoder": _decoder_layers()}
    return {
        f"{side}.{i}.{kind}": tuple(getattr(layer, kind).shape)
        for side, layers in sides.items()
        for i, layer in enumerate(layers)
        for kind in ("weight", "bias")
    }


def _encoder_layers() -> list[nn.Module]:
    return [
        CausalConv(1, 64, 64, stride=16),
        *_block_layers(64),
        CausalConv(64, 128, 10, stride=5),
        *_block_layers(128),
        CausalConv(128, 256, 4, stride=2, groups=2),
        *_block_layers(256),
        CausalConv(256, 512, 4, stride=2, groups=4),
        CausalConv(512, 64, 3, groups=4),
    ]


def _decoder_layers() -> list[nn.Module]:
    return [
        CausalConv(64, 512, 3, groups=4),
        *(CausalUpsampling(128, 64, 4, stride=2) for _ in range(4)),
        *_block_layers(256),
        *(CausalUpsampling(128, 64, 4, stride=2) for _ in range(2)),
        *_block_layers(128),
        CausalUpsampling(128, 64, 10, stride=5),
        *_block_layers(64),
        CausalUpsampling(64, 1, 64, stride=16),
    ]


def _block_layers(channels: int) -> list[nn.Module]:
    return [
        layer
        for dilation in DILATIONS
        for layer in (
            CausalConv(channels, channels, 3, dilation=dilation, groups=channels),
            CausalConv(channels, channels, 1),
            CausalConv(channels, channels, 1, groups=channels // 64),
        )
    ]


def _block(x: Float[Tensor, "B C T"], layers: Iterator[nn.Module]) -> Float[Tensor, "B C T"]:
    """Three residual units; each takes its three convolutions from `layers`."""
    for _ in DILATIONS:
        depthwise, pointwise, mixing = islice(layers, 3)
        x = x + mixing(_act(pointwise(depthwise(_act(x)))))
    return x


def _act(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return F.leaky_relu(x, 0.3)


def _read_weights(path: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise MissingError(f"codec.weights: there is no file {path}; give the .npz with the Lyra v2 float weights")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or truncated; fetch the weights again")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not an .npz file of plain arrays ({error}); fetch the weights again") from error
    for key in [*wanted, *arrays]:
        problem = _problem(arrays.get(key), wanted.get(key))
        if problem:
            raise DataError(f"{path}: tensor {key} {problem}; these are not weights of Lyra v2")
    return {key: torch.from_numpy(array.astype(np.float32)) for key, array in arrays.items()}


def _problem(array: np.ndarray | bytes | None, wanted: Tensor | None) -> str:
    """Return what is wrong with one tensor of the file; empty if nothing is."""
    if array is None:
        return "is missing"
    if wanted is None:
        return "is not one of Lyra's"
    if isinstance(array, bytes):
        return "is no array"
    if array.shape != tuple(wanted.shape):
        return f"has shape {array.shape} instead of {tuple(wanted.shape)}"
    if array.dtype.kind != "f":
        return f"has type {array.dtype} instead of float32"
    return "" if np.isfinite(array).all() else "holds numbers that are not finite"
