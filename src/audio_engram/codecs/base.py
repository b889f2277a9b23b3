"""What a codec is, and how one is found by its name.

A codec is a frozen encoder and decoder. Everything downstream knows it by the attributes and methods of
`Codec` alone, so another representation is another codec and never another pipeline.
"""

import hashlib
import importlib
import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audio_engram.codecs.foreign import CodecError, check_attributes, check_tensor, class_name, foreign_code
from audio_engram.codecs.precision import full_float32
from audio_engram.config import CodecConfig, Option
from audio_engram.errors import MissingError, UsageError

BUILT_IN = {
    "mel": "audio_engram.codecs.mel:MelCodec",
    "lyra": "audio_engram.codecs.lyra:LyraCodec",
    "mimi": "audio_engram.codecs.mimi:MimiCodec",
    "encodec": "audio_engram.codecs.encodec:EncodecCodec",
    "encodec_48khz": "audio_engram.codecs.encodec:Encodec48Codec",
    "pocket": "audio_engram.codecs.pocket:PocketCodec",
}
ENTRY_POINT_GROUP = "audio_engram.codecs"


class Codec(nn.Module, ABC):
    """A frozen encoder and decoder between audio and a sequence of continuous latents.

    A subclass sets the attributes and writes `analyse` and `decode`. `options` holds every argument that
    changes the latents and is no weight; `revision` is raised when new code gives other latents.
    """

    name: str
    sample_rate: int
    """[Hz]"""
    frame_rate: float
    """Latents per second [Hz]; `sample_rate / frame_rate` is a whole number."""
    latent_dim: int
    causal: bool = True
    """No latent depends on audio after its own frame."""
    stochastic: bool = False
    taps: tuple[str, ...] = ("latent",)
    tap: str = "latent"
    playable: bool = True
    """`decode` accepts the latents of this tap."""
    revision: int = 1
    frames_per_latent: int = 1
    """So many consecutive frames of one kind stand side by side in a latent, oldest first."""
    decoded_every: int = 1
    """`decode` listens to every so-manieth latent; more than 1 where latents overlap."""
    offers: Mapping[float, int] = {}
    """D at each frame rate [Hz] that the constructor offers; empty where `frame_rate` and `latent_dim` say it all."""
    extra: str = ""
    """The optional extra of this package (`extras.EXTRAS`) that it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.options: dict[str, Option] = {}

    @property
    def hop(self) -> int:
        """Samples per latent frame."""
        hop = round(self.sample_rate / self.frame_rate)
        if hop < 1 or abs(hop * self.frame_rate - self.sample_rate) > 1e-6 * self.sample_rate:
            raise UsageError(
                f"codec {self.name}: {self.sample_rate} Hz audio has no whole number of samples in a frame at"
                f" {self.frame_rate:g} Hz; choose a frame rate that divides the sample rate"
            )
        return hop

    def n_frames(self, samples: int) -> int:
        """Return how many whole frames that many samples hold: the length law N = T // hop."""
        return samples // self.hop

    def encode(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of the whole frames of `audio`; a trailing partial frame is dropped.

        Raises:
            CodecError: a user's `analyse` fails, or returns no latents.
        """
        n_frames = self.n_frames(audio.shape[-1])
        if n_frames == 0:
            return audio.new_zeros(audio.shape[0], 0, self.latent_dim)
        with torch.inference_mode(), full_float32(), self._foreign("analyse"):
            latents = self.analyse(audio[..., : n_frames * self.hop])
        check_tensor(self, "analyse", latents, (len(audio), None, self.latent_dim))
        return latents.clone()  # an inference tensor could not enter a loss later

    def render(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return the audio of `decode`; gradients pass.

        Raises:
            CodecError: a user's `decode` fails, or returns no audio.
        """
        with self._foreign("decode", "mend the codec, or set playable = False"):
            audio = self.decode(latents)
        check_tensor(self, "decode", audio, (len(latents), 1, None))
        return audio

    def _foreign(self, method: str, remedy: str = "mend the codec") -> AbstractContextManager[None]:
        return foreign_code(type(self).__module__, f"codec {class_name(self)}: {method}", remedy)

    @abstractmethod
    def analyse(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B N D"]:
        """Return the latents of audio that is a whole number of frames long."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return `N * hop` samples of audio; gradients pass to the latents."""

    def description(self) -> dict[str, object]:
        """Return what, beside the weights, decides the latents."""
        kind = type(self)
        return {
            "name": self.name,
            "class": f"{kind.__module__}:{kind.__qualname__}",
            "revision": self.revision,
            "tap": self.tap,
            "frame_rate": self.frame_rate,
            "options": self.options,
        }

    @property
    def title(self) -> str:
        """What figures and tables call these latents."""
        tap = "" if self.tap == self.taps[0] else f" {self.tap}"
        return " · ".join([f"{self.name}{tap} {self.frame_rate:g} Hz", *self.treatments()])

    def treatments(self) -> list[str]:
        """What was done to the latents after encoding, as the title says it."""
        return []

    def fingerprint(self) -> str:
        """Return a hash of description and weights; latents of two fingerprints are never mixed."""
        digest = hashlib.blake2b(json.dumps(self.description(), sort_keys=True).encode(), digest_size=16)
        for key, tensor in sorted(self.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def list_codecs() -> dict[str, str]:
    """Return the known codec names with their `package.module:Class`; our own names cannot be taken."""
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    return installed | BUILT_IN


def load_codec(config: CodecConfig) -> Codec:
    """Return the frozen codec that `config` names, without what is derived from it (see `derived`).

    Raises:
        UsageError: unknown name, tap or option, an option that this codec does not use, or a half-written class.
        MissingError: the codec's package or its weights are not there.
    """
    kind = find_class(config.name)
    arguments = _arguments(kind, config)
    where = f"codec {kind.__module__}:{kind.__qualname__}"
    with foreign_code(kind.__module__, f"{where}: __init__"):
        codec = kind(**arguments)
    check_attributes(codec)
    codec.options = codec.options or dict(config.options)
    with foreign_code(kind.__module__, f"{where}: hop"):
        _ = codec.hop
    return codec.eval().requires_grad_(False)


def near_miss(word: str, known: list[str]) -> str:
    """Return the end of an error message: the likeliest meant words, or all there are."""
    close = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"


def find_class(name: str) -> type[Codec]:
    """The class of a codec that is known by name or written `package.module:Class`.

    Raises:
        UsageError: no such codec, or a class that is none.
        MissingError: its module cannot be imported.
    """
    known = list_codecs()
    target = known.get(name, name)
    module_name, colon, class_name = target.partition(":")
    if not (module_name and colon and class_name) or module_name.startswith("."):
        raise UsageError(
            f"codec.name: there is no codec {name!r}; {near_miss(name, sorted(known))}"
            " (a class of yours is written package.module:Class)"
        )
    module = _import(module_name, name)
    kind = getattr(module, class_name, None)
    if kind is None:
        raise UsageError(f"codec.name: {module_name} has no {class_name}; {near_miss(class_name, _codecs_in(module))}")
    if not (inspect.isclass(kind) and issubclass(kind, Codec)):
        raise UsageError(f"codec.name: {target} is no subclass of audio_engram.codecs.base.Codec")
    if unwritten := sorted(kind.__abstractmethods__):
        raise CodecError(f"codec {target}: does not define {' and '.join(unwritten)}: write what is missing")
    return kind


def _codecs_in(module: ModuleType) -> list[str]:
    """The classes of a module that can be named as codecs."""
    classes = {key: value for key, value in vars(module).items() if inspect.isclass(value)}
    return sorted(key for key, kind in classes.items() if issubclass(kind, Codec) and not inspect.isabstract(kind))


def _import(module: str, codec: str) -> ModuleType:
    with foreign_code(module, f"codec {codec}: importing {module}"):
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise MissingError(
                f"codec.name: cannot import {module} for codec {codec!r} ({error}); install it or set PYTHONPATH"
            ) from error


def _arguments(kind: type[Codec], config: CodecConfig) -> dict[str, Option]:
    """Match what is set with the constructor's parameters, so that nothing is ever ignored."""
    accepted = dict(inspect.signature(kind).parameters)
    given = _given(config)
    _refuse_unused(config, accepted, given)
    if config.tap and config.tap not in kind.taps:
        raise UsageError(
            f"codec.tap: codec {config.name!r} has no tap {config.tap!r}; {near_miss(config.tap, list(kind.taps))}"
        )
    if config.tap and "tap" in accepted:
        given["tap"] = config.tap
    for key, parameter in accepted.items():
        named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if named and parameter.default is parameter.empty and key not in given:
            if key == "weights":
                raise MissingError(
                    f"codec.weights: the weights of codec {config.name!r} do not come with this package:"
                    " --set codec.weights=FILE says where they are"
                )
            raise UsageError(f"{_where(key)}: codec {config.name!r} needs it; set it in the configuration")
    return given


def _given(config: CodecConfig) -> dict[str, Option]:
    for key in config.options:
        if key in CodecConfig.model_fields:
            raise UsageError(f"codec.options.{key}: write it as codec.{key}")
    settings: dict[str, Option] = {"weights": config.weights, "frame_rate": config.frame_rate}
    return {key: value for key, value in settings.items() if value} | config.options


def _refuse_unused(config: CodecConfig, accepted: dict[str, inspect.Parameter], given: dict[str, Option]) -> None:
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        return
    for key in given:
        if key not in accepted:
            raise UsageError(
                f"{_where(key)}: codec {config.name!r} does not use it; {near_miss(key, sorted(accepted))}"
            )


def _where(key: str) -> str:
    return f"codec.{key}" if key in CodecConfig.model_fields else f"codec.options.{key}"
