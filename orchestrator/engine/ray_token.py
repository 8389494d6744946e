"""Whether a cluster takes this shell's token, asked in a second: Ray itself tries a wrong one for twenty, in raw lines."""

import grpc
from ray._private import services
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray.exceptions import AuthenticationError

from imagesets.errors import WrongInput

QUESTION = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # what Ray's own `ray health-check` asks a head
PATIENCE = 10  # seconds for an answer


def refuse_wrong_token(address: str) -> None:
    """Raise WrongInput where the head at `address`, auto or host:port, refuses the token; all else is left to Ray."""
    head = services.canonicalize_bootstrap_address(address) if address == "auto" else address
    if head is None:
        return
    try:
        headers = get_auth_headers_if_auth_enabled({})
    except AuthenticationError as error:  # the token is asked for, and cannot be read
        raise WrongInput(f"--address {address}: {error.message}") from error
    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(QUESTION)(b"", timeout=PATIENCE, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise WrongInput(f"--address {address}: {_refusal(bool(headers))}") from error


def _refusal(sent: bool) -> str:
    if sent:
        return "the cluster refuses the token; RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH must give that of this cluster"
    return "the cluster wants a token: export RAY_AUTH_MODE=token, and its token by RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
