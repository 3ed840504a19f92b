"""`mailerd sandbox`: a stand-in for Google and a private database on loopback, and the demonstration."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def sandbox(
    *,
    demo: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Also run a daemon and send this job (JSON as it is posted)."),
    ] = None,
    then_exit: Annotated[
        bool, typer.Option("--exit", help="End after the demonstration's summary; 1 unless every letter was sent once.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where database, configuration, letters and logs are kept.")] = Path(
        ".sandbox"
    ),
    mailbox: Annotated[
        list[str], typer.Option(help="A mailbox that Google's stand-in shall have; may be repeated.")
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
    from mailerd.sandbox.demo import Options, run  # noqa: PLC0415 # a daemon never loads the stand-in

    if config is not None:
        print(f"{config} is not read: the sandbox has a configuration of its own in {folder}", file=sys.stderr)
    options = Options(
        demo=demo,
        then_exit=then_exit,
        folder=folder,
        mailboxes=tuple(mailbox),
        latency_s=latency,
        intake_port=intake_port,
        google_port=google_port,
        database_port=database_port,
    )
    raise typer.Exit(run(options))
