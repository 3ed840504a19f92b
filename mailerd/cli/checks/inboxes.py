"""Which inboxes are read, by which scope, and how far behind."""

from collections.abc import Sequence

from mailerd.cli.checks.result import CheckResult, ok, warn
from mailerd.core.quantities import in_words
from mailerd.store.inbox.read_notices import InboxState


def read_states(known: Sequence[InboxState]) -> list[CheckResult]:
    """A line for each inbox."""
    found = []
    for it in known:
        name, login = f"inbox of {it.email}", f"mailerd auth login --sender {it.email} --readonly"
        behind = (it.now - it.read_at).total_seconds() if it.read_at else None
        read = "never read" if behind is None else f"read {in_words(behind)} ago"
        match it.state:
            case "no scope":
                what = "not read: the sign-in has neither gmail.readonly nor gmail.metadata; bounces stay unknown"
                found.append(warn(name, what, remedy=f"{login}, or live with it"))
            case "refused":
                what = f"{read}; it cannot be read now: {it.detail}"
                remedy = f"see the line of {it.email}; it is read again by itself once the cause is gone"
                found.append(warn(name, what, remedy=remedy))
            case "behind":
                stuck = f", held up by message {it.failing_id}" if it.failing_id else ""
                what = f"{read}, by gmail.{it.scope}, and not to its end{stuck}"
                found.append(
                    warn(name, what, remedy="nothing: it goes on by itself, with few units while letters wait")
                )
            case "read" if it.scope == "metadata":
                found.append(ok(name, f"{read}, by gmail.metadata: replies are seen, bounces have no class"))
            case "read":
                found.append(ok(name, f"{read}, by gmail.{it.scope}"))
            case _:
                found.append(warn(name, read, remedy="a daemon reads it within a minute; does one run?"))
    return found
