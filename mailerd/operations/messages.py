"""Single messages: what a person confirms of one, and its cancellation.

Another's message is as good as none.
"""

from mailerd.core.i18n import t
from mailerd.core.states import State, Transition
from mailerd.errors import MailerdError
from mailerd.events.worker import RunnerEvents
from mailerd.operations.caller import Caller, operation
from mailerd.store.queue import recovery
from mailerd.store.queue.recovery import ManualResolution
from mailerd.store.read.history import HistoryReader, RecipientHistory
from mailerd.store.write.api_keys import Permission
from mailerd.store.write.job_actions import CancelledMessage
from mailerd.store.write.job_changes import say_finished


class UnknownMessageError(MailerdError):
    """The caller sees no such message."""


async def find(by: Caller, which: int) -> RecipientHistory:
    """The message of an id.

    Raises:
        UnknownMessageError: there is none.
    """
    found = await HistoryReader(by.backend.database, by.backend.timeout).of_recipient(which)
    if not found or (by.key and not by.key.may_send(found[0].from_address or found[0].sender)):
        raise UnknownMessageError(t("recipient {recipient} not found", recipient=which))
    return found[0]


@operation(Permission.CONTROL)
async def settle(
    by: Caller,
    message: RecipientHistory,
    *,
    sent: bool,
    attempt: int,
    message_id: str | None = None,
) -> ManualResolution:
    """Write what a person has seen in the mailbox.

    `attempt`: the one that it is about, of those of the message.

    Raises:
        NotUnsureError: its state is certain, or it was retried since.
    """
    done = await recovery.settle(
        by.backend.database,
        message.id,
        change=Transition.FOUND if sent else Transition.MISSING,
        actor=by.actor,
        message_id=message_id,
        attempt=attempt,
    )
    _tell(by, message, "settle", done.status)
    say_finished(RunnerEvents(by.backend.events.sink), done.finished)
    by.backend.wake()
    return done


@operation(Permission.CONTROL)
async def cancel(by: Caller, message: RecipientHistory) -> CancelledMessage:
    """Cancel a message that waits; the others of its job are sent.

    Raises:
        NotWaitingError: it is being sent, or has ended.
    """
    done = await by.backend.actions.cancel_message(message.id, actor=by.actor)
    if done.changed:
        _tell(by, message, "cancel", State.CANCELLED)
    say_finished(RunnerEvents(by.backend.events.sink), done.finished)
    return done


def _tell(by: Caller, message: RecipientHistory, action: str, status: State) -> None:
    by.backend.events.job_action(
        job=message.job_id,
        action=action,
        actor=by.actor,
        messages=1,
        status=status.value,
        via=by.via.value,
    )
