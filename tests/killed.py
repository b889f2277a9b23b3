"""A process that is killed in the middle of its work."""

import os
import signal
import subprocess
import sys
from typing import Any


def kill_after(start: str, program: str, *arguments: str, **settings: Any) -> None:
    """Run a program on one thread and kill it at the first line that begins so."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | settings.pop("env", {})
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, env=env, **settings
    )
    for line in child.stdout:
        if line.startswith(start):
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
