"""Small tensors: threads would only wait for each other. Nothing here looks for a hub."""

import os
from collections.abc import Callable
from pathlib import Path

# Before huggingface_hub is first imported: it reads them then.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest
import torch

from audio_engram.codecs.hub import HubCodec, quiet, random_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[HubCodec]], Path]:
    """The folder of a codec's random weights, as `save_pretrained` leaves it."""
    folders: dict[str, Path] = {}

    def folder(kind: type[HubCodec]) -> Path:
        if kind.name not in folders:
            folders[kind.name] = tmp_path_factory.mktemp(kind.name)
            with quiet():
                random_model(kind.checkpoint, 0).save_pretrained(folders[kind.name])
        return folders[kind.name]

    return folder
