"""The boundary to a codec that somebody else wrote: whatever goes wrong in it becomes one line that names it."""

import json
import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from audio_engram.errors import EngramError, UsageError

LONGEST = 300  # characters of a foreign message
ATTRIBUTES = ("name", "sample_rate", "frame_rate", "latent_dim")


class CodecError(UsageError):
    """A codec of a user that cannot be used as it is written."""


@contextmanager
def foreign_code(module: str, what: str, remedy: str = "mend the codec") -> Iterator[None]:
    """Run code of a user's `module`; `what` of it is running is said if it fails.

    Raises:
        CodecError: for any error in it but ours, with the line of the user's file; its traceback is the cause.
    """
    if module.partition(".")[0] == __package__.partition(".")[0]:
        yield  # an error in our own codecs is a bug and keeps its traceback
        return
    try:
        yield
    except EngramError:
        raise
    # The one place where anything may come: nobody can list what a stranger's code raises, `sys.exit` included.
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:LONGEST]
        raised = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise CodecError(f"{what} raised {raised}{_place(error, module)}: {remedy}") from error


def _place(error: BaseException, module: str) -> str:
    """The last line of the module's own file on the way to the error, else the last line there is."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    file = getattr(sys.modules.get(module), "__file__", None)
    last = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    return "" if last.filename == __file__ else f" ({last.filename}:{last.lineno})"


def class_name(codec: nn.Module) -> str:
    """`package.module:Class`."""
    return f"{type(codec).__module__}:{type(codec).__qualname__}"


def check_tensor(codec: nn.Module, method: str, found: object, wanted: tuple[int | None, ...]) -> None:
    """Raises: CodecError when a codec's method returned no real floating-point tensor of the wanted sizes."""
    sizes = f"({', '.join('any' if size is None else str(size) for size in wanted)})"
    if not isinstance(found, Tensor):
        gave = type(found).__name__
    elif not found.is_floating_point():
        gave = str(found.dtype)
    elif found.dim() != len(wanted) or any(w not in (None, n) for n, w in zip(found.shape, wanted, strict=True)):
        gave = f"a tensor of shape {tuple(found.shape)}"
    else:
        return
    raise CodecError(
        f"codec {class_name(codec)}: {method} gave {gave}, wanted a floating-point tensor {sizes}: mend the codec"
    )


def check_attributes(codec: nn.Module) -> None:
    """Look once at what a codec says of itself.

    Raises:
        CodecError: for the first attribute that is missing or no possible value.
    """
    where = f"codec {class_name(codec)}"
    if "_modules" not in vars(codec):
        raise CodecError(f"{where}: its __init__ does not call super().__init__(): mend the codec")
    for key in ATTRIBUTES:
        if not hasattr(codec, key):
            raise CodecError(f"{where}: has no {key}: set it in the class")
    for key, wanted, good in _rules(codec):
        if not good:
            raise CodecError(f"{where}: {key} = {getattr(codec, key)!r}: {wanted}: mend the codec")


def _rules(codec: Any) -> Iterator[tuple[str, str, bool]]:
    name, tap, taps = codec.name, codec.tap, codec.taps
    yield "name", "a printable word is wanted", isinstance(name, str) and bool(name.strip()) and name.isprintable()
    yield "sample_rate", "a whole number of Hz above 0 is wanted", _is_count(codec.sample_rate)
    yield "frame_rate", "a number of Hz above 0 is wanted", _is_rate(codec.frame_rate)
    yield "latent_dim", "a whole number above 0 is wanted", _is_count(codec.latent_dim)
    yield "taps", "a tuple of words is wanted", isinstance(taps, tuple) and all(isinstance(one, str) for one in taps)
    yield "tap", f"one of taps = {taps} is wanted", tap in taps
    yield "options", "what JSON can hold is wanted", _is_json(codec.options)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
