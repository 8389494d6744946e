"""What a person sees while a launch runs: one live line per running stage, or plain lines where output is piped."""

import time
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

SPEED = 600  # seconds over which it is measured: a shard of a slow stage takes minutes


@dataclass(frozen=True)
class _Line:
    began: float
    task: Any  # rich's, where the display is live


class _Rate(ProgressColumn):
    """Units a second of late."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text()
        return Text(f"{task.speed:.1f}/s" if task.speed >= 1 else f"{task.speed:.3f}/s")


class Display:
    """Shows stages as they run, several at once; use as a context manager."""

    def __init__(self, console: Console):
        self.console = console
        self.live = console.is_terminal
        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            _Rate(),
        )
        self.bars = Progress(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            speed_estimate_period=SPEED,
        )
        self.lines: dict[str, _Line] = {}

    def __enter__(self) -> "Display":
        if self.live:
            self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the live display."""
        self.console.print(line)

    def start(self, name: str, total: int, unit: str, done: int = 0, note: str = "") -> None:
        """A stage begins, `done` of its `total` units being there already; a live line ends in `note` until there is more."""
        task = None
        if self.live:
            task = self.bars.add_task(name, total=total, completed=done, unit=unit, note=note)
        else:
            self.say(f"{name}: begins{f', {done} of {total} {unit} there already' if done else ''}")
        self.lines[name] = _Line(time.monotonic(), task)

    def update(self, name: str, done: float, total: float | None = None, note: str = "") -> None:
        """`done` units of a running stage are there now."""
        if self.live:
            self.bars.update(self.lines[name].task, completed=done, total=total, note=note)

    def finish(self, name: str, detail: str) -> None:
        """A running stage is done."""
        seconds = time.monotonic() - self.lines[name].began
        self.give_up(name)
        self.say(f"{name}: done in {seconds:.1f} s{', ' + detail if detail else ''}")

    def give_up(self, name: str) -> None:
        """Show a stage no longer, if it is shown at all."""
        line = self.lines.pop(name, None)
        if self.live and line is not None:
            self.bars.remove_task(line.task)
