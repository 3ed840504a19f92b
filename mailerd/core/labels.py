"""What people read in place of the codes of statuses, actions, causes and limits.

The console shows these; commands and the log show the code itself in English, which is also what
the API has.
"""

import re
from collections.abc import Mapping
from typing import Final

from mailerd.core.i18n import N_, Text, t

LABELS: Final[Mapping[str, Text]] = {
    "queued": t("Queued"),
    "sending": t("Sending"),
    "paused": t("Paused"),
    "completed": t("Completed"),
    "cancelled": t("Cancelled"),
    "waiting": t("Waiting"),
    "idle": t("Idle"),
    "braked": t("Bounces are read first"),
    "sender_paused": t("Sender paused"),
    "scheduled": t("Scheduled"),
    "deferred": t("Deferred"),
    "limit": t("Limit reached"),
    "no_daemon": t("No daemon"),
    "no_database": t("Database unavailable"),
    "unsure": t("Unconfirmed"),
    "sent": t("Sent"),
    "failed": t("Failed"),
    "pause": t("Paused"),
    "resume": t("Resumed"),
    "cancel": t("Cancelled"),
    "retry": t("Retried"),
    "priority": t("Priority changed"),
    "released": t("Requeued"),
    "lost": t("Unconfirmed"),
    "found": t("Confirmed as sent"),
    "missing": t("Not found"),
    "lapsed": t("Lease expired"),
    "unanswered": t("No response"),
    "late": t("Late response"),
    "undone": t("Returned by Google"),
    "retried": t("Retried"),
    "suppress": t("Suppressed"),
    "unsuppress": t("Suppression ended"),
    "save_list": t("List saved"),
    "save_template": t("Template version saved"),
    "publish_template": t("Template published"),
    "archive_template": t("Template archived"),
    "create_key": t("API key created"),
    "rotate_key": t("API key rotated"),
    "revoke_key": t("API key revoked"),
    "settle": t("Confirmed manually"),
    "answered": t("Response from Google"),
    "seen in SENT": t("Found in Sent"),
    "draft gone": t("Draft is gone"),
    "person": t("Confirmed manually"),
    "throttled": t("Throttled"),
    "daily_limit": t("Daily limit reached"),
    "project_limit": t("Project quota exhausted"),
    "day_full": t("Daily limit reached"),
    "google_silent": t("No response from Google"),
    "awaiting_google": t("Waiting for Google"),
    "too_many_concurrent": t("Too many concurrent requests"),
    "token_refused": t("Authorization rejected"),
    "no_credentials": t("No credentials"),
    "client_refused": t("OAuth client rejected"),
    "wrong_mailbox": t("Wrong mailbox"),
    "scope_missing": t("Scope missing"),
    "mailbox_refused": t("Gmail is off"),
    "api_disabled": t("Gmail API disabled"),
    "domain_policy": t("Blocked by the domain's policy"),
    "manual": t("Manual"),
    "unsubscribed": t("Unsubscribed"),
    "hard_bounce": t("Hard bounce"),
    "complained": t("Complaint"),
    "imported": t("Imported"),
    "google_unreachable": t("Google unreachable"),
    "mailto": t("Unsubscribed by mail"),
    "notice": t("Bounce notice"),
    "import": t("Import"),
    "bounced": t("Bounced"),
    "replied": t("Replied"),
    "other_replied": t("Replied from another address"),
    "auto_replied": t("Auto-replied"),
    "no_reply": t("No reply"),
    "bounced_hard": t("Hard bounce"),
    "bounced_soft": t("Soft bounce"),
    "bounced_blocked": t("Bounced: blocked"),
    "bounced_unknown": t("Bounced: unknown cause"),
    "change": t("Changed"),
    "hard": t("Hard bounce"),
    "soft": t("Soft bounce"),
    "blocked": t("Blocked"),
    "bounces": t("Too many bounces"),
    "unknown": t("Unknown cause"),
    "delayed": t("Delayed"),
    "over_limit": t("Over Google's limit"),
    "reply": t("Reply"),
    "auto_reply": t("Automatic reply"),
    "unsubscribe": t("Unsubscribe request"),
    "other": t("Other"),
    "new": t("Not read yet"),
    "read": t("Up to date"),
    "behind": t("Catching up"),
    "refused": t("Rejected by Google"),
    "one_click": t("One-click unsubscribe"),
    "page": t("Unsubscribe page"),
    "api": t("API"),
    "cli": t("Command line"),
    "draft": t("Via draft"),
    "direct": t("Direct"),
    "authorized_user": t("Authorized user"),
    "service_account": t("Service account"),
    "on": t("Active"),
    "failing": t("Failing"),
    "paused_manually": t("Paused manually"),
    "gone": t("Gone (410)"),
    "delivered": t("Delivered"),
    "made": t("Created"),
    "changed": t("Changed"),
    "rotated": t("Rotated"),
    "rotate": t("Rotated"),
    "replay": t("Replayed"),
    "revoked": t("Revoked"),
    "resumed": t("Resumed"),
    "removed": t("Removed"),
    "remove": t("Removed"),
    "add": t("Added"),
    "limits": t("Limits changed"),
    "units_per_minute": t("Quota units per minute"),
    "per_minute": t("Messages per minute"),
    "per_day": t("Messages per 24 hours"),
    "reserve": t("Kept for the mailbox owner"),
    "min_gap": t("Seconds between messages"),
    "warm_up": t("Messages on the first day"),
    "warm_up_growth": t("Additional messages per day"),
}
"""By their names in tables and settings."""


def label(code: str) -> str:
    """What a code is called; one without a name is shown as words, and a text is no code."""
    return LABELS.get(code) or (code if isinstance(code, Text) else code.replace("_", " "))


def coded(code: str) -> Text:
    """A code, which an English line of the log or a command shows as it is, and another language by
    its label.
    """
    name = LABELS.get(code)
    return Text(code, name.msgid, context=name.context) if name else Text(code, code)


_NAMES: Final = ("Gmail", "Google", "OAuth", "API")


def worded(code: str) -> Text:
    """The label as a part of a sentence: "sender paused", "requeued"."""
    if (name := LABELS.get(code)) is None:
        return Text(english := code.replace("_", " "), english)
    english = name if name.startswith(_NAMES) else name[0].lower() + name[1:]
    return Text(english, name.msgid, context=name.context)


_KEPT: Final = {
    r"(?P<status>\w+), recipient (?P<recipient>.+)": N_("{status}, recipient {recipient}"),
    r"(?:bounced: )?(?P<status>failed|unsure|hard|soft|blocked|unknown)": N_("{status}"),
    r"key:(?P<name>.+) via console": N_("key {name} in the console"),
    r"key[ :](?P<name>.+)": N_("key {name}"),
    r"command, (?P<person>.+)": N_("{person} on the command line"),
}
"""What rows keep in English of who asked and of what, and how it is shown."""


def said_of_row(english: str | None) -> str | None:
    """Who asked, or the detail of an action, of which rows keep the English; a person's own words
    stay as they are.
    """
    for pattern, template in _KEPT.items():
        if english and (found := re.fullmatch(pattern, english)):
            fields = found.groupdict()
            return t(
                template,
                **fields | ({"status": worded(fields["status"])} if "status" in fields else {}),
            )
    return english
