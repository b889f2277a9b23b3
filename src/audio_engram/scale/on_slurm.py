"""Parts as jobs of Slurm, submitted and watched by submitit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which
from typing import Any

from audio_engram.data.publish import make_folder
from audio_engram.errors import DataError, MissingError, UsageError, WorkerError
from audio_engram.extras import require
from audio_engram.scale.parts import Outcome, Task, carry_out

POLL = {"slurm": 10.0, "local": 0.2}
"""Seconds between looks at the jobs."""


@dataclass(frozen=True)
class OnSlurm:
    """An engine: a job array on Slurm, or (`cluster="local"`) processes of this machine, a few at a time."""

    logs: Path
    cluster: str = "slurm"
    partition: str = ""
    minutes: int = 24 * 60
    cpus: int = 1
    gpus: int = 0

    def __post_init__(self) -> None:
        require("submitit", "--engine slurm", "slurm")
        if self.cluster not in POLL:
            raise UsageError(f"--cluster {self.cluster}: use slurm or local")
        if self.cluster == "slurm" and which("srun") is None:
            raise MissingError(
                "--engine slurm: there is no Slurm here (srun is not found): submit from a login node, or use"
                " --cluster local, or --engine ray"
            )

    def __call__(self, tasks: list[Task]) -> Iterator[Outcome]:
        """Submit the tasks and wait for them. A job that Slurm preempts is queued again and resumes.

        Raises: UsageError when Slurm refuses the jobs.
        """
        submitit = require("submitit", "--engine slurm", "slurm")
        executor = self._executor(submitit)
        at_once = len(tasks) if self.cluster == "slurm" else max(1, (os.cpu_count() or 1) // self.cpus)
        for start in range(0, len(tasks), at_once):
            yield from self._wave(submitit, executor, tasks[start : start + at_once])

    def _wave(self, submitit: Any, executor: Any, tasks: list[Task]) -> Iterator[Outcome]:
        try:
            jobs = executor.map_array(Resumable(), tasks)
        except submitit.core.utils.FailedJobError as error:
            raise UsageError(f"--engine slurm: sbatch refused the jobs ({_last_line(str(error))})") from error
        labels = {job.job_id: task.label for job, task in zip(jobs, tasks, strict=True)}
        for job in submitit.helpers.as_completed(jobs, poll_frequency=POLL[self.cluster]):
            yield self._outcome(submitit, job, labels[job.job_id])

    def _outcome(self, submitit: Any, job: Any, label: str) -> Outcome:
        try:
            outcome: Outcome = job.result()
        except submitit.core.utils.FailedJobError as error:
            trace = str(error).partition("\n----------------------\nYou can check")[0]
            outcome = Outcome(label, error=_last_line(trace), exit_code=WorkerError.exit_code)
        except submitit.core.utils.UncompletedJobError:  # the kind above is one of these
            reason = f"its job ended without a result (state {job.state})"
            outcome = Outcome(label, error=reason, exit_code=DataError.exit_code)
        return replace(outcome, error=f"{outcome.error} (log {job.paths.stderr})") if outcome.error else outcome

    def _executor(self, submitit: Any) -> Any:
        make_folder(self.logs)
        executor = submitit.AutoExecutor(self.logs, cluster=self.cluster)
        executor.update_parameters(
            name="engram-encode", timeout_min=self.minutes, cpus_per_task=self.cpus, gpus_per_node=self.gpus
        )
        if self.partition:
            executor.update_parameters(slurm_partition=self.partition)
        return executor


class Resumable:
    """`carry_out` for submitit: a job that is preempted or out of time goes back into the queue as it is."""

    def __call__(self, task: Task) -> Outcome:
        """Do the task."""
        return carry_out(task)

    def checkpoint(self, task: Task) -> Any:
        """What to submit instead: the same, for finished shards of latents are on disk."""
        return require("submitit", "--engine slurm", "slurm").helpers.DelayedSubmission(self, task)


def _last_line(text: str) -> str:
    return [line.strip() for line in text.splitlines() if line.strip()][-1]
