"""`wsss-orch logs` and `stop`: jobs that `submit` has sent to a cluster."""

from typing import Annotated

import typer

from orchestrator.cli.submit import Dashboard

Job = Annotated[str, typer.Argument(help="A job's name from `submit` or `status`, or its beginning.")]


def logs(
    job: Job,
    address: Dashboard,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow until the job ends; the exit code is the job's.")
    ] = False,
) -> None:
    """Show what a job has printed.

    With -f the exit code is the job's: 0, that of its command, or 130 if it was stopped. Ctrl-C ends `logs`, not the job.

    Examples:

      wsss-orch logs lpcam-amn-voc12-3f9a1c --address http://head.example.org:8265

      wsss-orch logs lpcam-amn-voc12-3f9a1c -f --address head.example.org
    """
    from orchestrator.cluster import following
    from orchestrator.cluster.jobs import answered, connect, find

    client = connect(address)
    with answered(client.get_address()):
        name = str(find(client, job).submission_id)
        if not follow:
            typer.echo(client.get_job_logs(name), nl=False)
            return
    info = following.follow(client, name, _write, lambda note: typer.echo(note, err=True))
    typer.echo(f"{name}: {info.status.value}", err=True)
    raise typer.Exit(following.exit_code(info))


def stop(job: Job, address: Dashboard) -> None:
    """Stop a job. Its launch finishes the step or shard, checkpoints and ends. Submit the same command again to continue.

    Examples:

      wsss-orch stop lpcam-amn-voc12-3f9a1c --address http://head.example.org:8265
    """
    from orchestrator.cluster import following
    from orchestrator.cluster.jobs import answered, connect, find

    client = connect(address)
    with answered(client.get_address()):
        name = str(find(client, job).submission_id)
        typer.echo(following.stop(client, name, lambda note: typer.echo(note, err=True)))


def _write(text: str) -> None:
    print(text, end="", flush=True)
