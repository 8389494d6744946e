"""The display of a launch: a bar for each running stage with the time left, a line for each finished one."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.engine.execution import _expected as expected
from orchestrator.engine.progress import ALL, Display, left


@pytest.fixture
def display() -> Display:
    """A display on a terminal that is drawn when a test asks for it."""
    made = Display(Console(file=io.StringIO(), force_terminal=True, width=160))
    made.bars.live.auto_refresh = False
    return made


def drawn(display: Display) -> list[str]:
    """The lines of the bars."""
    console = Console(file=io.StringIO(), width=160)
    console.print(display.bars.make_tasks_table(display.bars.tasks))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_at_first_an_earlier_result_tells_the_time_left_and_later_the_stage_s_own_speed() -> None:
    assert left(elapsed=0, share=0, own=None, expected=100) == 100
    assert left(elapsed=30, share=0, own=None, expected=100) == 70  # no unit is ready yet
    assert left(elapsed=4, share=0.05, own=900, expected=100) == 95
    assert left(elapsed=30, share=0.2, own=120, expected=100) == 120
    assert left(elapsed=0, share=0.5, own=None, expected=100) == 50  # half of it was there already
    assert left(elapsed=200, share=0.05, own=3800, expected=100) == 3800  # slower than then
    assert left(elapsed=200, share=0, own=None, expected=100) == 0
    assert left(elapsed=5, share=0.05, own=95, expected=None) == 95
    assert left(elapsed=5, share=0, own=None, expected=None) is None


def test_each_running_stage_has_a_bar_and_all_stages_together_have_one(display: Display) -> None:
    display.expect({"cam-network": 100.0, "cam-maps": 20.0, "irn-network": 60.0})
    display.start("cam-network", 1, "steps")
    display.update("cam-network", 5, 400, "classification 0.693")
    every, one = drawn(display)
    assert ALL in every and "0/3 stages" in every and "0:02:59 left" in every
    assert "cam-network" in one and "5/400 steps" in one and "0:01:39 left" in one and "classification 0.693" in one
    display.finish("cam-network", "50.0 s CPU")
    display.made("cam-network")
    (every,) = drawn(display)
    assert "1/3 stages" in every and "0:01:20 left" in every
    assert "cam-network: done in" in display.console.file.getvalue()  # type: ignore[attr-defined]


def test_the_time_of_all_is_not_told_while_that_of_one_is_unknown(display: Display) -> None:
    display.expect({"cam-network": 100.0, "cam-maps": None})
    assert display.left_of_all() is None and "left" not in drawn(display)[0]
    display.made("cam-maps")
    assert display.left_of_all() == 100


def test_stages_that_will_not_be_made_are_dropped_and_one_alone_needs_no_bar_of_all(display: Display) -> None:
    display.expect({"cam-network": 100.0})
    assert not display.bars.tasks
    display.expect({"cam-maps": 1.0, "cam-maps-score": 1.0})
    display.drop(["cam-maps", "cam-maps-score", "unknown"])
    assert drawn(display)[0].split()[-3:] != ["0/2", "stages"] and display.expected == {"cam-network": 100.0}


def test_a_log_is_told_when_a_stage_begins_and_about_how_long_it_takes() -> None:
    file = io.StringIO()
    display = Display(Console(file=file, width=160))
    display.expect({"cam-maps": 20.0, "cam-network": None})
    display.start("cam-maps", 40, "images", done=10)
    display.start("cam-network", 1, "steps")
    assert file.getvalue() == "cam-maps: begins, 10 of 40 images there already, about 15 s\ncam-network: begins\n"


def test_a_stage_of_several_runs_counts_once_and_a_cached_one_not_at_all() -> None:
    def step(key: str, name: str, seconds: float | None = None, cached: bool = False) -> Any:
        return SimpleNamespace(
            key=key, name=name, cached=cached, estimate=SimpleNamespace(wall=seconds) if seconds is not None else None
        )

    plans = [
        [step("a", "cam-network [0]", 9.0), step("b", "cam-maps [0]")],
        [step("a", "cam-network [1]", 9.0), step("c", "x", cached=True)],
    ]
    assert expected(plans) == {"cam-network [0]": 9.0, "cam-maps [0]": None}
