"""A place on S3, opened with the standard AWS variables. Requests are repeated while the network or the server fails.

Keys are relative to the place. pyarrow, which comes with MLflow, talks to the server; it is imported when needed.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from imagesets.errors import WrongInput

SCHEME = "s3://"
PATIENCE = 300.0  # seconds for which a launch repeats a request
SHORT = 10.0  # the same before a launch begins, while a person waits
PAUSES = (0.5, 10.0)  # seconds after the first failure, then doubled up to the second number
CONNECT, REQUEST = 5, 30  # seconds for the server to take a connection and to answer
PASSING = ("NETWORK_CONNECTION", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE", "REQUEST_TIMEOUT", "THROTTL", "status 5")

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """The address of a store: `uri` s3://bucket/prefix, `endpoint` the URL of a server that is not Amazon's. No credentials."""

    uri: str
    endpoint: str = ""
    region: str = ""  # Amazon's default if empty

    @property
    def path(self) -> str:
        """Bucket and prefix."""
        return self.uri.removeprefix(SCHEME)


def address_of(uri: str) -> Address:
    """The address of s3://bucket/prefix under this process's AWS variables; WrongInput if `uri` has another form."""
    path = uri.removeprefix(SCHEME).strip("/")
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise WrongInput(f"--store {uri} names no bucket and prefix, such as s3://bucket/wsss-store")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if endpoint and not urlsplit(endpoint).netloc:
        raise WrongInput(f"AWS_ENDPOINT_URL {endpoint} is no URL such as https://s3.example.org")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    return Address(SCHEME + path, endpoint, region)


class Remote:
    """The objects below an address; a request is repeated for up to `patience` seconds if its failure may pass."""

    def __init__(self, address: Address, patience: float):
        self.address, self.patience = address, patience
        self._opened: tuple[int, Any] | None = None

    @property
    def files(self) -> Any:
        """pyarrow's file system at the address; a forked process opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            from pyarrow.fs import SubTreeFileSystem

            self._opened = os.getpid(), SubTreeFileSystem(self.address.path, file_system(self.address))
        return self._opened[1]

    def put(self, content: bytes, key: str) -> None:
        """Replace an object in one step."""

        def request() -> None:
            with self.files.open_output_stream(key) as stream:
                stream.write(content)

        self._asked(request)

    def get(self, key: str) -> bytes:
        """An object's content. Raises FileNotFoundError if there is none."""

        def request() -> bytes:
            with self.files.open_input_file(key) as file:
                content, size = file.read(), file.size()
            if len(content) != size:
                raise OSError(f"NETWORK_CONNECTION: {len(content)} of the {size} bytes of {key} came")
            return content

        return self._asked(request)

    def about(self, key: str) -> Any | None:
        """Size and time of an object as pyarrow's FileInfo, None if there is no object."""
        (info,) = self._asked(lambda: self.files.get_file_info([key]))
        return info if info.is_file else None

    def listed(self, folder: str, recursive: bool = False) -> Sequence[Any]:
        """pyarrow's FileInfo of everything in a folder; empty if there is no such folder."""
        from pyarrow.fs import FileSelector

        return self._asked(lambda: self.files.get_file_info(FileSelector(folder, allow_not_found=True, recursive=recursive)))

    def delete(self, key: str, folder: bool = False) -> None:
        """Delete an object, or everything below a folder, if there is anything."""
        with suppress(FileNotFoundError):
            self._asked(lambda: (self.files.delete_dir if folder else self.files.delete_file)(key))

    def _asked(self, request: Callable[[], T]) -> T:
        began, pause = time.monotonic(), PAUSES[0]
        while True:
            try:
                return request()
            except FileNotFoundError:
                raise
            except OSError as error:
                if not any(word in str(error) for word in PASSING) or time.monotonic() - began + pause > self.patience:
                    raise
                logging.warning("%s; asked again in %.1f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, PAUSES[1])


def file_system(address: Address) -> Any:
    """pyarrow's S3 file system for an address; it finds credentials in the AWS variables, files or role."""
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(**server_options(address))


def server_options(address: Address) -> dict[str, Any]:
    """pyarrow's options for an address; no credentials."""
    options: dict[str, Any] = {"connect_timeout": CONNECT, "request_timeout": REQUEST, "allow_delayed_open": True}
    if address.endpoint:  # pyarrow itself does not look at AWS_ENDPOINT_URL
        server = urlsplit(address.endpoint)
        options |= {"endpoint_override": server.netloc + server.path.rstrip("/"), "scheme": server.scheme}
    if address.region:
        options["region"] = address.region
    return options


def refuse_unusable(remote: Remote) -> None:
    """Raise WrongInput unless the place can be listed and its bucket exists."""
    address = remote.address
    bucket = address.path.partition("/")[0]
    try:
        there = remote.listed("") or remote.files.base_fs.get_file_info(bucket).type.name != "NotFound"
    except OSError as error:
        raise unusable(address, "used", error) from error
    if not there:
        raise WrongInput(f"there is no bucket {bucket} on {address.endpoint or 'Amazon S3'}; make it first, or name another one")


def unusable(address: Address, how: str, error: OSError) -> WrongInput:
    """The error for a person if a place cannot be used or written to."""
    reason = " ".join(str(error).split())
    hint = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL say who asks which server"
    return WrongInput(f"the store {address.uri} cannot be {how}: {reason}; {hint}")
