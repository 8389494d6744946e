"""Checks `--address` of a running cluster without Ray, and says what a cluster wants of its token."""

import socket
from contextlib import closing

from imagesets.errors import WrongInput

TOKEN = "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
CONNECT = 10  # seconds for the head to take a connection


def require_reachable(address: str) -> None:
    """Raise WrongInput unless `address` takes connections, which Ray would try for minutes. `auto` is left to Ray."""
    if "://" in address:
        raise WrongInput(
            f"--address {address} is a cluster seen from outside: this command runs on one of its nodes, with --address auto; "
            f"`wsss-orch submit --address {address} ...` runs it there"
        )
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise WrongInput(f"--address {address} is neither auto nor host:port, such as head.example.org:6379")
    try:
        with closing(socket.create_connection((host, int(port)), CONNECT)):
            return
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise WrongInput(f"nothing answers at {address} ({why}); a Ray head listens on port 6379") from error


def token_refused(sent: bool) -> str:
    """The sentence for a person if a cluster refuses the token that was sent, or wants one."""
    if sent:
        return f"the cluster refuses the token; {TOKEN} must give that of this cluster"
    return f"the cluster wants a token: export RAY_AUTH_MODE=token, and its token by {TOKEN}"
