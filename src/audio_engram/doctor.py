"""What this machine has, and what is missing with the command that mends it."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audio_engram.extras import EXTRAS, installed, lacking, remedy

NEEDED = (
    *("torch", "numpy", "scipy", "scikit-learn", "soundfile", "soxr", "safetensors", "pydantic"),
    *("jinja2", "markupsafe", "matplotlib", "jaxtyping", "tomli_w", "tqdm"),
)
"""What pyproject.toml depends on."""
MIN_FREE = 2 * 2**30


def examine() -> tuple[dict[str, str], list[str]]:
    """Facts by name, and problems as lines that say the remedy."""
    facts = {"audio-engram": version("audio-engram"), "python": platform.python_version()}
    problems = []
    for name in NEEDED:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"{name}: pip install {name}")
    if "torch" in facts:
        facts |= _device()
    facts["cores"] = str(os.cpu_count())
    facts["hub cache"] = os.environ.get("HF_HOME", str(Path.home() / ".cache" / "huggingface"))
    free = shutil.disk_usage(".").free
    facts["free disk"] = f"{free / 2**30:.1f} GiB"
    if free < MIN_FREE:
        problems.append(f"disk: {free / 2**30:.1f} GiB free here: free some space or run in another folder")
    return facts, problems


def examine_extras() -> dict[str, dict[str, str]]:
    """What each optional extra is for, its package's version, and the remedy where it cannot be used."""
    return {
        name: {
            "for": extra.purpose,
            "package": extra.package,
            "version": installed(name),
            "remedy": f"{reason}: {remedy(name)}" if (reason := lacking(name)) else "",
        }
        for name, extra in EXTRAS.items()
    }


def _device() -> dict[str, str]:
    import torch

    from audio_engram.dynamics.model import training_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    on_cpu = f"cpu, {threads} thread{'' if threads == 1 else 's'}"
    name = torch.cuda.get_device_name() if device.type == "cuda" else on_cpu
    precision = str(training_precision("auto", device)).removeprefix("torch.")
    return {"device": name, "training in": precision}
