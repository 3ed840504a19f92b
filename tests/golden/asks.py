"""What the API is asked: each operation about what is there, what is not there, and what it refuses."""

from dataclasses import dataclass
from typing import Any, Final

from tests.golden.scene import HELD, ME, UNKNOWN

_NOTHING: Final = "nobody@example.net"
_WELL: Final = {
    "sender_email": ME,
    "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}"},
    "recipients": [{"email": "new@example.org", "name": "New"}],
}
_ILL: Final = {"sender_email": ME, "template": {"subject": "{{", "text": "x"}, "recipients": [{"email": "nobody"}]}


@dataclass(frozen=True)
class Ask:
    """One request; `{name}` in its path is the id of what the scene has by that name."""

    case: str
    path: str
    body: Any = None


def _of(path: str, found: str, missing: str = UNKNOWN, *, refused: str = "?", body: Any = None) -> tuple[Ask, ...]:
    """About one thing: `path` has `{}` where its id stands. `refused`: an id that can be none."""
    return (
        Ask("found", path.format(found), body),
        Ask("missing", path.format(missing), body),
        *([Ask("refused", path.format(refused), body)] if refused else ()),
    )


_JOB: Final = "/api/jobs/{}"
_MESSAGE: Final = "/api/recipients/{}"
_HOOK: Final = "/api/webhooks/{}"
_SENDER: Final = "/api/senders/{}"
_TEMPLATE: Final = "/api/templates/{}"
_NEW_HOOK: Final = {"name": "till", "url": "https://127.0.0.1.example/till"}

ASKS: Final[dict[str, tuple[Ask, ...]]] = {
    "createJob": (
        Ask("found", "/api/jobs/send_template_emails", _WELL),
        Ask("refused", "/api/jobs/send_template_emails", _ILL),
        Ask("missing", "/api/jobs/send_template_emails", {**_WELL, "template": None, "template_name": "none"}),
        Ask(
            "named",
            "/api/jobs/send_template_emails",
            {**_WELL, "template": None, "template_name": "greeting", "variables": {"product": "Tea"}},
        ),
        Ask(
            "suppressed",
            "/api/jobs/send_template_emails",
            {**_WELL, "list": "news", "recipients": [{"email": "kim.mine@example.org", "name": "Kim"}]},
        ),
    ),
    "sendMessage": (
        Ask(
            "found",
            "/api/messages",
            {"sender_email": ME, "to": {"email": "new@example.org"}, "subject": "Hi", "text": "Hi"},
        ),
        Ask("refused", "/api/messages", {"sender_email": ME, "to": {"email": "nobody"}, "subject": "Hi"}),
    ),
    "getMessage": _of("/api/messages/{}", "{mine ended}"),
    "dryRunJob": (
        Ask("found", "/api/jobs/send_template_emails/dry_run", _WELL),
        Ask("refused", "/api/jobs/send_template_emails/dry_run", _ILL),
    ),
    "testJob": (
        Ask("found", "/api/jobs/send_template_emails/test", {**_WELL, "to": [ME]}),
        Ask("refused", "/api/jobs/send_template_emails/test", {**_WELL, "to": ["stranger@example.net"]}),
    ),
    "listJobs": (
        Ask("found", "/api/jobs"),
        Ask("tag", "/api/jobs?tag=spring"),
        Ask("status", "/api/jobs?status=paused"),
        Ask("page", "/api/jobs?limit=2"),
        Ask("refused", "/api/jobs?status=none&limit=0&sendr_email=x"),
    ),
    "getJob": (
        *_of(_JOB, "{mine ended}"),
        *(Ask(it, f"/api/jobs/{{mine {it}}}") for it in ("waiting", "scheduled", "paused", "cancelled", "held")),
    ),
    "listRecipients": (
        *_of(f"{_JOB}/recipients", "{mine ended}"),
        Ask("outcome", "/api/jobs/{mine ended}/recipients?outcome=bounced"),
        Ask("bad query", "/api/jobs/{mine ended}/recipients?status=none"),
    ),
    "findRecipients": (
        Ask("found", "/api/recipients?email=ada.mine@example.org"),
        Ask("missing", f"/api/recipients?email={_NOTHING}"),
        Ask("refused", "/api/recipients"),
    ),
    "getRecipient": (
        *_of(_MESSAGE, "{ada.mine}", "999999"),
        *(
            Ask(name, f"/api/recipients/{{{name}.mine}}")
            for name in ("bob", "cyd", "dan", "eve", "fay", "hal", "ida", "leo")
        ),
    ),
    "getRecipientMessage": _of(f"{_MESSAGE}/message", "{fay.mine}", "999999"),
    "settleRecipient": (
        *_of(f"{_MESSAGE}/settle", "{eve.mine}", "999999", body={"sent": True, "attempt": 1}),
        Ask("not sent", "/api/recipients/{eve.mine}/settle", {"sent": False, "attempt": 1}),
        Ask("certain", "/api/recipients/{ada.mine}/settle", {"sent": True, "attempt": 1}),
        Ask("other attempt", "/api/recipients/{eve.mine}/settle", {"sent": True, "attempt": 2}),
        Ask("empty", "/api/recipients/{eve.mine}/settle", {}),
    ),
    "cancelRecipient": (
        *_of(f"{_MESSAGE}/cancel", "{fay.mine}", "999999", body={}),
        Ask("ended", "/api/recipients/{ada.mine}/cancel", {}),
    ),
    "search": (
        Ask("found", "/api/search?q=ada"),
        Ask("missing", "/api/search?q=nobody"),
        Ask("refused", "/api/search?q=a"),
    ),
    "getStats": (
        Ask("found", "/api/stats?by=tag"),
        Ask("sender", "/api/stats?by=sender"),
        Ask("refused", "/api/stats?by=none&zone=Nowhere"),
    ),
    "downloadResults": _of(f"{_JOB}/results.csv", "{mine ended}"),
    "streamJobEvents": _of(f"{_JOB}/events", "{mine cancelled}"),
    "listEvents": (
        Ask("found", "/api/events"),
        Ask("type", "/api/events?types=job.paused"),
        Ask("refused", "/api/events?types=none"),
    ),
    "streamEvents": (Ask("refused", "/api/events/stream?types=none"),),
    "listJobActions": _of(f"{_JOB}/actions", "{mine paused}"),
    "changeJob": (
        *_of(_JOB, "{mine scheduled}", body={"priority": 5, "reference": "new", "tags": ["summer"]}),
        Ask("time", "/api/jobs/{mine scheduled}", {"send_at": "{in 60 days}"}),
        Ask("past", "/api/jobs/{mine scheduled}", {"send_at": "2020-01-01T09:00:00Z"}),
        Ask("ended", "/api/jobs/{mine cancelled}", {"send_at": "{in 60 days}"}),
        Ask("fixed", "/api/jobs/{mine scheduled}", {"sender_email": ME}),
    ),
    "cancelJob": (
        *_of(f"{_JOB}/cancel", "{mine waiting}", body={}),
        Ask("again", "/api/jobs/{mine cancelled}/cancel", {}),
    ),
    "pauseJob": (*_of(f"{_JOB}/pause", "{mine waiting}", body={}), Ask("again", "/api/jobs/{mine paused}/pause", {})),
    "resumeJob": (
        *_of(f"{_JOB}/resume", "{mine paused}", body={}),
        Ask("again", "/api/jobs/{mine waiting}/resume", {}),
    ),
    "retryJob": (
        *_of(f"{_JOB}/retry", "{mine ended}", body={}),
        Ask("unsure", "/api/jobs/{mine ended}/retry", {"only": "unsure"}),
        Ask("bounced", "/api/jobs/{mine ended}/retry", {"only": "bounced", "kind": "hard"}),
        Ask("no kind", "/api/jobs/{mine ended}/retry", {"only": "bounced"}),
    ),
    "setJobPriority": (
        *_of(f"{_JOB}/priority", "{mine waiting}", body={"priority": 9}),
        Ask("too high", "/api/jobs/{mine waiting}/priority", {"priority": 10**6}),
    ),
    "listTemplates": (Ask("found", "/api/templates"),),
    "getTemplate": _of(_TEMPLATE, "greeting", "none", refused=""),
    "saveTemplate": (
        Ask("found", "/api/templates/greeting", {"subject": "Third", "text": "Third"}),
        Ask("missing", "/api/templates/fresh", {"subject": "First", "text": "First"}),
        Ask("refused", "/api/templates/greeting", {"subject": "{{", "text": "x"}),
        Ask("folder", "/api/templates/welcome", {"subject": "Mine", "text": "Mine"}),
    ),
    "deleteTemplate": _of(_TEMPLATE, "greeting", "none", refused="welcome"),
    "listTemplateVersions": _of(f"{_TEMPLATE}/versions", "greeting", "none", refused=""),
    "getTemplateVersion": (
        Ask("found", "/api/templates/greeting/versions/{greeting 1}"),
        Ask("missing", "/api/templates/greeting/versions/0000000000000000"),
        Ask("folder", "/api/templates/welcome/versions/0000000000000000"),
    ),
    "publishTemplate": (
        Ask("found", "/api/templates/greeting/publish", {"version": "{greeting 2}", "expect": "{greeting 1}"}),
        Ask("missing", "/api/templates/none/publish", {"version": "{greeting 2}", "expect": None}),
        Ask("moved", "/api/templates/greeting/publish", {"version": "{greeting 2}", "expect": None}),
    ),
    "renderTemplate": (
        Ask("found", "/api/templates/greeting/render", {"variables": {"name": "Ada"}}),
        Ask("missing", "/api/templates/none/render", {}),
    ),
    "listSuppressions": (
        Ask("found", "/api/suppressions"),
        Ask("list", "/api/suppressions?list=news"),
        Ask("missing", "/api/suppressions?list=none"),
        Ask("refused", "/api/suppressions?reason=none"),
    ),
    "downloadSuppressions": (Ask("found", "/api/suppressions.csv"),),
    "addSuppressions": (
        Ask("found", "/api/suppressions", {"suppressions": [{"email": "new@example.org"}]}),
        Ask("again", "/api/suppressions", {"suppressions": [{"email": "kim.mine@example.org", "list": "news"}]}),
        Ask("refused", "/api/suppressions", {"suppressions": [{"email": "nobody"}]}),
    ),
    "removeSuppression": (
        Ask("found", "/api/suppressions/kim.mine@example.org?list=news"),
        Ask("missing", f"/api/suppressions/{_NOTHING}"),
        Ask("refused", "/api/suppressions/nobody"),
    ),
    "listMailingLists": (Ask("found", "/api/lists"),),
    "saveMailingList": (
        Ask("found", "/api/lists", {"name": "news", "title": "Novelties"}),
        Ask("new", "/api/lists", {"name": "more"}),
        Ask("refused", "/api/lists", {"name": ""}),
    ),
    "listWebhooks": (Ask("found", "/api/webhooks"),),
    "createWebhook": (
        Ask("found", "/api/webhooks", _NEW_HOOK),
        Ask("own", "/api/webhooks", {**_NEW_HOOK, "senders": [ME]}),
        Ask("taken", "/api/webhooks", {**_NEW_HOOK, "name": "shop"}),
        Ask("refused", "/api/webhooks", {"name": "till", "url": "ftp://x", "types": ["none"]}),
    ),
    "getWebhook": _of(_HOOK, "{mine hook}"),
    "changeWebhook": (
        *_of(_HOOK, "{mine hook}", body={"types": ["job.finished"]}),
        Ask("pause", "/api/webhooks/{mine hook}", {"state": "paused"}),
        Ask("resume", "/api/webhooks/{mine hook}", {"state": "on"}),
        Ask("bad url", "/api/webhooks/{mine hook}", {"url": "ftp://x"}),
        Ask("bad type", "/api/webhooks/{mine hook}", {"types": ["none"]}),
    ),
    "deleteWebhook": _of(_HOOK, "{mine hook}"),
    "listWebhookDeliveries": (*_of(f"{_HOOK}/deliveries", "{mine hook}"),),
    "rotateWebhookSecret": (
        *_of(f"{_HOOK}/rotate", "{mine hook}", body={}),
        Ask("too long", "/api/webhooks/{mine hook}/rotate", {"overlap": 10**9}),
    ),
    "testWebhook": _of(f"{_HOOK}/test", "{mine hook}"),
    "replayWebhook": (
        *_of(f"{_HOOK}/replay", "{mine hook}", body={"since": "2026-01-01T00:00:00Z"}),
        Ask("empty", "/api/webhooks/{mine hook}/replay", {}),
    ),
    "listSenders": (Ask("found", "/api/senders"), Ask("refused", "/api/senders?limit=0")),
    "getSender": (*_of(_SENDER, ME, "none@example.com"), Ask("held", f"/api/senders/{HELD}")),
    "pauseSender": (
        *_of(f"{_SENDER}/pause", ME, "none@example.com", body={"reason": "moving"}),
        Ask("empty", f"/api/senders/{ME}/pause", {}),
    ),
    "resumeSender": (
        *_of(f"{_SENDER}/resume", ME, "none@example.com", body={}),
        Ask("held", f"/api/senders/{HELD}/resume", {}),
    ),
    "changeSender": (
        *_of(_SENDER, ME, "none@example.com", body={"per_day": 90}),
        Ask("too low", f"/api/senders/{ME}", {"per_day": -1}),
    ),
    "getKey": (Ask("found", "/api/key"),),
    "getLiveness": (Ask("found", "/health/live"),),
    "getReadiness": (Ask("found", "/health/ready"),),
}
