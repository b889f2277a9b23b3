"""The optional extras of this package: what each brings, what it is for, whether it is there and how to get it."""

import importlib
import importlib.metadata
import re
from dataclasses import dataclass
from typing import Any

from audio_engram.errors import MissingError


@dataclass(frozen=True)
class Extra:
    """The package that an extra brings, perhaps among others, and what needs it."""

    package: str
    oldest: str
    purpose: str


# As in pyproject.toml; read from there it would be that of the last `pip install` and not of this code.
EXTRAS = {
    "hub": Extra("transformers", "5.21", "codecs of the Hugging Face hub"),  # before, Mimi has no `encoder(x).latents`
    "ray": Extra("ray", "2.40", "engram encode --engine ray"),
    "slurm": Extra("submitit", "1.5", "engram encode --engine slurm"),
    "metrics": Extra("resemblyzer", "0.1.4", "experiments.listeners"),
}


def installed(extra: str) -> str:
    """The version of the extra's package; nothing if it is not there."""
    try:
        return importlib.metadata.version(EXTRAS[extra].package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def lacking(extra: str) -> str:
    """What keeps the extra from being used; nothing if it can be."""
    wanted, version = EXTRAS[extra], installed(extra)
    if not version:
        return f"{wanted.package} is not installed"
    if _numbers(version) < _numbers(wanted.oldest):
        return f"needs {wanted.package} >= {wanted.oldest}, not {version}"
    return ""


def remedy(extra: str) -> str:
    """How to get the extra; it is not looked for on PyPI, where this package is not."""
    return f"install the extra {extra}: pip install -e '.[{extra}]' in the clone"


def require(package: str, what: str, extra: str) -> Any:
    """Import a package of an extra.

    Raises: MissingError when it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingError(f"{what} needs {package} ({error}): {remedy(extra)}") from error


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
