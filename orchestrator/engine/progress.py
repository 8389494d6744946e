"""The display of a running launch: a bar for each running stage and one for all stages, or plain lines if output is piped."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

SPEED = 600  # seconds over which speed is measured: a shard of a slow stage takes minutes
TRUSTED = 0.1  # the share of a stage after which its own speed tells more than what earlier results took
ALL = "all stages"

Expected = Mapping[str, float | None]  # the seconds that each stage that is to be made will take, None if unknown


def left(elapsed: float, share: float, own: float | None, expected: float | None) -> float | None:
    """Seconds that a stage will still take, `share` of which is made after `elapsed` seconds.

    `own` is what its own speed tells, `expected` the whole time that an earlier result tells.
    """
    if own is not None and (share >= TRUSTED or expected is None or elapsed > expected):
        return own
    return None if expected is None else max(min(expected * (1 - share), expected - elapsed), 0.0)


class _Rate(ProgressColumn):
    """Units per second over the last SPEED seconds."""

    def render(self, task: Task) -> Text:
        if not task.speed or task.description == ALL:
            return Text()
        return Text(f"{task.speed:.1f}/s" if task.speed >= 1 else f"{task.speed:.3f}/s")


class _Left(ProgressColumn):
    """The time left."""

    max_refresh = 0.5

    def __init__(self, display: "Display"):
        super().__init__()
        self.display = display

    def render(self, task: Task) -> Text:
        seconds = self.display.left_of_all() if task.description == ALL else self.display.left_of(task)
        return Text("" if seconds is None else f"{timedelta(seconds=round(seconds))} left")


class Display:
    """Shows running stages by name; use as a context manager."""

    def __init__(self, console: Console):
        self.console, self.live = console, console.is_terminal
        self.expected: dict[str, float | None] = {}  # of the stages that are not made yet
        self.bars = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(16),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
            _Rate(),
            TimeElapsedColumn(),
            _Left(self),
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

    def expect(self, stages: Expected) -> None:
        """Count further stages that are to be made, each with its seconds, in the bar of all stages."""
        new = {name: seconds for name, seconds in stages.items() if name not in self.expected}
        self.expected |= new
        if not self._shown(ALL) and len(new) > 1:
            self.bars.add_task(ALL, total=0, unit="stages", note="")
        for task in self._shown(ALL):
            self.bars.update(task.id, total=(task.total or 0) + len(new))

    def made(self, name: str) -> None:
        """Count a stage as made."""
        if name in self.expected:
            del self.expected[name]
            for task in self._shown(ALL):
                self.bars.update(task.id, advance=1)

    def drop(self, names: Iterable[str]) -> None:
        """Count no longer what will not be made, of these stages."""
        for name in self.expected.keys() & set(names):
            del self.expected[name]
            for task in self._shown(ALL):
                self.bars.update(task.id, total=(task.total or 0) - 1)

    def start(self, name: str, total: int, unit: str, done: int = 0, note: str = "") -> None:
        """Show a stage that begins with `done` of its `total` units; its live line ends in `note` until the next update."""
        self.bars.add_task(name, total=total, completed=done, unit=unit, note=note)
        if not self.live:
            seconds = self.expected.get(name)
            there = f", {done} of {total} {unit} there already" if done else ""
            self.say(f"{name}: begins{there}{f', about {seconds * (1 - done / total):.0f} s' if seconds and total else ''}")

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

    def left_of(self, task: Task) -> float | None:
        """Seconds that a running stage will still take; None if nothing tells."""
        share = task.completed / task.total if task.total else 0.0
        return left(task.elapsed or 0.0, share, task.time_remaining, self.expected.get(task.description))

    def left_of_all(self) -> float | None:
        """Seconds that all stages will take one after the other; None as long as the time of one is unknown."""
        running = {task.description: self.left_of(task) for task in self.bars.tasks}
        seconds = [running[name] if running.get(name) is not None else own for name, own in self.expected.items()]
        return None if None in seconds else sum(filter(None, seconds))

    def _shown(self, name: str) -> list[Task]:
        return [task for task in self.bars.tasks if task.description == name]
