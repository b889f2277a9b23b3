"""Packages that only some commands need."""

import importlib
from typing import Any

from audio_engram.errors import MissingError
from audio_engram.extras import remedy


def require(package: str, what: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises: MissingError when it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingError(f"{what} needs {package} ({error}): {remedy(extra)}") from error
