"""The display of a running launch: a live line for each running stage, or plain lines if output is piped."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

SPEED = 600  # seconds over which speed is measured: a shard of a slow stage takes minutes


class _Rate(ProgressColumn):
    """Units per second over the last SPEED seconds."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text()
        return Text(f"{task.speed:.1f}/s" if task.speed >= 1 else f"{task.speed:.3f}/s")


class Display:
    """Shows running stages by name; use as a context manager."""

    def __init__(self, console: Console):
        self.console, self.live = console, console.is_terminal
        self.bars = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            speed_estimate_period=SPEED,
            disable=not self.live,
        )

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the live display."""
        self.console.print(line)

    def start(self, name: str, total: int, unit: str, done: int = 0, note: str = "") -> None:
        """Show a stage that begins with `done` of its `total` units; its live line ends in `note` until the next update."""
        self.bars.add_task(name, total=total, completed=done, unit=unit, note=note)
        if not self.live:
            self.say(f"{name}: begins{f', {done} of {total} {unit} there already' if done else ''}")

    def update(self, name: str, done: float, total: float | None = None, note: str = "") -> None:
        """Show that `done` units of a running stage are ready."""
        for task in self._shown(name):
            self.bars.update(task.id, completed=done, total=total, note=note)

    def finish(self, name: str, detail: str) -> None:
        """Print that a running stage is done, and after how long."""
        seconds = sum(task.elapsed or 0.0 for task in self._shown(name))
        self.give_up(name)
        self.say(f"{name}: done in {seconds:.1f} s{', ' + detail if detail else ''}")

    def give_up(self, name: str) -> None:
        """Remove a stage from the display, if it is there."""
        for task in self._shown(name):
            self.bars.remove_task(task.id)

    def _shown(self, name: str) -> list[Task]:
        return [task for task in self.bars.tasks if task.description == name]
