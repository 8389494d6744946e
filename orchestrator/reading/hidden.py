"""Removes passwords from texts for screens, logs and records."""

import re
import shlex
from collections.abc import Sequence

# user:password@. A password may hold / and @, so it ends at the last @ of a word
IN_WORD = re.compile(r"(://[^/:@\s'\"]*):[^\s'\"]*@")
IN_WHOLE = re.compile(r"(://[^/:@]*):.*@", re.DOTALL)
NAMED = re.compile(r"(password|passwd|pwd|secret|token)(=|%3D)[^&;\s'\"]+?(?=[&;\s'\"]|%3B|$)", re.IGNORECASE)


def hidden(text: str) -> str:
    """`text`, such as an error with URIs in it, without passwords; for a password with a blank or a quote use `hidden_uri`."""
    return NAMED.sub(r"\1\2***", IN_WORD.sub(r"\1:***@", text))


def hidden_uri(uri: str) -> str:
    """A URI, or another word of a command line, without its password, which may hold any characters."""
    return NAMED.sub(r"\1\2***", IN_WHOLE.sub(r"\1:***@", uri))


def hidden_command(words: Sequence[str]) -> str:
    """A shell command without the passwords in its words."""
    return shlex.join(map(hidden_uri, words))


def ambiguous(uri: str) -> bool:
    """Whether a URI has a password with a bare / or @, so that programs take a part of it for the host."""
    _, separator, rest = uri.partition("://")
    credentials, at, _ = rest.rpartition("@")
    _, colon, password = credentials.partition(":")
    is_port = re.match(r"\d{1,5}(/|$)", password) is not None and "@" not in password
    return bool(separator and at and colon and not rest.startswith("/") and re.search("[/@?#]", password) and not is_port)
