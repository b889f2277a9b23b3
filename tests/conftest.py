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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and a small world."""
    worlds = "audio_engram.data.processes"
    monkeypatch.chdir(tmp_path)
    small = {"World.speakers": 10, "World.utterances_per_speaker": 1, "AR.frames": 60, "AR.dim": 4}
    for name, value in small.items():
        monkeypatch.setattr(f"{worlds}.{name}", value)
    return tmp_path
