"""Why something happened: a code with fields.

A row keeps them beside the English, for readers of any language.

A reason is a `Text` whose template stands here. Its fields may be other texts (what a library said,
what went wrong before): those are kept whole. What is read from a row is a `Text` again.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from mailerd.core.i18n import N_, Text, t, visible

REASONS: Final[Mapping[str, str]] = {
    # What Google said; `said` is its status and its words.
    "google_silent": N_("no response from Google: {cause}"),
    "google_unreachable": N_("Google unreachable: {cause}"),
    "google_error": N_("Google responded {said}"),
    "malformed_response": N_("Google's {status} response to {call} is incomplete: {excerpt}"),
    "no_access_token": N_("no access token: {cause}"),
    "owner_unknown": N_("the mailbox owner could not be verified: {cause}"),
    "token_endpoint_unavailable": N_("Google's token endpoint is unavailable ({said})"),
    "authorization_revoked": N_("Google has revoked the authorization ({said})"),
    "access_token_rejected": N_("Google rejected a new access token ({said})"),
    "client_rejected": N_(
        "Google rejected the OAuth client or service account ({said}); check its credential file"
    ),
    "no_credentials": N_("no usable credentials: {cause}"),
    "credentials_exposed": N_(
        "{path} can be read or written by others (mode {mode}) and is not used"
    ),
    "wrong_mailbox": N_("wrong mailbox: {cause}"),
    "throttled": N_("throttled by Google ({said})"),
    "daily_limit": N_("Google's sending limit reached ({said})"),
    "too_many_concurrent": N_("too many requests at once ({said})"),
    "project_limit": N_("Cloud project quota exhausted ({said})"),
    "scope_missing": N_("the authorization lacks the scope {scope} ({said})"),
    "gmail_api_disabled": N_("the Gmail API is not enabled in the Cloud project ({said})"),
    "gmail_disabled": N_(
        "this mailbox cannot send ({said}); check that Gmail is enabled for it, and that the service account has a "
        "subject"
    ),
    "mailbox_rejected": N_(
        "Google rejects this mailbox ({said}); ask the domain's administrator to allow Gmail and the app"
    ),
    "mailbox_policy": N_(
        "the domain's administrator does not allow this app to use the mailbox ({said})"
    ),
    "domain_policy": N_("the domain's administrator does not allow Gmail for this app ({said})"),
    "message_rejected": N_("Google rejected the message ({said})"),
    "message_rejected_alone": N_(
        "Google rejects this message ({said}) but accepts others from its mailbox"
    ),
    "message_too_large": N_("the message is too large for Google ({said})"),
    "draft_gone": N_("the draft no longer exists: it was sent or deleted"),
    # What an attempt came to.
    "gave_up": N_("gave up after attempt {attempt}"),
    "gave_up_after": N_("gave up after attempt {attempt}; last error: {reason}"),
    "draft_gone_at_deletion": N_(
        "the draft was gone when it was to be deleted; before that: {before}"
    ),
    "deletion_unanswered": N_(
        "no response when the draft was to be deleted; before that: {before}"
    ),
    "deletion_failed": N_(
        "an earlier send had no response, and its draft could not be deleted; before that: {before}"
    ),
    "drafts_not_allowed": N_(
        "the draft may have been sent, and this authorization no longer allows drafts"
    ),
    "lease_nearly_over": N_("the claim is about to end; left to the next one"),
    "suppression_unknown": N_("could not check whether the address has unsubscribed"),
    "suppressed": N_("the address is suppressed: {reason}"),
    "stopped": N_(
        "its job or its sender was paused or cancelled before the message was handed to Google"
    ),
    "copy_suppressed": N_(
        "the address of a copy is suppressed; the message is made again without that copy"
    ),
    "job_cancelled": N_("the job was cancelled by {actor}"),
    "recipient_cancelled": N_("cancelled by {actor}, only for this recipient"),
    "template_refused": N_(
        "this version of mailerd refuses the template that the job was stored with; correct it and post the job again: "
        "{cause}"
    ),
    "renderer_unavailable": N_("messages cannot be rendered now: {cause}"),
    "not_built": N_("the message could not be built: {cause}"),
    "database_unavailable": N_("database unavailable: {cause}"),
    "internal_error": N_("internal error: {error}"),
    "not_accepted": N_("not accepted: {cause}"),
    # What became of a claim, or of a message that Google had.
    "lease_expired": N_(
        "lease of daemon {daemon} expired at attempt {attempt}: the daemon died, was paused or lost the database"
    ),
    "crashed_alone": N_(
        "in flight in {crashes} daemon crashes, the last {alone} with nothing else in flight (daemon {daemon}); "
        "not retried again"
    ),
    "lapsed_released": N_("released: {reason}"),
    "lapsed_lost": N_("lost: {reason}"),
    "lapsed_failed": N_("failed: {reason}"),
    "sent_by_lost_claim": N_(
        "may have been sent by an earlier claim that this row has lost; checking Gmail first"
    ),
    "sent_by_lost_claim_after": N_(
        "may have been sent by an earlier claim that this row has lost; checking Gmail first: {reason}"
    ),
    "taken_from_claim": N_(
        "an earlier send of this message had no response; taken from this claim before hand-over"
    ),
    "restored": N_(
        "the database was restored from a backup; it may have been sent since, checking Gmail first"
    ),
    "given_back": N_("returned by Google: the mailbox had reached its sending limit"),
    "draft_still_there": N_("recorded as sent because its draft was gone, but the draft exists"),
    "bounced": N_("bounced: {reason}"),
    "settled_sent": N_("confirmed as sent by {actor}"),
    "settled_not_sent": N_("confirmed as not sent by {actor}"),
    # What a check of an unconfirmed message came to.
    "still_unconfirmed": N_("still unconfirmed: {reason}"),
    "nothing_found_yet": N_("still unconfirmed: no such sent message yet, checking again"),
    "search_continues": N_("still unconfirmed: {n:,} sent messages read, the search continues"),
    "search_exhausted": N_(
        "not among the last {n:,} sent messages, and no more are read; search the mailbox for a message to {email} "
        "since {since} UTC, then confirm it manually"
    ),
    "draft_in_thread": N_("Google says that the draft is gone, but shows it in its thread"),
    "may_not_check_draft": N_(
        "the draft may have been sent, and this authorization allows neither drafts nor reading; confirm it manually"
    ),
    "may_not_check_direct": N_(
        "sent directly without a response, and this authorization may not read; confirm it manually"
    ),
    "may_not_check_unknown_draft": N_(
        "its draft is no longer known, and this authorization may not read; confirm it manually"
    ),
    "may_not_check_unknown": N_(
        "it is not known how it was handed over, and this authorization may not read; confirm it manually"
    ),
    "draft_gone_ambiguous": N_(
        "its draft is gone: sent by a request that had no response, or deleted after another was refused; this "
        "authorization may not read, so confirm it manually"
    ),
    "draft_gone_unexplained": N_(
        "its draft is gone though Google accepted no send: deleted, or sent manually; this authorization may not read, "
        "so confirm it manually"
    ),
    # Why a sender or a job is paused.
    "no_reason_given": N_("no reason given"),
    "tried_until": N_("{reason}; tried each minute until {remedy}"),
    "limit_notice": N_("Google's limit notice: {said}"),
    "unknown_failures": N_(
        "messages to {domains} domains failed within minutes for unknown causes, as above a limit"
    ),
    "many_blocked": N_(
        "{blocked} of the last messages were blocked by receiving servers as unwanted"
    ),
    "job_bounces": N_(
        "{dead} of the last {sent} messages with a known result bounced because their addresses do not exist. Check "
        "`mailerd bounces --job {job}`; cancel the job and post the rest from a clean list, or resume it if the "
        "addresses are right"
    ),
    "job_bounces_soon": N_(
        "{dead} of the last {sent} messages with a known result bounced because their addresses do not exist; at "
        "{limit} the job is paused. Check `mailerd bounces --job {job}`"
    ),
    "sender_bounces": N_(
        "{dead} of its last {sent} messages with a known result bounced because their addresses do not exist. Check "
        "the lists of its jobs, then resume it"
    ),
}
"""The template of each code."""
_CODES: Final = {template: code for code, template in REASONS.items()}
MAX_FIELD: Final = 1000
"""Characters of a field that are kept."""
MAX_TEXT: Final = 10_000
"""Characters of a text that is read back, and of its template; so fields that are named often blow
nothing up.
"""
MAX_DEPTH: Final = 30
"""Texts in texts that are read back."""
_TEMPLATE: Final = re.compile(
    r"""(?: [^{}] | \{\{ | \}\}
          | \{ [a-z_][a-z0-9_]* (?:!r)? (?: : (?: , | g | ,?\.\d[fg] | \.\d{1,3} | 0\d[oX] ) )? \} )*+""",
    re.VERBOSE,
)
"""A template of `t`: each place is a field by its name, and what it is printed as takes no more
room than it.
"""


def reason(code: str, /, **fields: Any) -> Text:
    """The reason of this code."""
    return t(REASONS[code], **fields)


def code_of(text: str | None) -> str | None:
    """The code of a reason; None of any other text."""
    return _CODES.get(text.msgid) if isinstance(text, Text) else None


def first_cause(text: str | None) -> str | None:
    """What a reason goes back to: the innermost of those that it quotes."""
    while isinstance(text, Text):
        inner = text.fields.get("cause") or text.fields.get("reason")
        if isinstance(inner, Text) and inner.parts:  # with what to do about it
            inner = inner.parts[0]
        if not code_of(inner):
            break
        text = inner
    return text


def cause_code(text: str | None) -> str | None:
    """The code of what a reason goes back to."""
    return code_of(first_cause(text))


def same_cause(one: str | None, other: str | None) -> bool:
    """Whether two reasons go back to the same, as far as their codes tell."""
    return (code := cause_code(one)) is not None and code == cause_code(other)


def in_row(text: str | None, limit: int = 1000) -> tuple[str | None, str | None, str | None]:
    """What a row keeps of a reason: its English, as far as the column takes it, its code, and its
    fields as JSON.
    """
    if text is None:
        return None, None, None
    code, english = code_of(text), _cut(str.__str__(text), limit)
    return (
        english,
        code,
        json.dumps(_fields(text), ensure_ascii=False) if code and isinstance(text, Text) else None,
    )


def from_row(english: str | None, code: str | None, args: str | None) -> str | None:
    """The reason that a row has; its English alone where it has no code, or one that this version
    does not know.
    """
    if english is None or code is None:
        return english
    try:
        found = from_json({"code": code, "args": json.loads(args or "{}")})
        return Text(english, found.msgid, found.fields) if english.isprintable() else english
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        # another version, or a person, has written there
        return english


def in_event(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an event keeps: beside its `reason` in English the code and the fields of it."""
    why = data.get("reason")
    if not isinstance(why, Text) or not (code := code_of(why)):
        return data
    return {**data, "reason_code": code, "reason_args": _fields(why)}


def from_event(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an event has kept; its `reason` is a `Text` again where it has a code."""
    if "reason_code" not in data:
        return dict(data)
    return {
        **data,
        "reason": from_row(
            data.get("reason"), data["reason_code"], json.dumps(data.get("reason_args"))
        ),
    }


def to_json(value: Any) -> Any:
    """A text as JSON, whole: for a row, or for another process."""
    if not isinstance(value, Text) or not (value.msgid or value.parts):
        return (
            value
            if value is None or isinstance(value, int | float)
            else _cut(str(value), MAX_FIELD)
        )
    if value.parts:
        return {"parts": [to_json(part) for part in value.parts]}
    if code := code_of(value):
        return {"code": code, "args": _fields(value)}
    more = {name: it for name, it in (("plural", value.plural), ("context", value.context)) if it}
    return {"text": value.msgid, "args": _fields(value), **more}


def from_json(value: Any, _depth: int = 0) -> Any:
    """What `to_json` has made JSON of; anything else is refused, so that no text of a stranger is
    run as a format.

    Raises:
        LookupError, ValueError, TypeError, AttributeError: it has not made this.
    """
    if isinstance(value, str):
        return visible(value)
    if value is None or isinstance(value, int | float):
        return value
    if _depth > MAX_DEPTH:
        raise ValueError
    if "parts" in value:
        parts = [from_json(part, _depth + 1) for part in value["parts"]]
        return Text(_short("".join(parts)), parts=tuple(parts))
    fields = {name: from_json(it, _depth + 1) for name, it in value["args"].items()}
    template = REASONS[value["code"]] if "code" in value else value["text"]
    plural, context = value.get("plural", ""), value.get("context", "")
    one, many = _filled(template, fields), _filled(plural, fields)
    if not isinstance(context, str) or (plural and not isinstance(fields["n"], int)):
        raise TypeError  # gettext would raise it later
    return Text(many if plural and fields["n"] != 1 else one, template, fields, plural, context)


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    if not _is_ours(template):
        raise ValueError
    return _short(template.format_map(fields))


@lru_cache(maxsize=500)
def _is_ours(template: str) -> bool:
    return (
        len(template) <= MAX_TEXT
        and visible(template) == template
        and bool(_TEMPLATE.fullmatch(template))
    )


def _short(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError
    return text


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fields(text: Text) -> dict[str, Any]:
    return {name: to_json(value) for name, value in text.fields.items()}
