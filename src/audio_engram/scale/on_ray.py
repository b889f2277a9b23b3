"""Parts as tasks of Ray, which starts them, and starts them again when their worker dies."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from audio_engram.errors import DataError, UsageError, WorkerError
from audio_engram.extras import require
from audio_engram.scale.parts import Outcome, Task, carry_out

RETRIES = 3
LOCAL_STORE = 100 * 2**20
"""Bytes of shared memory of a cluster of our own: nothing passes through it but outcomes."""
PATIENCE = 5.0
"""Seconds in which a cluster's machine must answer."""


@dataclass(frozen=True)
class OnRay:
    """An engine: `address` is `local` (a cluster of this machine for as long as it takes), `auto` or HOST:PORT."""

    address: str = "local"
    cpus: int = 1
    gpus: int = 0

    def __post_init__(self) -> None:
        require("ray", "--engine ray", "ray")
        if self.address not in ("local", "auto"):
            refuse_unreachable(self.address)

    def __call__(self, tasks: list[Task]) -> Iterator[Outcome]:
        """Carry the tasks out; a worker that dies is replaced `RETRIES` times.

        Raises: UsageError when there is no cluster at `address`.
        """
        ray = require("ray", "--engine ray", "ray")
        with self._cluster(ray):
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)(carry_out)
            waiting = {remote.remote(task): task for task in tasks}
            while waiting:
                for done in ray.wait(list(waiting), num_returns=1)[0]:
                    yield self._outcome(ray, done, waiting.pop(done))

    def _outcome(self, ray: Any, done: Any, task: Task) -> Outcome:
        try:
            outcome: Outcome = ray.get(done)
            return outcome
        except ray.exceptions.RayTaskError as error:
            reason, code = f"{type(error.cause).__name__}: {error.cause}".splitlines()[0], WorkerError.exit_code
        except ray.exceptions.RayError as error:
            reason = f"its worker died {RETRIES + 1} times ({type(error).__name__}); is there enough memory?"
            code = DataError.exit_code
        return Outcome(task.label, error=reason, exit_code=code)

    @contextmanager
    def _cluster(self, ray: Any) -> Iterator[None]:
        if ray.is_initialized():  # somebody else's, who will end it
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run reports to nobody
        own = {"include_dashboard": False, "object_store_memory": LOCAL_STORE} if self.address == "local" else {}
        try:
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"--address {self.address}: no Ray cluster ({str(error).splitlines()[0]})") from error
        try:
            yield
        finally:
            ray.shutdown()


def refuse_unreachable(address: str) -> None:
    """Knock at the door, for Ray itself waits for minutes before it says that nobody is there.

    Raises: UsageError for what is not HOST:PORT, or where nothing listens.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\s/]+?)\]?:([0-9]{1,5})", address)
    try:
        if found is None:
            raise OSError("wanted local, auto or HOST:PORT")
        socket.create_connection((found[1], int(found[2])), timeout=PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:  # a port above 65535, a name that is none
        raise UsageError(f"--address {address}: no Ray cluster ({error}); see `ray status` for its address") from error
