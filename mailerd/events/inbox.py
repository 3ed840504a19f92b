"""What is said of inboxes: which are read, and what was found in them."""

from mailerd.core.i18n import N_
from mailerd.events.base import Code, EventEmitter, Seconds, event


class InboxEvents(EventEmitter):
    """What the inbox reader met."""

    @event("info", N_("inbox of {sender} opened with {scope}"))
    def inbox_opened(self, *, sender: str, scope: str) -> None: ...

    @event(
        "info",
        N_(
            "inbox of {sender} not read: authorized for neither gmail.readonly nor gmail.metadata; bounces and replies stay unknown"
        ),
    )
    def inbox_not_allowed(self, *, sender: str) -> None: ...

    @event("warning", N_("inbox of {sender} not readable: {cause}; next attempt in {again_in}"))
    def inbox_unreadable(self, *, sender: str, cause: str, again_in: Seconds) -> None: ...

    @event("info", N_("inbox of {sender} readable again"))
    def inbox_readable_again(self, *, sender: str) -> None: ...

    @event("info", N_("job {job}: {to} (recipient {recipient}) bounced: {kind} {code} {reason}"))
    def message_bounced(
        self, *, job: str, recipient: int, to: str, kind: Code, code: str, reason: str
    ) -> None: ...

    @event(
        "info",
        N_("job {job}: copy to {to} (recipient {recipient}) bounced: {kind} {code} {reason}"),
    )
    def copy_bounced(
        self, *, job: str, recipient: int, to: str, kind: Code, code: str, reason: str
    ) -> None: ...

    @event("info", N_("job {job}: {to} (recipient {recipient}) {result}, by {by}"))
    def message_replied(
        self, *, job: str, recipient: int, to: str, result: Code, by: str
    ) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}) returned by Google: sending limit reached; {then}"
        ),
    )
    def message_returned(
        self, *, job: str, recipient: int, to: str, sender: str, then: str
    ) -> None: ...

    @event(
        "warning",
        N_("sender {sender} paused for {seconds} after a notice in its inbox ({pause}): {reason}"),
    )
    def sender_paused_by_notice(
        self, *, sender: str, pause: Code, reason: str, seconds: Seconds
    ) -> None: ...

    @event("warning", N_("job {job} paused: {reason}"))
    def job_paused_for_bounces(self, *, job: str, sender: str, reason: str) -> None: ...

    @event("warning", N_("job {job}: {reason}"))
    def job_bounces(self, *, job: str, sender: str, reason: str) -> None: ...

    @event(
        "info",
        N_(
            "job {job} held for up to {seconds}: {notices} messages arrived at {sender} and are read first"
        ),
    )
    def job_held(self, *, job: str, sender: str, notices: int, seconds: Seconds) -> None: ...

    @event(
        "warning",
        N_(
            "notice {gmail_id} in {sender} not verified ({kind}, about the message to {to}); nothing changed"
        ),
    )
    def notice_not_verified(self, *, sender: str, gmail_id: str, kind: Code, to: str) -> None: ...

    @event("warning", N_("notice {gmail_id} in {sender} skipped after 3 failed reads: {cause}"))
    def notice_skipped(self, *, sender: str, gmail_id: str, cause: str) -> None: ...

    @event("warning", N_("inbox of {sender}: history expired at Google; reading back to {since}"))
    def history_expired(self, *, sender: str, since: str) -> None: ...

    @event(
        "error", N_("notice {gmail_id} in {sender}: internal error; please report the traceback")
    )
    def notice_crashed(self, *, sender: str, gmail_id: str, error: BaseException) -> None: ...

    @event(
        "error",
        N_(
            "{what}: internal error, sending not affected, next attempt in {again_in}; please report the traceback"
        ),
    )
    def inbox_crashed(self, *, what: str, again_in: Seconds, error: BaseException) -> None: ...

    @event("warning", N_("{what} failed: {error}; next attempt in {again_in}"))
    def inbox_step_failed(self, *, what: str, again_in: Seconds, error: BaseException) -> None: ...
