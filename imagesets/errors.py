"""The exception for mistakes that the user can correct, and the common parts of its messages."""

from collections.abc import Sequence


class WrongInput(ValueError):
    """A mistake in what the user gave; the message is one sentence: what, where, and what would be right."""


def refuse(problems: list[str], where: str, outcome: str = ", nothing was run") -> None:
    """If there are `problems`, raise WrongInput with a line for each; `outcome` is what follows from them."""
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise WrongInput(f"{count} in {where}{outcome}:\n" + "\n".join(f"  {problem}" for problem in problems))


def named(ids: Sequence[str], shown: int = 3) -> str:
    """The first of many ids, for a message: "a, b, c, ..."."""
    return ", ".join(ids[:shown]) + (", ..." if len(ids) > shown else "")
