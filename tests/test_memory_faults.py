"""Workers that Ray's memory monitor kills: a few tries, then a sentence; the launch can be continued later.

The monitor is told that this machine is short of memory at 1 % of use, so that nothing has to eat it up.
"""

from pathlib import Path

import pytest

from tests.conftest import write_image_set
from tests.launching import digests, finish, launch, manifests

pytestmark = pytest.mark.slow
OPTIONS = ("--set", "cam.epochs=2", "--until", "cam-maps")
STAGES = {"cam-network": "cam.batch, cam.crop", "cam-maps": "cam.scales"}


def test_a_lack_of_memory_is_said_with_its_stage_and_settings_and_the_launch_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_image_set(tmp_path / "images", train=40)
    store, whole = tmp_path / "store", tmp_path / "whole"
    finish(images, whole, *OPTIONS, "--engine", "local", method="cam+none")
    for stage, settings in STAGES.items():
        with monkeypatch.context() as short:
            short.setenv("RAY_memory_usage_threshold", "0.01")
            short.setenv("RAY_memory_monitor_refresh_ms", "100")
            failed = launch(images, store, *OPTIONS, method="cam+none")
        assert failed.returncode == 2, failed.stdout + failed.stderr
        assert f"out of memory in {stage}: lower {settings}" in failed.stderr and "same command continues" in failed.stderr
        assert failed.stdout.count("a worker was lost (out of memory)") == 3  # and nothing of Ray's own
        assert not any(sign in failed.stdout + failed.stderr for sign in ("raylet", "Traceback", "ray::", "(pid="))
        assert stage not in manifests(store)
        finish(images, store, *OPTIONS[:2], "--until", stage, method="cam+none")
        if stage == "cam-network":
            assert "cam-maps" not in manifests(store)
    assert digests(store) == digests(whole)
