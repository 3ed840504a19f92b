"""What is said of webhooks."""

from mailerd.core.i18n import N_
from mailerd.events.base import EventEmitter, Events, Seconds, event


class WebhookEvents(EventEmitter):
    """Deliveries of events to the endpoints of applications."""

    @event(
        "debug",
        N_("webhook {webhook}: event {uid} ({event_type}) delivered in {ms} ms, attempt {number}"),
    )
    def webhook_delivered(
        self, *, webhook: str, uid: str, event_type: str, number: int, ms: int
    ) -> None: ...

    @event(
        "debug",
        N_(
            "webhook {webhook}: event {uid} ({event_type}) deferred for {again_in} after attempt {number}: {cause}"
        ),
    )
    def webhook_attempt_failed(
        self, *, webhook: str, uid: str, event_type: str, number: int, cause: str, again_in: Seconds
    ) -> None: ...

    @event(
        "warning",
        N_(
            "webhook {webhook} failing ({url}): {failures} attempts in a row, last: {cause}; its events are kept, one attempt at a time tests whether it is back"
        ),
    )
    def webhook_failing(self, *, webhook: str, url: str, failures: int, cause: str) -> None: ...

    @event("info", N_("webhook {webhook} accepts events again after {seconds}"))
    def webhook_recovered(self, *, webhook: str, seconds: Seconds) -> None: ...

    @event(
        "error",
        N_(
            "webhook {webhook} paused after failing for {seconds}: {cause} ({url}); fix the endpoint, then run `mailerd webhooks resume {webhook}`"
        ),
    )
    def webhook_paused(self, *, webhook: str, url: str, seconds: Seconds, cause: str) -> None: ...

    @event(
        "warning",
        N_(
            "webhook {webhook} responded 410 and receives no more events ({url}); remove it, or run `mailerd webhooks resume {webhook}`"
        ),
    )
    def webhook_gone(self, *, webhook: str, url: str) -> None: ...

    @event(
        "warning",
        N_(
            "webhook {webhook}: event {uid} ({event_type}) given up after attempt {number}: {cause}; to deliver it again: `mailerd webhooks replay {webhook} --failed`"
        ),
    )
    def webhook_event_given_up(
        self, *, webhook: str, uid: str, event_type: str, number: int, cause: str
    ) -> None: ...

    @event(
        "warning",
        N_(
            "webhook {webhook}: {events} not delivered were deleted, older than {days} days; the endpoint is paused"
        ),
    )
    def webhook_events_expired(self, *, webhook: str, events: Events, days: int) -> None: ...

    @event("warning", N_("{what} failed: {cause}; next attempt in {again_in:g} s"))
    def webhook_step_failed(self, *, what: str, again_in: float, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "webhook {webhook}: internal error while delivering event {uid}, it is retried; please report the traceback"
        ),
    )
    def webhook_crashed(self, *, webhook: str, uid: str, error: BaseException) -> None: ...
