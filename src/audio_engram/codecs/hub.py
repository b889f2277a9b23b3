"""Models of transformers as codecs: weights from a folder or, at a pinned commit, from the Hugging Face hub.

transformers and huggingface_hub are imported where they are used, so that every other codec works without them.
"""

import json
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from audio_engram.codecs.base import Codec
from audio_engram.config import Option
from audio_engram.errors import DataError, MissingError, UsageError
from audio_engram.extras import lacking, remedy

FILES = ["config.json", "*.safetensors"]
CODEBOOKS = ("codebook.embed", "codebook.embed_sum")


@dataclass(frozen=True)
class Checkpoint:
    """A class of transformers, where its weights are published, and what the codec takes for granted of it."""

    model: str
    config: str
    model_type: str
    repository: str
    revision: str | None
    """Commit on the hub; None: the newest, which is then recorded in the codec's options."""
    facts: Mapping[str, object]
    """What the configuration of the weights must say."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the configuration of random weights: small, with the same facts."""


class HubCodec(Codec):
    """A codec around a model of transformers."""

    extra = "hub"
    checkpoint: Checkpoint
    model: Any

    def __init__(self, weights: str = "", revision: str = "", random_seed: Option | None = None) -> None:
        super().__init__()
        self.model, self.options = open_model(self.checkpoint, weights, revision, random_seed)

    def decode(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]:
        """Return audio; gradients pass to the latents.

        Raises: UsageError for a tap that the decoder cannot take.
        """
        if not self.playable:
            raise UsageError(
                f"codec.tap: latents of {self.name}'s tap {self.tap!r} cannot be decoded;"
                f" encode with a playable tap: {', '.join(self.playable_taps())}"
            )
        if latents.shape[1] == 0:
            return latents.new_zeros(latents.shape[0], 1, 0)
        return self._audio(latents)

    def playable_taps(self) -> tuple[str, ...]:
        """The taps whose latents the decoder takes."""
        return self.taps

    @abstractmethod
    def decode_codes(self, audio: Float[Tensor, "B 1 T"]) -> Float[Tensor, "B 1 T"] | None:
        """Return the audio that the model itself makes, from the codes of all its codebooks; None if it has none."""

    @abstractmethod
    def _audio(self, latents: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 T2"]: ...


def open_model(
    checkpoint: Checkpoint, weights: str, revision: str, random_seed: Option | None
) -> tuple[Any, dict[str, Option]]:
    """Return the model, and the options that tell its weights from others.

    Raises:
        UsageError: settings that exclude each other.
        MissingError: no transformers, no such folder, or nothing in the cache and no hub.
        DataError: a folder whose files are not this model's.
    """
    given = {"codec.weights": weights, "codec.options.revision": revision, "codec.options.random_seed": random_seed}
    if len(chosen := [key for key, value in given.items() if value not in ("", None)]) > 1:
        raise UsageError(f"{' and '.join(chosen)}: each names other weights; set one of them")
    _need_transformers(checkpoint)
    if random_seed is not None:
        return random_model(checkpoint, random_seed), {"random_seed": random_seed}
    if weights:
        return _load(Path(weights), checkpoint), {}
    folder = _from_hub(checkpoint, revision or checkpoint.revision)
    return _load(folder, checkpoint), {"revision": folder.name}


def random_model(checkpoint: Checkpoint, seed: Option) -> Any:
    """Return a small model with random weights, codebooks too: it shows how an adapter works, not how it sounds."""
    if not isinstance(seed, int) or seed < 0:
        raise UsageError(f"codec.options.random_seed: a seed is a whole number from 0, not {seed!r}")
    import transformers

    config = getattr(transformers, checkpoint.config)(**checkpoint.small)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        model = getattr(transformers, checkpoint.model)(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, codebook in model.named_buffers():
        if name.endswith(CODEBOOKS):
            codebook.normal_(generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As they come, the biases drown speech, and weight-normed layers let little of it through.
            if name.endswith("bias"):
                parameter.mul_(0.1)
            elif name.endswith("original0"):
                parameter.mul_(2.0)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' log lines off stderr, and their progress bars where nobody watches."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    levels = logging.get_verbosity(), hub_logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    if bars and not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if bars:
            logging.enable_progress_bar()


def _need_transformers(checkpoint: Checkpoint) -> None:
    if reason := lacking("hub"):
        raise MissingError(f"codec {checkpoint.model_type}: {reason}; {remedy('hub')}")


def _from_hub(checkpoint: Checkpoint, revision: str | None) -> Path:
    """Return the folder of the hub's cache with that commit, downloaded if it must be and may be."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    repository = checkpoint.repository
    fetch = partial(snapshot_download, repository, revision=revision, allow_patterns=FILES)
    try:
        folder = Path(fetch(local_files_only=True))
        if (folder / "config.json").exists() and list(folder.glob("*.safetensors")):
            return folder
    except LocalEntryNotFoundError:
        pass  # not in the cache yet
    try:
        with quiet():
            # Fails at once where the download would try six times.
            HfApi().model_info(repository, revision=revision, timeout=10)
            return Path(fetch())
    except (OSError, HTTPError) as error:
        pinned = f" --revision {revision}" if revision else ""
        raise MissingError(
            f"codec.weights: {repository}{pinned.replace(' --', ' at ')} is not in the cache {constants.HF_HUB_CACHE}"
            f" and cannot be fetched ({_first_line(error)}); where the hub can be reached:"
            f" hf download {repository}{pinned} --local-dir DIR, then --set codec.weights=DIR"
        ) from None


def _load(folder: Path, checkpoint: Checkpoint) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    _check_type(folder, checkpoint)
    settings: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True}
    settings |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, report = getattr(transformers, checkpoint.model).from_pretrained(folder, **settings)
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise DataError(
            f"{folder}: not loaded as {checkpoint.model} ({_first_line(error)}); {_remedy(checkpoint)}"
        ) from error
    _check_model(model, report, folder, checkpoint)
    return model


def _check_type(folder: Path, checkpoint: Checkpoint) -> None:
    if not folder.is_dir():
        raise MissingError(f"codec.weights: there is no folder {folder}; {_remedy(checkpoint)}")
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {_remedy(checkpoint)}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not a configuration of transformers; {_remedy(checkpoint)}") from None
    if found != checkpoint.model_type:
        raise DataError(f"{path}: these are weights of {found!r}, not of {checkpoint.model_type!r}")


def _check_model(model: Any, report: dict[str, Any], folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse what transformers would fill with random numbers, and a relative of the model that is meant."""
    for what in ("missing", "mismatched", "unexpected"):
        keys = sorted(map(str, report[f"{what}_keys"]))
        if keys:
            raise DataError(
                f"{folder}: {len(keys)} tensors are {what}, among them {keys[0]}: config.json and weights do not"
                f" belong together; {_remedy(checkpoint)}"
            )
    for key, wanted in checkpoint.facts.items():
        if (found := getattr(model.config, key)) != wanted:
            raise DataError(
                f"{folder}/config.json: {key} is {found}, not {wanted}: another model than {checkpoint.repository}"
            )
    for key, tensor in model.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{folder}: tensor {key} holds numbers that are not finite; {_remedy(checkpoint)}")


def _remedy(checkpoint: Checkpoint) -> str:
    return f"give a folder with config.json and model.safetensors, as `hf download {checkpoint.repository}` fills one"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
