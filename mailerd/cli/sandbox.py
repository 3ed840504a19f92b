"""`mailerd sandbox`: a stand-in for Google and a private database on loopback, the demonstration, faults on demand."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mailerd.cli import sandbox_faults
from mailerd.cli.packaged import packaged
from mailerd.texts import tr

DEMO: Final = "examples/welcome.json"
"""The job of the demonstration, as it lies in a checkout and in the wheel."""

app = typer.Typer(help="Try mailerd without Google: nothing leaves this machine.", invoke_without_command=True)
for command in (sandbox_faults.fault, sandbox_faults.faults, sandbox_faults.notice, sandbox_faults.mailbox):
    app.command()(command)


@app.callback()
def sandbox(
    context: typer.Context,
    *,
    demo: Annotated[
        bool, typer.Option("--demo", help="Also run a daemon and send a sample job of 240 letters.")
    ] = False,
    job: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="With --demo: send this job (JSON as it is posted) instead."),
    ] = None,
    then_exit: Annotated[
        bool, typer.Option("--exit", help="End after the demonstration's summary; 1 unless every letter was sent once.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where database, configuration, letters and logs are kept.")] = Path(
        ".sandbox"
    ),
    mailboxes: Annotated[
        list[str], typer.Option("--mailbox", help="A mailbox that Google's stand-in shall have; may be repeated.")
    ] = ["me@example.com"],  # noqa: B006 # typer copies it
    latency: Annotated[float, typer.Option(min=0.0, help="Seconds that the stand-in takes for each call.")] = 0.15,
    intake_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The daemon's port; without it 5000 or, if taken, a free one.")
    ] = None,
    google_port: Annotated[int, typer.Option(min=0, max=65535, help="The stand-in's port; 0 takes a free one.")] = 0,
    database_port: Annotated[int, typer.Option(min=0, max=65535, help="The database's port; 0 takes a free one.")] = 0,
    config: Annotated[
        Path | None, typer.Option("--config", help="Taken as by every command; not read, the sandbox writes its own.")
    ] = None,
) -> None:
    """Try mailerd without Google: nothing leaves this machine."""
    if context.invoked_subcommand is not None:
        return
    if job is not None and not demo:
        raise typer.BadParameter("it says what --demo sends", param_hint="--job")
    if config is not None:
        print(tr(f"{config} is not read: the sandbox has a configuration of its own in {folder}"), file=sys.stderr)
    ports: dict[str, Any] = {
        "intake_port": intake_port, "google_port": google_port, "database_port": database_port,
    }  # fmt: skip
    sample = (job or packaged(DEMO)) if demo else None
    _run(demo=sample, then_exit=then_exit, folder=folder, mailboxes=tuple(mailboxes), latency_s=latency, **ports)


def _run(**options: Any) -> None:
    from mailerd.sandbox.demo import Options, run  # noqa: PLC0415 # a daemon never loads the stand-in

    raise typer.Exit(run(Options(**options)))
