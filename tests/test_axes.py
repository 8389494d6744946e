"""`--vary` is read as written; what makes no sense is refused in one sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from orchestrator.sweeps.axes import parse, split


def test_a_list_keeps_its_types() -> None:
    assert parse("recam.lambda=0.1,1,2").values == (0.1, 1, 2)
    assert parse("recam.weights=w,product").values == ("w", "product")
    assert parse("cam.scales=[1.0],[1.0,0.5]").values == ([1.0], [1.0, 0.5])
    assert parse("lpcam.contexts=true,false").values == (True, False)
    assert parse("deeplabv2.crf=none,no,007,~").values == ("none", "no", "007", "~")
    assert parse("cam.lr=1e-3,5E+1,.5,1.").values == (0.001, 50.0, 0.5, 1.0)


def test_a_range_of_whole_numbers_holds_whole_numbers() -> None:
    assert [repr(value) for value in parse("cam.epochs=2:8:3").values] == ["2", "5", "8"]


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 9))
def test_a_range_goes_by_its_step_up_to_its_end(start: int, length: int, step: int) -> None:
    values = parse(f"cam.lr={start / 100}:{(start + length) / 100}:{step / 100}").values
    assert list(values) == pytest.approx([number / 100 for number in range(start, start + length + 1, step)])


def test_a_range_of_very_small_numbers_keeps_its_steps() -> None:
    assert parse("cam.weight_decay=1e-10:3e-10:1e-10").values == (1e-10, 2e-10, 3e-10)
    assert parse("cam.weight_decay=0:2.5e-12:1.25e-12").values == (0.0, 1.25e-12, 2.5e-12)


def test_a_distribution_has_bounds() -> None:
    axis = parse("irn.lr=loguniform(0.01, 0.3)")
    assert (axis.distribution, axis.bounds, axis.probes) == ("loguniform", (0.01, 0.3), (0.01, 0.3))


def test_a_threshold_range_makes_no_trials_and_holds_its_end() -> None:
    axes, thresholds = split(["cam.epochs=2,4", "seed.threshold=0.05:0.6:0.01"])
    assert [axis.name for axis in axes] == ["cam.epochs"]
    assert thresholds is not None and thresholds[0] == 0.05 and 0.6 < thresholds[1] < 0.61 and thresholds[2] == 0.01


@given(st.integers(0, 50), st.integers(1, 9), st.integers(2, 12))
def test_a_list_of_thresholds_is_scored_at_these_values(start: int, step: int, count: int) -> None:
    values = [number / 100 for number in range(start, start + step * count, step)]
    whole = split([f"seed.threshold={','.join(map(str, values))}"])[1]
    assert whole is not None and list(np.round(np.arange(*whole), 6)) == values


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["cam.epochs"], "has no values"),
        (["cam.epochs=2,4", "cam.epochs=3"], "given twice"),
        (["cam.lr=1:0:0.1"], "start:stop:step"),
        (["cam.lr=0:1:x"], "'x' is no finite number"),
        (["cam.lr=1:2:nan"], "'nan' is no finite number"),
        (["cam.lr=0:inf:1"], "'inf' is no finite number"),
        (["cam.lr=uniform(0,inf)"], "'inf' is no finite number"),
        (["cam.lr=1:1.0000000000000004:1e-16"], "the step is too small"),
        (["cam.lr=loguniform(0,1)"], "and above 0"),
        (["cam.lr=[1,"], "must be a list"),
        (["cam.lr=" + "[" * 2000 + "]" * 2000], "must be a list"),
        (["cam.lr={a: 1}"], "takes values such as"),
        (["seed.threshold=0.3"], "takes start:stop:step"),
        (["seed.threshold=0.1,0.5,0.6"], "takes start:stop:step, such as seed.threshold=0.05:0.6:0.01"),
        (["seed.threshold=0.5,0.1"], "rising values with equal steps"),
        (["cam.epochs=2,4,2"], "names the value 2 twice"),
        (["cam.epochs=1:2000000000:1"], "at most 10000 values"),
        (["cam.lr=normal(0,1)"], "drawn from uniform(low,high) or loguniform"),
    ],
)
def test_what_makes_no_sense_is_refused(texts: list[str], why: str) -> None:
    with pytest.raises(WrongInput, match=why.replace(".", r"\.").replace("(", r"\(").replace(")", r"\)")):
        split(texts)
