"""Packages of other versions than those that are there."""

import importlib.metadata

import pytest


def pretend_version(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package that is asked for has this version; None: it is not installed."""

    def found(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)
