"""Following a job's output until the job ends, and stopping a job."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import aiohttp
import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus

from imagesets.errors import WrongInput
from orchestrator.cluster.jobs import COMMAND, Client
from orchestrator.cluster.submission import STOP_WAIT

QUIET = 60.0  # seconds without a line; then a new connection is made, because a broken one may stay silent
PAUSE = 2.0  # seconds between two tries
LOST = 600.0  # seconds without the job server; then following ends
BROKEN = (aiohttp.ClientError, requests.RequestException, OSError)
CHECKPOINTED = "interrupted; the same command continues"  # the last words of a launch that has checkpointed and stopped

Write = Callable[[str], None]


class Log:
    """The part of a job's output that is already written; the server sends all output again on each connection."""

    def __init__(self, client: Client, job: str, write: Write):
        self.client, self.job, self.write = client, job, write
        self.written = 0  # characters

    async def pass_on(self) -> None:
        """Write new output until the server ends its answer, which it does when the job has ended."""
        seen = 0
        chunks = self.client.tail_job_logs(self.job)
        try:
            while True:
                chunk = await asyncio.wait_for(anext(chunks), QUIET)
                new = chunk[max(self.written - seen, 0) :]
                seen += len(chunk)
                if new:
                    self.write(new)
                    self.written += len(new)
        except StopAsyncIteration:
            return
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator


def follow(client: Client, job: str, write: Write, note: Write) -> JobDetails:
    """Write a job's output until the job ends, over as many connections as needed; returns how it ended.

    `note` is called when the server is lost and found. Raises WrongInput if it stays away or no longer knows the job.
    """
    log, lost = Log(client, job, write), 0.0
    while True:
        try:
            if lost:
                _info(client, job)  # a cluster that was started again does not know the job and has no log of it
            with contextlib.suppress(TimeoutError):  # a job may be quiet, so ask for its state
                asyncio.run(log.pass_on())
            info = _info(client, job)
            if lost:
                note("connected again")
            lost = 0.0
            if info.status.is_terminal():
                asyncio.run(log.pass_on())  # output between the last line and the end
                return info
        except (*BROKEN, RuntimeError) as error:  # Ray raises RuntimeError for a broken connection
            if not lost:
                lost = time.monotonic()
                note(f"the connection to {client.get_address()} is lost ({type(error).__name__}); trying again")
            if time.monotonic() - lost > LOST:
                raise WrongInput(
                    f"{client.get_address()} has not answered for {LOST:.0f} s; the same command follows {job} again"
                ) from error
        time.sleep(PAUSE)


def exit_code(info: JobDetails) -> int:
    """A shell's exit code for a job: its command's own, 128 + the signal that killed it, or 130 if it was stopped."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return 130
    code = info.driver_exit_code
    return 1 if not code else code if code > 0 else 128 - code


def stop(client: Client, job: str, note: Write) -> str:
    """Ask a job to checkpoint and end, wait for it, and say how it ended; `note` is told how long that may take."""
    before = _info(client, job)
    if before.status.is_terminal() or not client.stop_job(job):
        return f"{job} has already ended: {_info(client, job).status.value}"
    note(f"{job} is asked to checkpoint and end; Ray kills it after {STOP_WAIT} s")
    deadline = time.monotonic() + STOP_WAIT + 10 * PAUSE
    while not (info := _info(client, job)).status.is_terminal():
        if time.monotonic() > deadline:
            raise WrongInput(f"{job} has not ended {STOP_WAIT} s after it was asked to; `ray job stop` and its node tell more")
        time.sleep(PAUSE)
    if info.status != JobStatus.STOPPED:
        return f"{job} ended by itself: {info.status.value}"
    again = f"`wsss-orch submit --address {client.get_address()} {(info.metadata or {}).get(COMMAND, '...')}`"
    if CHECKPOINTED in client.get_job_logs(job):
        return f"{job} is stopped and checkpointed; {again} continues it"
    return f"{job} is stopped; {again} continues from its last checkpoint"


def _info(client: Client, job: str) -> JobDetails:
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        if "status code 404" in str(error):
            raise WrongInput(f"{client.get_address()} no longer knows {job}: the cluster was started again") from error
        raise
