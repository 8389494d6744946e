"""`wsss-orch submit`: a launch, a sweep or a table, sent to a running cluster as a Ray job."""

from typing import Annotated, Any

import typer

from imagesets.errors import WrongInput
from orchestrator.cli import options
from orchestrator.planning.nearest import nearest

COMMANDS = ("launch", "sweep", "table", "doctor")
SETTINGS = {"allow_interspersed_args": False}  # options after the command belong to the command

Dashboard = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Dashboard: head, head:8265 or http(s)://head:8265.")
]


def submit(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND [OPTIONS]...", help="launch, sweep, table or doctor, and its options.")
    ],
    address: Dashboard,
    installed: Annotated[bool, typer.Option("--installed", help="Send no code: the nodes have the same wsss-orch.")] = False,
) -> None:
    """Run a launch, a sweep or a table on a cluster as a Ray job. The job does not end with this shell.

    This project's code is sent. Paths must be absolute, and all nodes must see them. The job has the cluster's environment, not
    this shell's: give --tracking-uri if MLFLOW_TRACKING_URI is not set there.

    Examples:

      wsss-orch submit --address http://head.example.org:8265 launch --method lpcam+amn --images voc12:/shared/VOC2012 --store
      /shared/wsss/store --set training.workers=2

      wsss-orch submit --address head.example.org sweep --method recam --vary recam.lambda=0.1,0.5,1 --store /shared/wsss/store

      wsss-orch submit --address head.example.org doctor --store /shared/wsss/store
    """
    # checks without Ray come first, because they answer at once
    if words[0] not in COMMANDS:
        raise WrongInput(f"submit runs {', '.join(COMMANDS)}, not {words[0]!r}{nearest(words[0], COMMANDS)}")
    values = _values(context, words)
    from orchestrator.cluster.jobs import connect
    from orchestrator.cluster.submission import Submission, send

    if "runs" in values:
        options.seeds_of(values.get("random_seed", 0), values["runs"], values["random_seeds"])
    submission = Submission(tuple(words), values)
    submission.check()
    client = connect(address)
    from orchestrator.engine.provenance import git_commit, versions

    job = send(client, submission, versions().get("wsss-orch", ""), None if installed else git_commit())
    typer.echo(f"{job} is submitted to {client.get_address()}")
    for command in ("logs -f", "status", "stop"):
        about = "" if command == "status" else f" {job}"
        typer.echo(f"  wsss-orch {command}{about} --address {client.get_address()}")


def _values(context: typer.Context, words: list[str]) -> dict[str, Any]:
    """The options of the command in `words`, by its own parser, which refuses wrong ones."""
    group = context.find_root().command
    command = group.get_command(context, words[0])  # type: ignore[attr-defined]  # of a group
    assert command is not None  # one of COMMANDS
    context.obj = options.ELSEWHERE
    return dict(command.make_context(words[0], list(words[1:]), parent=context).params)
