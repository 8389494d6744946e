"""The copy of a sweep in MLflow: a run above the launches that are its trials, with its page.

A trial is an ordinary run, which another sweep may have too; it stands below the sweep that was delivered last.
"""

from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.storage.place import RECORD, place_of
from orchestrator.sweeps.sweep_results import read_sweep
from orchestrator.sweeps.trial import told
from orchestrator.tracking.track import PARENT, SWEEP, experiment_of

FILES = (RECORD, "sweep.html")


def track_sweep(store: Path, name: str, uri: str) -> None:
    """Copy a sweep of the store to the MLflow server or database at `uri`, after its trials. It may be copied again.

    Raises the errors of MLflow, the database and the network.
    """
    folder = store / "sweeps" / name
    record = read_sweep(store, name)
    if record is None:
        raise WrongInput(f"there is no sweep {name!r} in {store / 'sweeps'}")
    experiment = experiment_of(store, record["images"], uri)
    launches = {trial["group"]: experiment.find("wsss.launch", trial["group"]) for trial in record["trials"]}
    start = min((launch.info.start_time for found in launches.values() for launch in found), default=0)
    above = experiment.open(f"sweep of {record['method']}", SWEEP, name, start, {})
    for trial in record["trials"]:
        for launch in launches[trial["group"]]:
            experiment.client.update_run(launch.info.run_id, name=f"{record['method']} {told(trial['values'])}".rstrip())
            experiment.client.set_tag(launch.info.run_id, PARENT, above.info.run_id)
    for path in (folder / file for file in FILES):
        if place_of(path).file(path).exists():
            experiment.client.log_artifact(above.info.run_id, str(path))
    experiment.client.set_terminated(above.info.run_id)
