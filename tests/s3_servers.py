"""S3 on loopback for tests: moto's server, and a proxy that can cut connections or refuse requests."""

import contextlib
import socket
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.mlflow_servers import free_port, process, wait_until

BUCKET = "lab"
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_REGION": "us-east-1"}
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextlib.contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The address of an S3 server in memory, with an empty bucket."""
    port = free_port()
    with process([sys.executable, "-P", "-m", "moto.server", "-H", "127.0.0.1", "-p", port], log) as server:
        wait_until(lambda: listens(port), server, log)
        address = f"http://127.0.0.1:{port}"
        bucket(address).create()
        yield address


def bucket(address: str):  # boto3 makes its classes as it goes
    """The bucket as boto3 sees it."""
    import boto3  # only what starts a server needs it

    keys = {"aws_access_key_id": "tests", "aws_secret_access_key": "tests", "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=address, **keys).Bucket(BUCKET)


def listens(port: int) -> bool:
    """Whether a server takes connections."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


class Proxy(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server; while `mode` is "cut" it closes every connection, while "deny" it answers 403."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, server: str):
        super().__init__(("127.0.0.1", 0), _Passing)
        self.target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self.mode, self.cut = "pass", 0  # and how many connections were cut

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that gave up


class _Passing(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        if self.server.mode == "deny":
            self.request.recv(1 << 16)
            self.request.sendall(
                b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(DENIED) + DENIED
            )
            return
        with socket.create_connection(self.server.target) as target:
            back = threading.Thread(target=self._pass, args=(target, self.request), daemon=True)
            back.start()
            self._pass(self.request, target)
            back.join()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                if self.server.mode == "cut":
                    self.server.cut += 1
                    break
                sink.sendall(content)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy before a server."""
    with Proxy(server) as passing:
        threading.Thread(target=passing.serve_forever, daemon=True).start()
        yield passing
        passing.shutdown()
