"""`mailerd sandbox`: a stand-in for Google and a private database, the demonstration, faults and
notices on demand.
"""

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from yarl import URL

from mailerd.cli.common import ConfigOption, settings
from mailerd.cli.lazy_group import use_config
from mailerd.cli.output import JsonOption, echo, print_json
from mailerd.core.i18n import Text, joined, t, tn
from mailerd.core.network_rules import is_loopback
from mailerd.errors import MailerdError
from mailerd.locale import say
from mailerd.ops.packaged_files import packaged

DEMO: Final = "examples/welcome.json"
"""The job of the demonstration, as it lies in a checkout and in the wheel."""

_TIMEOUT: Final = 5.0
"""Seconds for the stand-in, which is on this machine."""
_OK: Final = 200

app = typer.Typer(
    help="Try mailerd without Google; nothing leaves this machine.", invoke_without_command=True
)


@app.callback()
def sandbox(
    context: typer.Context,
    *,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Also run a daemon, and send a sample job of 240 messages."),
    ] = False,
    job: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="With --demo: send this job instead (JSON, as for the API).",
        ),
    ] = None,
    then_exit: Annotated[
        bool,
        typer.Option(
            "--exit",
            help="Stop after the summary of the demo. The exit code is 1 unless every message was sent once.",
        ),
    ] = False,
    folder: Annotated[
        Path, typer.Option(help="The folder for database, configuration, messages and logs.")
    ] = Path(".sandbox"),
    mailboxes: Annotated[
        list[str],
        typer.Option("--mailbox", help="A mailbox of the simulated Google. Can be repeated."),
    ] = ["me@example.com"],  # noqa: B006 # typer copies it
    latency: Annotated[
        float, typer.Option(min=0.0, help="Seconds that the simulated Google takes for each call.")
    ] = 0.15,
    intake_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The daemon's port. Default: 5000, or a free one if 5000 is in use.",
        ),
    ] = None,
    google_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port of the simulated Google; 0 takes a free one."
        ),
    ] = 0,
    database_port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port of the database; 0 takes a free one.")
    ] = 0,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Accepted as by every command, but not read: the sandbox writes its own.",
        ),
    ] = None,
) -> None:
    """Try mailerd without Google; nothing leaves this machine."""
    if context.invoked_subcommand is not None:
        use_config(config)
        return
    if job is not None and not demo:
        raise typer.BadParameter(t("requires --demo"), param_hint="--job")
    if config is not None:
        echo(
            t(
                "{file} is not read: the sandbox has its own configuration in {folder}",
                file=config,
                folder=folder,
            ),
            err=True,
        )
    from mailerd.sandbox.demo import Options, run  # noqa: PLC0415 # a daemon never loads the stand-in

    options = Options(
        demo=(job or packaged(DEMO)) if demo else None,
        then_exit=then_exit,
        folder=folder,
        mailboxes=tuple(mailboxes),
        latency_s=latency,
        intake_port=intake_port,
        google_port=google_port,
        database_port=database_port,
    )
    raise typer.Exit(run(options))


@app.command()
def fault(
    kind: Annotated[
        str, typer.Argument(help="The kind of fault: `mailerd sandbox faults --kinds` lists them.")
    ],
    *,
    method: Annotated[
        str,
        typer.Option(
            help="Only calls of this method: drafts.create, drafts.send … or token. Default: all."
        ),
    ] = "",
    sender: Annotated[str, typer.Option(help="Only calls of this mailbox. Default: all.")] = "",
    count: Annotated[
        int, typer.Option(min=-1, help="How many times; -1 means until the fault is cleared.")
    ] = 1,
    skip: Annotated[int, typer.Option(min=0, help="Let this many requests pass first.")] = 0,
    probability: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Probability for each request after that; 1 means always."
        ),
    ] = 1.0,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds of latency, of a hang or of a late response.")
    ] = 60.0,
    config: ConfigOption = None,
) -> None:
    """Set a fault of the simulated Google: for the next call, or for as many calls as you say."""
    from mailerd.sandbox.google.faults import KINDS  # noqa: PLC0415 # a daemon never loads the stand-in

    if kind not in KINDS:
        choices = ", ".join(KINDS)
        raise typer.BadParameter(
            t("{value} is not one of {choices}", value=kind, choices=choices), param_hint="kind"
        )
    wanted = {
        "kind": kind,
        "method": method,
        "sender": sender,
        "count": count,
        "skip": skip,
        "probability": probability,
        "seconds": seconds,
    }
    print(_line(_Control(settings(config).gmail.api_root).ask("POST", "faults", wanted)))


@app.command()
def faults(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Clear all faults.")] = False,
    kinds: Annotated[bool, typer.Option("--kinds", help="List all kinds of faults.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the faults that are set and those that are over, or clear them."""
    if kinds:
        from mailerd.sandbox.google.faults import WHAT_HAPPENS  # noqa: PLC0415 # a daemon never loads the stand-in

        if as_json:
            print_json({"kinds": {kind: say(t(words)) for kind, words in WHAT_HAPPENS.items()}})
            return
        width = max(map(len, WHAT_HAPPENS))
        for kind, words in WHAT_HAPPENS.items():
            echo(f"{kind:{width}}  {say(t(words))}")
        return
    control = _Control(settings(config).gmail.api_root)
    if clear:
        control.ask("DELETE", "faults")
    found = control.ask("GET", "faults")
    if as_json:
        print_json(found)
        return
    for it in (*found["faults"], *found["spent"]):
        echo(_line(it))
    if not (found["faults"] or found["spent"]):
        echo(t("no faults set"))


@app.command()
def notice(
    shape: Annotated[
        str,
        typer.Argument(help="What arrives: hard, limit, reply, auto_reply …; `shapes` lists all."),
    ],
    *,
    to: Annotated[
        str, typer.Option(help="Only about messages to addresses that contain this.")
    ] = "",
    sender: Annotated[str, typer.Option(help="Only into this mailbox. Default: all.")] = "",
    count: Annotated[
        int,
        typer.Option(min=1, help="About this many messages: the newest that have no result yet."),
    ] = 1,
    config: ConfigOption = None,
) -> None:
    """Put a bounce, a limit notice, a reply or a forgery into the mailboxes of the simulated Google."""
    if shape == "shapes":
        from mailerd.sandbox.google.notices import SHAPES  # noqa: PLC0415 # a daemon never loads the stand-in

        print("\n".join(SHAPES))
        return
    wanted = {"shape": shape, "to": to, "sender": sender, "count": count}
    came = _Control(settings(config).gmail.api_root).ask("POST", "notices", wanted)["notices"]
    echo(tn("{n} notice arrived", "{n} notices arrived", came))


@app.command()
def mailbox(
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    revoke: Annotated[
        bool | None, typer.Option("--revoke/--restore", help="Revoke or restore its authorization.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Revoke the authorization of a mailbox at the simulated Google, as its owner would, or restore it."""
    if revoke is None:
        raise typer.BadParameter(t("give one of the two"), param_hint="--revoke/--restore")
    _Control(settings(config).gmail.api_root).ask(
        "PATCH", f"mailboxes/{email}", {"revoked": revoke}
    )
    if revoke:
        echo(t("authorization of {sender} revoked", sender=email))
    else:
        echo(t("authorization of {sender} restored", sender=email))


def _line(it: dict[str, Any]) -> Text:
    parts = [
        f"{it['id']}: {it['kind']}",
        t("calls of {method}", method=it["method"]) if it["method"] else t("all calls"),
        t("sender {sender}", sender=it["sender"]) if it["sender"] else t("all senders"),
        t("until cleared") if it["count"] < 0 else tn("{n:,} time", "{n:,} times", it["count"]),
        tn("occurred {n:,} time", "occurred {n:,} times", it["struck"]),
    ]
    return joined(parts, ", ")


class _Control:
    """The control calls of the stand-in; Google itself is asked nothing here."""

    def __init__(self, api_root: str) -> None:
        self._url = URL(api_root)
        if not is_loopback(self._url.host or ""):
            raise MailerdError(
                t(
                    "gmail.api_root is {url}, which is not a sandbox: run this in the folder of a running sandbox",
                    url=api_root,
                )
            )

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call it.

        Raises:
            MailerdError: it refuses, or is not there.
        """
        connection = HTTPConnection(self._url.host or "", self._url.port, timeout=_TIMEOUT)
        try:
            connection.request(
                verb, f"/sandbox/{path}", json.dumps(body) if body is not None else None
            )
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, ValueError) as error:
            raise MailerdError(
                t(
                    "no sandbox is responding at {url}: {cause}; start `mailerd sandbox`",
                    url=self._url,
                    cause=str(error),
                )
            ) from error
        finally:
            connection.close()
        if response.status != _OK:
            why = str(answer.get("error", response.reason))
            raise MailerdError(t("the sandbox rejected this: {why}", why=why))
        return answer
