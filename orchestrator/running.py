"""What a launch that runs now is going to need, told to `clean`: its stages' keys, under a lease of the run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.launch import Prepared
from orchestrator.lease import held, try_lease
from orchestrator.store import read_json, write_json

PLANNED = "stages.json"


@contextmanager
def announced(prepared: Prepared) -> Iterator[None]:
    """Announce a plan's stages while the block runs; another launch of the same run has announced the same ones."""
    folder = prepared.request.store / "runs" / prepared.run
    write_json(folder / PLANNED, [step.key for step in prepared.steps])
    with try_lease(folder):
        yield


def keys_of_running(store: Path) -> set[str]:
    """The keys of all stages that launches which run now have announced."""
    planned = [read_json(path) or () for path in (store / "runs").glob(f"*/{PLANNED}") if held(path.parent)]
    return {key for keys in planned for key in keys}
