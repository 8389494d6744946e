"""A command whose options take one value tells of one that is given twice; nothing that a person wrote is dropped in silence."""

from collections import Counter
from typing import Any

from typer.core import TyperCommand, TyperOption

from orchestrator.reading.tables import terminal, warn
from orchestrator.tables.asked import parted


class Command(TyperCommand):
    """A subcommand. The last value of an option counts, as everywhere, so that a script's options can be overridden."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print a warning for each value that a later one replaces, then read the arguments."""
        if not ctx.resilient_parsing:
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
            options = [option for option in given if isinstance(option, TyperOption) and not option.is_flag]
            words = [option.opts[0] for option in options if not option.multiple]
            for option in dict.fromkeys(options):
                if option.opts[0] == "--set":
                    words += [f"--set {_name(text)}" for text in values[str(option.name)]]
            twice = (word for word, count in Counter(words).items() if count > 1)
            warn(terminal(stderr=True), (f"{word} is given more than once; its last value counts" for word in twice))
        return super().parse_args(ctx, args)


def _name(text: str) -> str:
    """What an assignment is for: a setting, in a table of the rows of a pattern."""
    pattern, assignment = parted(text)
    return f"{pattern}{':' if pattern else ''}{assignment.partition('=')[0].strip()}"
