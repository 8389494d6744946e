"""The one exception for what a person can put right, and what its messages share."""

from collections.abc import Sequence


class WrongInput(ValueError):
    """Something the user gave is wrong; the message is one sentence: what, where, and what would be right."""


def refuse(problems: list[str], where: str) -> None:
    """Raise WrongInput with all `problems`, a line each, if there are any."""
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise WrongInput(f"{count} in {where}, nothing was run:\n" + "\n".join(f"  {problem}" for problem in problems))


def named(ids: Sequence[str], shown: int = 3) -> str:
    """Some of many ids, as a message tells them: "a, b, c, ..."."""
    return ", ".join(ids[:shown]) + (", ..." if len(ids) > shown else "")
