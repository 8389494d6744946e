"""Texts for screens, logs and records, without the passwords that are in them."""

import re
import shlex
from collections.abc import Sequence

# user, colon, password, at: a password may itself hold / and @, so that the last @ of a word ends it
IN_WORD = re.compile(r"(://[^/:@\s'\"]*):[^\s'\"]*@")
IN_WHOLE = re.compile(r"(://[^/:@]*):.*@", re.DOTALL)
NAMED = re.compile(r"(password|passwd|pwd|secret|token)(=|%3D)[^&;\s'\"]+?(?=[&;\s'\"]|%3B|$)", re.IGNORECASE)


def hidden(text: str) -> str:
    """`text`, such as an error with URIs in it, without passwords; one with a blank or a quote in it: `hidden_uri`."""
    return NAMED.sub(r"\1\2***", IN_WORD.sub(r"\1:***@", text))


def hidden_uri(uri: str) -> str:
    """A URI, or another word of a command line, without its password, whatever characters that holds."""
    return NAMED.sub(r"\1\2***", IN_WHOLE.sub(r"\1:***@", uri))


def hidden_command(words: Sequence[str]) -> str:
    """A command as a shell takes it, without the passwords in its words."""
    return shlex.join(map(hidden_uri, words))


def ambiguous(uri: str) -> bool:
    """Whether a URI holds a password with / or @ in it as such, which makes programs take a part of it for the host."""
    _, separator, rest = uri.partition("://")
    credentials, at, _ = rest.rpartition("@")
    _, colon, password = credentials.partition(":")
    is_port = re.match(r"\d{1,5}(/|$)", password) is not None and "@" not in password
    return bool(separator and at and colon and not rest.startswith("/") and re.search("[/@?#]", password) and not is_port)
