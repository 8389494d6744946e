"""Texts for screens, logs and records, without the passwords that are in them."""

import re


def hidden(text: str) -> str:
    """`text`, such as a URI or a command line with URIs in it, without passwords."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)
