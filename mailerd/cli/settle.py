"""`mailerd settle`: a person says what became of a letter, where only a person can know."""

import re
from typing import Annotated

import typer

from mailerd.cli.common import ConfigOption, open_database, run_async, settings, warnings_only
from mailerd.cli.job_actions import asked_by
from mailerd.config import Settings
from mailerd.core.states import State, Transition
from mailerd.store.queue.complete_jobs import complete
from mailerd.store.queue.manual_resolution import settle as write
from mailerd.texts import tr


def settle(
    recipient: Annotated[int, typer.Argument(help="The recipient's id, as the log and the API show it.")],
    *,
    sent: Annotated[bool, typer.Option("--sent", help="The letter stands in the mailbox's sent mail.")] = False,
    not_sent: Annotated[bool, typer.Option("--not-sent", help="It does not, and goes out again.")] = False,
    message_id: Annotated[str | None, typer.Option(help="Google's id of the message, with --sent.")] = None,
    config: ConfigOption = None,
) -> None:
    """Record what became of an unsure letter, once a person has looked."""
    if sent is not_sent:
        raise typer.BadParameter("say which: either --sent or --not-sent")
    if message_id and not sent:
        raise typer.BadParameter("--message-id goes with --sent")
    if message_id and not re.fullmatch(r"[\x21-\x7e]{1,128}", message_id):
        raise typer.BadParameter("--message-id takes up to 128 printable ASCII characters")
    run_async(_settle(settings(config), recipient, Transition.FOUND if sent else Transition.MISSING, message_id))


async def _settle(known: Settings, recipient: int, change: Transition, message_id: str | None) -> None:
    async with open_database(known, warnings_only(known).write) as database:
        settled = await write(database, recipient, change=change, message_id=message_id, actor=asked_by())
        print(tr(f"recipient {settled.recipient} ({settled.to_email}) of job {settled.job_id} is now {settled.status}"))
        if settled.status is State.SENT:
            # Once, not repeated until it is committed: the person who waits here reads at once that it is in doubt.
            for job in await database.transaction(
                lambda cursor: complete(cursor, [settled.job_id]), what=tr("finish jobs")
            ):
                print(tr(f"job {job.id} is completed: {job.sent} sent, {job.failed} failed"))
