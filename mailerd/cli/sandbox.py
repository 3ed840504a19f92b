"""`mailerd sandbox`: a stand-in for Google and a private database, the demonstration, faults and notices on demand."""

import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from yarl import URL

from mailerd.cli.common import ConfigOption, settings
from mailerd.cli.lazy_group import use_config
from mailerd.cli.output import print_json
from mailerd.cli.packaged import packaged
from mailerd.core.network_rules import is_loopback
from mailerd.core.quantities import counted
from mailerd.errors import MailerdError
from mailerd.texts import tr

DEMO: Final = "examples/welcome.json"
"""The job of the demonstration, as it lies in a checkout and in the wheel."""

_TIMEOUT: Final = 5.0
"""Seconds for the stand-in, which is on this machine."""
_OK: Final = 200

app = typer.Typer(help="Try mailerd without Google: nothing leaves this machine.", invoke_without_command=True)


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
        use_config(config)
        return
    if job is not None and not demo:
        raise typer.BadParameter("it says what --demo sends", param_hint="--job")
    if config is not None:
        print(tr(f"{config} is not read: the sandbox has a configuration of its own in {folder}"), file=sys.stderr)
    from mailerd.sandbox.demo import Options, run  # noqa: PLC0415 # a daemon never loads the stand-in

    options = Options(
        demo=(job or packaged(DEMO)) if demo else None, then_exit=then_exit, folder=folder, mailboxes=tuple(mailboxes),
        latency_s=latency, intake_port=intake_port, google_port=google_port, database_port=database_port,
    )  # fmt: skip
    raise typer.Exit(run(options))


@app.command()
def fault(
    kind: Annotated[str, typer.Argument(help="What goes wrong: `mailerd sandbox faults --kinds` lists them.")],
    *,
    method: Annotated[str, typer.Option(help="drafts.create, drafts.send … or token; without it, every one.")] = "",
    sender: Annotated[str, typer.Option(help="The mailbox that it is for; without it, every one.")] = "",
    count: Annotated[int, typer.Option(min=-1, help="How often; -1 until it is cleared.")] = 1,
    skip: Annotated[int, typer.Option(min=0, help="Requests that are spared before.")] = 0,
    probability: Annotated[float, typer.Option(min=0.0, max=1.0, help="1 for every request after that.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long a latency, a hang or a late answer lasts.")] = 60.0,
    config: ConfigOption = None,
) -> None:
    """Let something go wrong at the sandbox's Google: for the next call, or as often as you say."""
    wanted = {
        "kind": kind, "method": method, "sender": sender, "count": count, "skip": skip, "probability": probability,
        "seconds": seconds,
    }  # fmt: skip
    print(_line(_Control(settings(config).gmail.api_root).ask("POST", "faults", wanted)))


@app.command()
def faults(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Lift all of them.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="What can go wrong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the faults that are in force and those that have struck; or lift them."""
    if kinds:
        from mailerd.sandbox.google.faults import WHAT_HAPPENS  # noqa: PLC0415 # a daemon never loads the stand-in

        width = max(map(len, WHAT_HAPPENS))
        print("\n".join(f"{kind:{width}}  {tr(words)}" for kind, words in WHAT_HAPPENS.items()))
        return
    control = _Control(settings(config).gmail.api_root)
    if clear:
        control.ask("DELETE", "faults")
    found = control.ask("GET", "faults")
    if as_json:
        print_json(found)
        return
    for it in (*found["faults"], *found["spent"]):
        print(_line(it))
    if not (found["faults"] or found["spent"]):
        print(tr("nothing is to go wrong"))


@app.command()
def notice(
    shape: Annotated[
        str, typer.Argument(help="What comes back: hard, limit, reply, auto_reply … or `shapes`, a list.")
    ],
    *,
    to: Annotated[str, typer.Option(help="Only about letters to addresses that hold this.")] = "",
    sender: Annotated[str, typer.Option(help="The mailbox that it comes into; without it, every one.")] = "",
    count: Annotated[int, typer.Option(min=1, help="About so many letters, the oldest first.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Let something come back to the sandbox's mailboxes: a bounce, a limit notice, an answer, a forgery."""
    if shape == "shapes":
        from mailerd.sandbox.google.notices import SHAPES  # noqa: PLC0415 # a daemon never loads the stand-in

        print("\n".join(SHAPES))
        return
    wanted = {"shape": shape, "to": to, "sender": sender, "count": count}
    came = _Control(settings(config).gmail.api_root).ask("POST", "notices", wanted)["notices"]
    print(tr(f"it comes back {counted(came, 'time')}"))


@app.command()
def mailbox(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    revoke: Annotated[
        bool | None, typer.Option("--revoke/--restore", help="Whether Google honours the sign-in.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a mailbox's sign-in at the sandbox's Google, as its owner would, or restore it."""
    if revoke is None:
        raise typer.BadParameter("give one of the two", param_hint="--revoke/--restore")
    _Control(settings(config).gmail.api_root).ask("PATCH", f"mailboxes/{email}", {"revoked": revoke})
    print(tr(f"the sign-in of {email} is revoked") if revoke else tr(f"the sign-in of {email} is good again"))


def _line(it: dict[str, Any]) -> str:
    where = tr(f" in calls of {it['method']}") if it["method"] else ""
    whom = tr(f" for {it['sender']}") if it["sender"] else ""
    often = tr("until it is cleared") if it["count"] < 0 else tr(counted(it["count"], "time"))
    return tr(f"{it['id']}: {it['kind']}{where}{whom}, {often}, has struck {counted(it['struck'], 'time')}")


class _Control:
    """The control calls of the stand-in; Google itself is asked nothing here."""

    def __init__(self, api_root: str) -> None:
        self._url = URL(api_root)
        if not is_loopback(self._url.host or ""):
            raise MailerdError(
                f"gmail.api_root is {api_root}, which is no sandbox: call this in the folder of one that runs"
            )

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call it.

        Raises:
            MailerdError: it refuses, or is not there.
        """
        connection = HTTPConnection(self._url.host or "", self._url.port, timeout=_TIMEOUT)
        try:
            connection.request(verb, f"/sandbox/{path}", json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, ValueError) as error:
            raise MailerdError(f"no sandbox answers at {self._url}: {error}; start `mailerd sandbox`") from error
        finally:
            connection.close()
        if response.status != _OK:
            raise MailerdError(f"the sandbox refuses that: {answer.get('error', response.reason)}")
        return answer
