"""Parts as tasks of Ray, which starts them, and starts them again when their worker dies."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from audio_engram.errors import DataError, UsageError, WorkerError
from audio_engram.scale.extras import require
from audio_engram.scale.parts import Outcome, Task, carry_out

RETRIES = 3
LOCAL_STORE = 100 * 2**20
"""Bytes of shared memory of a cluster of our own: nothing passes through it but outcomes."""


@dataclass(frozen=True)
class OnRay:
    """An engine: `address` is `local` (a cluster of this machine for as long as it takes), `auto` or HOST:PORT."""

    address: str = "local"
    cpus: int = 1
    gpus: int = 0

    def __post_init__(self) -> None:
        require("ray", "--engine ray", "ray")

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
