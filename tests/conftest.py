"""Shape annotations are executed in every test; real data is used where it stands beside the checkout."""

from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("audio_engram", "beartype.beartype")
# One thread each: the cores belong to the workers of pytest-xdist, and sums stay in one order.
torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real speech and real codec weights; tests that need it are skipped without it."""
    if not (SHARED / "codecs").is_dir():
        pytest.skip(f"needs {SHARED}, which a bare clone does not have")
    return SHARED
