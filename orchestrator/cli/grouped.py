"""The list of commands in `wsss-orch --help`, in groups. Plain text: rich's own panels would double the time of --help."""

from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """Commands under the titles that they were registered with (`rich_help_panel`), in the order of registration."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each title."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            title = getattr(command, "rich_help_panel", None)
            groups.setdefault(title if isinstance(title, str) else "Commands", []).append((name, command.get_short_help_str(300)))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)
