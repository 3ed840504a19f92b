"""Events of the runner, the recorder and the recovery, of Gmail and of the renderer."""

from mailerd.core.i18n import N_
from mailerd.events.base import Bug, Code, EventEmitter, Jobs, Messages, Recipients, Seconds, event

# Events of the Gmail client.


class GmailEvents(EventEmitter):
    """Sign-ins, tokens, credential files and failed calls; never a secret."""

    @event("info", N_("sender {sender} authorized by Google: {mode} mode, scopes {scopes}"))
    def sender_authenticated(self, *, sender: str, mode: Code, scopes: str) -> None: ...

    @event(
        "error",
        N_(
            "sender {sender} not used: {file} opens the mailbox {address}; run `mailerd auth login --sender {sender}`, or add the address to gmail.aliases"
        ),
    )
    def mailbox_wrong(self, *, sender: str, address: str, file: str) -> None: ...

    @event(
        "info",
        N_(
            "sender {sender}: mailbox not verified: the scope gmail.send does not show whose it is; gmail.compose does"
        ),
    )
    def mailbox_unverified(self, *, sender: str) -> None: ...

    @event(
        "debug",
        N_("sender {sender}: access token refreshed in {seconds:.3f} s, valid for {good_for}"),
    )
    def token_refreshed(self, *, sender: str, seconds: float, good_for: Seconds) -> None: ...

    @event(
        "info",
        N_("sender {sender}: credential file {file} changed; the next call authorizes with it"),
    )
    def credentials_changed(self, *, sender: str, file: str) -> None: ...

    @event("debug", N_("sender {sender}: {call} succeeded in {seconds:.3f} s"))
    def google_call_succeeded(self, *, sender: str, call: str, seconds: float) -> None: ...

    @event(
        "debug", N_("sender {sender}: {call} failed after {seconds:.3f} s: {outcome}: {excerpt}")
    )
    def google_call_failed(
        self, *, sender: str, call: str, outcome: str, excerpt: str, seconds: float
    ) -> None: ...

    @event(
        "error",
        N_(
            "sender {sender}: internal error in {call}, treated as {outcome}: {error}; please report the traceback"
        ),
    )
    def google_call_crashed(self, *, sender: str, call: str, outcome: str, error: Bug) -> None: ...


# Events of the processes that run clients' templates.


class RendererEvents(EventEmitter):
    """The child processes that render templates: their ends, and that they do not start."""

    @event(
        "warning",
        N_("renderer {renderer} ended while rendering for {origin}: {cause}; starting another"),
    )
    def renderer_ended(self, *, renderer: str, origin: str, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "renderer {renderer} ended {count} times within a minute, last while rendering for {origin}: {cause}"
        ),
    )
    def renderer_ends_often(
        self, *, renderer: str, origin: str, count: int, cause: str
    ) -> None: ...

    @event(
        "error",
        N_(
            "renderer {renderer} could not be started: {cause}; no template can be rendered, next attempt in {again_in}"
        ),
    )
    def renderer_not_started(self, *, renderer: str, cause: str, again_in: Seconds) -> None: ...

    @event(
        "error",
        N_(
            "renderer {renderer}: internal error while rendering for {origin}, messages requeued; please report the traceback"
        ),
    )
    def renderer_crashed(self, *, renderer: str, origin: str, error: BaseException) -> None: ...


class RunnerEvents(EventEmitter):
    """What happens to a message, in order."""

    @event(
        "info",
        N_(
            "runner started: polling every {poll_interval:g} s, concurrency {concurrency}, daemon {daemon}"
        ),
    )
    def runner_started(self, *, poll_interval: float, concurrency: int, daemon: str) -> None: ...

    @event("warning", N_("runner not started: already running in this process"))
    def runner_already_running(self) -> None: ...

    @event(
        "debug",
        N_("heartbeat: {polls} polls, {idle} idle since the last message, {in_flight} in flight"),
    )
    def heartbeat(self, *, polls: int, idle: int, in_flight: Messages) -> None: ...

    @event(
        "info",
        N_(
            "running: {polls} polls, {sent} sent and {failed} failed by this daemon so far, {in_flight} in flight"
        ),
    )
    def alive(self, *, polls: int, sent: int, failed: int, in_flight: Messages) -> None: ...

    @event("info", N_("job {job} found: type {type}, sender {sender}, {total}"))
    def job_found(
        self,
        *,
        job: str,
        type: str,  # noqa: A002 - the table's word
        sender: str,
        total: Recipients,
        age: float,
    ) -> None: ...

    @event("info", N_("claimed {messages} from {jobs}"))
    def claimed(self, *, messages: Messages, jobs: Jobs, token: str) -> None: ...

    @event(
        "info",
        N_("job {job} [{number}/{total}]: {to} (recipient {recipient}) started, attempt {attempt}"),
    )
    def message_started(
        self,
        *,
        job: str,
        recipient: int,
        to: str,
        sender: str,
        number: int,
        total: int,
        attempt: int,
    ) -> None: ...

    @event(
        "success",
        N_(
            "job {job} [{done}/{total}]: {to} (recipient {recipient}) sent, message_id {message_id}"
        ),
    )
    def message_sent(
        self,
        *,
        job: str,
        recipient: int,
        to: str,
        sender: str,
        done: int,
        total: int,
        message_id: str,
    ) -> None: ...

    @event("error", N_("job {job} [{done}/{total}]: {to} (recipient {recipient}) failed: {cause}"))
    def message_failed(
        self, *, job: str, recipient: int, to: str, sender: str, done: int, total: int, cause: str
    ) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}) deferred for {again_in} after attempt {attempt}: {cause}"
        ),
    )
    def message_deferred(
        self,
        *,
        job: str,
        recipient: int,
        to: str,
        sender: str,
        attempt: int,
        again_in: Seconds,
        cause: str,
    ) -> None: ...

    @event(
        "info", N_("job {job}: {to} (recipient {recipient}) requeued, attempt not counted: {cause}")
    )
    def message_released(
        self, *, job: str, recipient: int, to: str, sender: str, cause: str
    ) -> None: ...

    @event(
        "info",
        N_(
            "job {job}: draft {draft} of {to} (recipient {recipient}) deleted, the next attempt creates another: {cause}"
        ),
    )
    def draft_discarded(
        self, *, job: str, recipient: int, to: str, sender: str, draft: str, cause: str
    ) -> None: ...

    @event(
        "warning",
        N_("job {job}: {to} (recipient {recipient}) unconfirmed: {cause}; next check in {look_in}"),
    )
    def message_unsure(
        self, *, job: str, recipient: int, to: str, sender: str, cause: str, look_in: Seconds
    ) -> None: ...

    @event("info", N_("job {job}: {to} (recipient {recipient}) confirmed as sent ({proof})"))
    def message_found(
        self, *, job: str, recipient: int, to: str, sender: str, proof: Code
    ) -> None: ...

    @event(
        "info",
        N_("job {job}: {to} (recipient {recipient}) cancelled with its job, not sent: {cause}"),
    )
    def message_cancelled(
        self, *, job: str, recipient: int, to: str, sender: str, cause: str
    ) -> None: ...

    @event("info", N_("job {job}: {to} (recipient {recipient}) cancelled, not sent: {cause}"))
    def message_suppressed(
        self, *, job: str, recipient: int, to: str, sender: str, cause: str
    ) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}): claim lost; {change} recorded in `attempts` only"
        ),
    )
    def message_claim_lost(self, *, job: str, recipient: int, to: str, change: str) -> None: ...

    @event(
        "warning",
        N_("job {job}: {to} (recipient {recipient}): claim lost; next request to Google not made"),
    )
    def message_handover_lost(self, *, job: str, recipient: int, to: str) -> None: ...

    @event(
        "critical",
        N_(
            "job {job}: {to} (recipient {recipient}): internal error, {then}: {error}; please report the traceback"
        ),
    )
    def message_crashed(
        self, *, job: str, recipient: int, to: str, then: str, error: Bug
    ) -> None: ...

    @event(
        "success",
        N_("job {job} finished in {seconds}: {sent} sent, {failed} failed, {cancelled} cancelled"),
    )
    def job_finished(
        self, *, job: str, sent: int, failed: int, cancelled: int, seconds: Seconds
    ) -> None: ...

    @event("error", N_("sender {sender} paused for {seconds} ({cause}): {reason}"), by="cause")
    def sender_paused(self, *, sender: str, seconds: Seconds, cause: Code, reason: str) -> None: ...

    @event(
        "critical",
        N_(
            "Cloud project quota exhausted: all its senders paused for {seconds} ({cause}): {reason}; to retry now: `mailerd senders resume {sender}`"
        ),
    )
    def project_paused(
        self, *, sender: str, seconds: Seconds, cause: Code, reason: str
    ) -> None: ...

    @event("info", N_("sender {sender} resumed after {seconds} ({cause})"))
    def sender_resumed(self, *, sender: str, seconds: Seconds, cause: Code) -> None: ...

    @event("error", N_("Google unreachable: {cause}; not claiming for {seconds}"))
    def google_unreachable(self, *, seconds: Seconds, cause: str) -> None: ...

    @event("warning", N_("Google still unreachable after {seconds}: {cause}"))
    def google_still_unreachable(self, *, seconds: Seconds, cause: str) -> None: ...

    @event("info", N_("Google reachable again after {seconds}"))
    def google_back(self, *, seconds: Seconds) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}) was in flight in {after} daemon crashes; retrying it alone"
        ),
    )
    def message_tried_alone(self, *, job: str, recipient: int, to: str, after: int) -> None: ...

    @event(
        "warning",
        N_("sender {sender}: {cause}; its messages wait for {seconds}, other senders continue"),
    )
    def sender_unreachable(self, *, sender: str, seconds: Seconds, cause: str) -> None: ...

    @event("info", N_("sender {sender}: access token available again after {seconds}"))
    def sender_reachable(self, *, sender: str, seconds: Seconds) -> None: ...

    @event(
        "warning",
        N_(
            "leases of {messages} not renewed: {cause}; not sending where a lease could expire before the response"
        ),
    )
    def leases_not_renewed(self, *, messages: Messages, cause: str) -> None: ...

    @event("info", N_("draining: no new claims; up to {timeout:g} s for {in_flight} in flight"))
    def draining(self, *, in_flight: Messages, timeout: float) -> None: ...

    @event(
        "warning",
        N_(
            "drain cut off after {timeout:g} s with {in_flight} in flight; the recovery checks them"
        ),
    )
    def drain_cut_off(self, *, in_flight: Messages, timeout: float) -> None: ...

    @event(
        "warning",
        N_("jobs not marked as completed while stopping: {cause}; the next daemon marks them"),
    )
    def jobs_left_open(self, *, cause: str) -> None: ...

    @event("info", N_("stopped: {sent} sent, {failed} failed by this daemon"))
    def stopped(self, *, sent: int, failed: int) -> None: ...

    @event("warning", N_("{what} failed: {error}; next attempt in {again_in:g} s"))
    def step_failed(self, *, what: str, again_in: float, error: BaseException) -> None: ...


class RecoveryEvents(EventEmitter):
    """What the recovery found and corrected."""

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}): lease expired on daemon {owner}, attempt {attempt}: {then}"
        ),
    )
    def lease_lapsed(
        self, *, job: str, recipient: int, to: str, sender: str, attempt: int, owner: str, then: str
    ) -> None: ...

    @event("info", N_("job {job}: {to} (recipient {recipient}) confirmed as not sent; requeued"))
    def message_missing(self, *, job: str, recipient: int, to: str, sender: str) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}) still unconfirmed after check {checks}: {cause}; next check in {again_in}"
        ),
    )
    def message_still_unsure(
        self,
        *,
        job: str,
        recipient: int,
        to: str,
        sender: str,
        checks: int,
        cause: str,
        again_in: Seconds,
    ) -> None: ...

    @event(
        "critical",
        N_(
            "job {job}: {to} (recipient {recipient}) could not be confirmed; check Sent in {sender}, then run `mailerd settle {recipient} --sent` or `--not-sent`"
        ),
    )
    def message_unresolved(self, *, job: str, recipient: int, to: str, sender: str) -> None: ...

    @event(
        "warning",
        N_(
            "job {job}: {to} (recipient {recipient}) was recorded as sent, but draft {draft} is still in {sender}: not sent, {then}"
        ),
    )
    def message_undone(
        self, *, job: str, recipient: int, to: str, sender: str, draft: str, then: str
    ) -> None: ...

    @event("warning", N_("job {job} was stuck: due messages could not be claimed; requeued"))
    def job_stuck(self, *, job: str) -> None: ...

    @event(
        "info",
        N_(
            "sender {sender}: orphan draft {draft} deleted: message {key} has another draft or is finished"
        ),
    )
    def orphan_deleted(self, *, sender: str, draft: str, key: str) -> None: ...

    @event("warning", N_("sender {sender}: orphan drafts not searched: {cause}"))
    def orphans_not_searched(self, *, sender: str, cause: str) -> None: ...
