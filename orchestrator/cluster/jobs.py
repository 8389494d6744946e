"""A cluster's job server: its size and use, and the jobs that wsss-orch has submitted. Errors are one sentence."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from imagesets.errors import WrongInput
from orchestrator.engine.address import TOKEN, token_refused
from orchestrator.planning.nearest import nearest

PORT = 8265  # of Ray's dashboard, which is also its job server
PATIENCE = 30  # seconds for an answer
OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray prefers these to the address that it is given
UPLOADING = (  # modules of Ray that log a line for every upload
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
OURS = "wsss-orch"  # a key of a job's metadata: the version of wsss-orch that submitted it
RESOURCES = ("CPU", "GPU")
COMMAND = "command"  # another key: the command that the job runs

REFUSALS = {  # texts in error answers, and what they mean
    "status code 413": "refuses the code because it is too large; --installed sends no code",
    "No available agent": "has no node that takes jobs: it is starting, or another Ray holds its port (docs/cluster.md)",
}


class Client(JobSubmissionClient):
    """Ray's client with a time limit on every request."""

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        return super()._do_request(*arguments, **{"timeout": PATIENCE, **options})

    def get(self, path: str) -> Any:
        """The server's answer at `path`, read as JSON."""
        answer = self._do_request("GET", path)
        answer.raise_for_status()
        return answer.json()


def url_of(address: str) -> str:
    """The dashboard's URL from a host, host:port, or a URL."""
    if re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        return address.rstrip("/")
    if not re.fullmatch(r"[\w.-]+(:\d+)?", address) or address == "auto":
        given = "RAY_API_SERVER_ADDRESS=" if address == os.environ.get("RAY_API_SERVER_ADDRESS") else "--address "
        raise WrongInput(f"{given}{address} is no address of a dashboard, such as head.example.org or http://localhost:{PORT}")
    return f"http://{address}" if ":" in address else f"http://{address}:{PORT}"


def connect(address: str) -> Client:
    """A client of the cluster at `address`; WrongInput if it cannot be reached or has another version of Ray."""
    url = url_of(address)
    for name in OVERRIDING:
        os.environ.pop(name, None)
    for name in UPLOADING:
        logging.getLogger(name).setLevel(logging.WARNING)
    with answered(url):
        client = Client(url)
        there = client.get("/api/version")["ray_version"]
    if there != ray.__version__:
        raise WrongInput(f"the cluster at {url} runs Ray {there} and this is Ray {ray.__version__}; install ray=={there} here")
    return client


@contextmanager
def answered(url: str) -> Iterator[None]:
    """Raise WrongInput with one sentence if the server does not answer, or refuses to."""
    try:
        yield
    except AuthenticationError as error:
        raise WrongInput(_no_token(url, error.message)) from error
    except requests.Timeout as error:
        raise WrongInput(f"{url} did not answer in {PATIENCE} s; is it the dashboard of a running Ray head?") from error
    except (requests.ConnectionError, ConnectionError) as error:
        raise WrongInput(f"nothing answers at {url}; {_where()}") from error
    except (requests.RequestException, KeyError, RuntimeError) as error:
        for part, meaning in REFUSALS.items():
            if part in str(error):
                raise WrongInput(f"{url} {meaning}") from error
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WrongInput(f"{url} is not Ray's job server ({why}); {_where()}") from error


def usage(client: Client) -> str:
    """One line: nodes, CPUs and GPUs. What is in use is known if the head runs Ray's autoscaler, which is the default."""
    rows = client.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
    living = [row for row in rows if row["state"] == "ALIVE"]
    taken = _taken(client.get("/api/cluster_status")["data"])
    parts = [f"{len(living)} node{'s' if len(living) != 1 else ''}"]
    for name in RESOURCES:
        total = sum(row["resources_total"].get(name, 0) for row in living)
        if total or name == "CPU":
            parts.append(f"{taken[name]:.0f} of {total:.0f} {name}s in use" if name in taken else f"{total:.0f} {name}s")
    return ", ".join(parts)


def submitted(client: Client) -> list[JobDetails]:
    """The jobs of the cluster that wsss-orch has submitted, oldest first."""
    ours = [job for job in client.list_jobs() if job.submission_id and OURS in (job.metadata or {})]
    return sorted(ours, key=lambda job: job.start_time or 0)


def find(client: Client, name: str) -> JobDetails:
    """The submitted job called `name`, or the only one whose name begins like this; WrongInput with the nearest name."""
    known = {str(job.submission_id): job for job in submitted(client)}
    begun = [known[name]] if name in known else [job for full, job in known.items() if full.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    there = nearest(name, known) if known else "; wsss-orch has submitted no job to it"
    raise WrongInput(f"the cluster has no job {name!r}{there}")


def _taken(status: dict[str, Any]) -> dict[str, float]:
    report = (status.get("clusterStatus") or {}).get("loadMetricsReport") or {}
    return {name: amounts[0] for name, amounts in (report.get("usage") or {}).items() if name in RESOURCES}


def _no_token(url: str, message: str) -> str:
    if message.startswith(("Authentication failed", "Authentication required")):  # 403, 401
        return f"{url}: {token_refused(sent=message.startswith('Authentication failed'))}"
    return f"RAY_AUTH_MODE=token, but there is no token: {TOKEN} gives one"


def _where() -> str:
    return f"--address takes the dashboard of a Ray head, whose port is {PORT} by default"
