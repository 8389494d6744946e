"""A job's output as it comes, until the job ends; and the way to stop one."""

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

QUIET = 60.0  # seconds without a line after which the connection is made anew: a cut one may never say so
PAUSE = 2.0  # seconds between two tries, or two looks
LOST = 600.0  # seconds without the job server after which following ends
BROKEN = (aiohttp.ClientError, requests.RequestException, OSError)
CHECKPOINTED = "interrupted; the same command continues"  # what a launch says last that was stopped in good order

Write = Callable[[str], None]


class Log:
    """What has been written of one job's output; the server sends all of it again after each connection."""

    def __init__(self, client: Client, job: str, write: Write):
        self.client, self.job, self.write = client, job, write
        self.written = 0  # characters

    async def pass_on(self) -> None:
        """Write what is new until the server ends its answer, as it does when the job has ended."""
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
    """Write a job's output until the job ends, over as many connections as it takes; how it ended.

    `note` is told when the server is lost and found. Raises WrongInput where it stays away, or no longer knows the job.
    """
    log, lost = Log(client, job, write), 0.0
    while True:
        try:
            if lost:
                _info(client, job)  # a cluster that was started anew does not know it, and its log would be tried in vain
            with contextlib.suppress(TimeoutError):  # a job may well be quiet; it is asked for its state
                asyncio.run(log.pass_on())
            info = _info(client, job)
            if lost:
                note("connected again")
            lost = 0.0
            if info.status.is_terminal():
                asyncio.run(log.pass_on())  # what came between the last line and the end
                return info
        except (*BROKEN, RuntimeError) as error:  # RuntimeError: Ray's word for a connection that broke
            if not lost:
                lost = time.monotonic()
                note(f"the connection to {client.get_address()} is lost ({type(error).__name__}); trying again")
            if time.monotonic() - lost > LOST:
                raise WrongInput(
                    f"{client.get_address()} is away for {LOST:.0f} s; the same command follows {job} again"
                ) from error
        time.sleep(PAUSE)


def exit_code(info: JobDetails) -> int:
    """A shell's code for how a job ended: its command's own, 128 and the signal that killed it, or 130 where it was stopped."""
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.status == JobStatus.STOPPED:
        return 130
    code = info.driver_exit_code
    return 1 if not code else code if code > 0 else 128 - code


def stop(client: Client, job: str, note: Write) -> str:
    """Ask a job to checkpoint and end, wait until it has, and say how it did; `note` is told how long that may take."""
    before = _info(client, job)
    if before.status.is_terminal() or not client.stop_job(job):
        return f"{job} has ended before: {_info(client, job).status.value}"
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
            raise WrongInput(f"{client.get_address()} no longer knows {job}: the cluster was started anew") from error
        raise
