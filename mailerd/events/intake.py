"""Events of the HTTP API, the console and the unsubscribe pages."""

from mailerd.core.i18n import N_
from mailerd.events.base import (
    Addresses,
    Code,
    EventEmitter,
    Keys,
    Messages,
    Recipients,
    Requests,
    event,
)

# What is said of suppressions and of the public site of unsubscribe links.


class SuppressionEvents(EventEmitter):
    """Who has opted out, and what the public site met."""

    @event("info", N_("public site listening on {where}"))
    def public_site_listening(self, *, where: str) -> None: ...

    @event("info", N_("suppression added: {address} for {mailing_list} ({reason}, by {source})"))
    def suppression_added(
        self, *, address: str, mailing_list: str, reason: Code, source: Code
    ) -> None: ...

    @event("info", N_("suppression removed: {address} for {mailing_list} (by {source})"))
    def suppression_removed(self, *, address: str, mailing_list: str, source: Code) -> None: ...

    @event("warning", N_("public site: {method} returned 503: {cause}"))
    def unsubscribe_unserved(self, *, method: str, cause: str) -> None: ...

    @event("error", N_("public site: internal error, returned 500; please report the traceback"))
    def unsubscribe_failed(self, *, error: BaseException) -> None: ...


# What is said of the console: who signs in, and what is changed there that no other event tells.


class WebEvents(EventEmitter):
    """Sessions, and changes that people make in the console."""

    @event("info", N_("console: {key} signed in from {address} by {way}"))
    def console_signed_in(self, *, key: str, address: str, way: str) -> None: ...

    @event("info", N_("console: {actor} changed {what}: {change}"))
    def console_changed(self, *, actor: str, what: str, change: Code) -> None: ...

    @event("info", N_("console: request from {address} refused: {reason}"))
    def console_refused(self, *, reason: str, address: str) -> None: ...


class IntakeEvents(EventEmitter):
    """Requests, what was accepted of them, and what could not be answered."""

    @event("info", N_("API listening on {where}"))
    def intake_listening(self, *, where: str) -> None: ...

    @event("info", N_("API stopped; open requests were finished"))
    def intake_stopped(self) -> None: ...

    @event(
        "info",
        N_("job {job} accepted: {accepted} of {total} from {sender}, due {due}, in {ms:.0f} ms"),
    )
    def job_accepted(
        self,
        *,
        job: str,
        sender: str,
        total: Messages,
        accepted: int,
        due: str,
        ms: float,
        key: str,
        request: str,
    ) -> None: ...

    @event("info", N_("job {job}: key {key} overrode suppressions: also sent to {overridden}"))
    def suppressions_overridden(
        self, *, job: str, overridden: Recipients, key: str, request: str
    ) -> None: ...

    @event("info", N_("request {request} refused with {status} {code}: {reason}"))
    def request_refused(self, *, request: str, status: int, code: str, reason: str) -> None: ...

    @event("warning", N_("request {request} returned 503: {cause}"))
    def request_unserved(self, *, request: str, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "job {job}: unknown whether it is stored: COMMIT got no response and the check failed: {cause}"
        ),
    )
    def job_in_doubt(self, *, job: str, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "request {request} ({method} {path}): internal error, returned 500; please report the traceback"
        ),
    )
    def request_failed(
        self, *, request: str, method: str, path: str, error: BaseException
    ) -> None: ...

    @event(
        "info",
        N_(
            "{method} {path}: {status} in {ms:.1f} ms, {size} bytes, for {caller} at {address} (request {request})"
        ),
    )
    def request_answered(
        self,
        *,
        method: str,
        path: str,
        status: int,
        ms: float,
        size: int,
        caller: str,
        address: str,
        request: str,
    ) -> None: ...

    @event("debug", N_("{method} {path}: {status} in {ms:.1f} ms (request {request})"))
    def probe_answered(
        self, *, method: str, path: str, status: int, ms: float, request: str
    ) -> None: ...

    @event(
        "debug",
        N_(
            "{method} {path}: {status} in {ms:.1f} ms, no verified API key, from {address}, one of many (request {request})"
        ),
    )
    def anonymous_answered(
        self, *, method: str, path: str, status: int, ms: float, address: str, request: str
    ) -> None: ...

    @event(
        "warning",
        N_(
            "{count} without a verified API key from {addresses} not logged one by one: {most} from {address}"
        ),
    )
    def requests_not_logged(
        self, *, count: Requests, addresses: Addresses, address: str, most: int
    ) -> None: ...

    @event("warning", N_("API key rejected: {method} {path} from {address}"))
    def key_refused(self, *, address: str, method: str, path: str) -> None: ...

    @event("info", N_("{key} reused an Idempotency-Key; returned job {job}"))
    def job_repeated(self, *, job: str, key: str, request: str) -> None: ...

    @event("info", N_("malformed HTTP from {address}, returned 400: {reason}"))
    def request_malformed(self, *, address: str, reason: str) -> None: ...

    @event("error", N_("connection closed: internal error: {what}; please report the traceback"))
    def connection_failed(self, *, what: str, error: BaseException) -> None: ...

    @event("warning", N_("connection from {address} closed: {reason}"))
    def connection_too_slow(self, *, address: str, reason: str) -> None: ...

    @event("warning", N_("job {job}: no forecast: {cause}; responded without it"))
    def forecast_failed(self, *, job: str, cause: str) -> None: ...

    @event(
        "error",
        N_(
            "job {job}: internal error in the forecast, responded without it; please report the traceback"
        ),
    )
    def forecast_crashed(self, *, job: str, error: BaseException) -> None: ...

    @event("warning", N_("last_used_at of {keys} not written: {cause}"))
    def key_use_unwritten(self, *, keys: Keys, cause: str) -> None: ...
