"""Two tenants with something of each kind, for the three surfaces to be asked about."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp

from mailerd.store.write.api_keys import Permission
from tests.support.rows import query
from tests.web.conftest import ConsoleSite

ME: Final = "me@example.com"
YOU: Final = "you@example.com"
HELD: Final = "held@example.com"
"""A second sender of the first tenant, paused by a person."""
UNKNOWN: Final = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOW: Final = datetime(2026, 3, 4, 10, 20, 30, tzinfo=UTC)
"""The moment at which everything is posted, and asked."""
POSTED: Final = "2026-03-03 08:00:00"
"""When the job with the outcomes had been."""
SENT: Final = "2026-03-04 09:00:00"
IN_A_WHILE: Final = "2026-03-04 10:25:30"

_OUTCOMES: Final = (
    (0, "sent", None, None, "answered"), (1, "sent", "bounced", "hard", "answered"),
    (2, "sent", "replied", None, "answered"), (3, "failed", None, None, None), (4, "unsure", None, None, None),
)  # fmt: skip
"""Of the first job: position, status, result, its kind, proof."""


def soon(days: int) -> str:
    """The time in so many days."""
    return f"{NOW + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Scene:
    """The secrets of the callers, and the ids of what there is by name."""

    keys: Mapping[str, str]
    ids: dict[str, str]


class _Office:
    """Posts as the application would."""

    def __init__(self, site: ConsoleSite, client: aiohttp.ClientSession) -> None:
        self.site, self.client = site, client

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self.client.request(method, f"{self.site.url}{path}", json=body) as answer:
            found = await answer.json()
            assert answer.status == 200, (path, found)
            return found

    async def job(self, sender: str, *people: str, **fields: Any) -> str:
        body = {
            "sender_email": sender,
            "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}"},
            "recipients": [{"email": it, "name": it.partition("@")[0].capitalize()} for it in people],
            **fields,
        }
        return str((await self.ask("POST", "/api/jobs/send_template_emails", body))["job_id"])


async def furnish(site: ConsoleSite) -> Scene:
    """Each tenant has jobs, a template, a list, suppressions and an endpoint; `me` has a message in each state."""
    keys = {
        "admin": await site.keys.create("admin"),
        "mine": await site.keys.create("mine", senders=[ME, HELD], permissions=[*Permission]),
        "theirs": await site.keys.create("theirs", senders=[YOU], permissions=[*Permission]),
        "usual": await site.keys.create("usual", senders=[ME, HELD]),
        "reader": await site.keys.create("reader", senders=[ME, HELD], permissions=[Permission.READ]),
    }
    ids = {"in 60 days": soon(60)}
    for tenant, sender in (("mine", ME), ("theirs", YOU)):
        async with aiohttp.ClientSession(headers={"X-API-Key": keys[tenant]}) as client:
            office = _Office(site, client)
            ids |= await _tenant(office, tenant, sender)
            if tenant == "mine":
                ids["mine held"] = await office.job(HELD, "leo.mine@example.org")
                await office.ask("POST", f"/api/senders/{HELD}/pause", {"reason": "moving house"})
    await _outcomes(site, ids)
    rows = await query(site.database, "SELECT SUBSTRING_INDEX(to_email, '@', 1), id FROM job_recipients")
    ids |= {name: str(number) for name, number in rows}
    await query(site.database, "UPDATE daemons SET host = 'here', pid = 1234")
    site.daemon.service.stats.take(await site.daemon.service.stats.read())
    return Scene(keys, ids)


async def _tenant(office: _Office, tenant: str, sender: str) -> dict[str, str]:
    name = {"mine": "", "theirs": "their-"}[tenant]
    await office.ask("POST", "/api/lists", {"name": f"{name}news", "title": "News"})
    text = {"subject": "Welcome {{ name }}", "text": "Welcome {{ name }} to {{ product }}"}
    versions = {}
    for number, greeting in enumerate(("Welcome", "Good morning"), 1):
        body = {"subject": f"{greeting} {{{{ name }}}}", "text": text["text"], "variables": {"product": "Tea"}}
        version = (await office.ask("PUT", f"/api/templates/{name}greeting", body))["version"]
        versions[f"{name}greeting {number}"] = version
        if number == 1:
            await office.ask("POST", f"/api/templates/{name}greeting/publish", {"version": version, "expect": None})
    ids = versions | {
        f"{tenant} ended": await office.job(
            sender, *(f"{it}.{tenant}@example.org" for it in ("ada", "bob", "cyd", "dan", "eve")),
            list=f"{name}news", tags=["spring"], reference=f"{name}order-1",
        ),
        f"{tenant} waiting": await office.job(
            sender, f"fay.{tenant}@example.org", f"gus.{tenant}@example.org",
            template=None, template_name=f"{name}greeting", variables={"product": "Tea"},
        ),
        f"{tenant} scheduled": await office.job(sender, f"hal.{tenant}@example.org", send_at=soon(30)),
        f"{tenant} paused": await office.job(sender, f"ida.{tenant}@example.org", priority=3),
        f"{tenant} cancelled": await office.job(sender, f"jim.{tenant}@example.org"),
    }  # fmt: skip
    await office.ask("POST", f"/api/jobs/{ids[f'{tenant} paused']}/pause", {})
    await office.ask("POST", f"/api/jobs/{ids[f'{tenant} cancelled']}/cancel", {})
    hook = {"name": f"{name}shop", "url": f"https://127.0.0.1.example/{name}hook", "senders": [sender]}
    ids[f"{tenant} hook"] = (await office.ask("POST", "/api/webhooks", hook))["id"]
    blocked = {"suppressions": [{"email": f"kim.{tenant}@example.org", "list": f"{name}news"}]}
    await office.ask("POST", "/api/suppressions", blocked)
    return ids


async def _outcomes(site: ConsoleSite, ids: Mapping[str, str]) -> None:
    """What a runner and an inbox's reader would have written. No two suppressions are of one moment: lists go by it."""
    await query(site.database, "UPDATE suppressions SET created_at = created_at - INTERVAL list_id SECOND")
    for job in (ids["mine ended"], ids["theirs ended"]):
        for seq, status, result, kind, proof in _OUTCOMES:
            error = None if status == "sent" else "400 Invalid To header" if status == "failed" else "no response"
            await query(
                site.database,
                "UPDATE job_recipients SET status = %s, result = %s, result_kind = %s, proof = %s, error = %s, "
                "attempts = 1, sent_at = IF(%s = 'sent', %s, NULL), result_at = IF(result IS NULL, NULL, %s), "
                "mode = 'draft', draft_id = IF(%s = 'failed', NULL, CONCAT('r', id)), "
                "lease_until = IF(%s = 'unsure', %s, NULL) WHERE job_id = %s AND seq = %s",
                status, result, kind, proof, error, status, SENT, SENT,
                status, status, IN_A_WHILE, job, seq,
            )  # fmt: skip
        await query(
            site.database,
            "INSERT INTO notices (mailbox, gmail_id, thread_id, recipient_id, job_id, email, kind, detail, believed, "
            "at) SELECT sender_email, r.id, r.id, r.id, job_id, to_email, IF(result = 'bounced', 'hard', 'reply'), "
            "IF(result = 'bounced', '550 no such user', NULL), 1, %s "
            "FROM job_recipients r JOIN jobs j ON j.id = job_id WHERE result IS NOT NULL AND job_id = %s",
            SENT, job,
        )  # fmt: skip
        await query(
            site.database,
            "UPDATE jobs SET bounced = 1, replied = 1, created_at = %s, started_at = %s WHERE id = %s",
            POSTED, SENT, job,
        )  # fmt: skip


async def drafts(browser: aiohttp.ClientSession) -> dict[str, str]:
    """A table that has a problem, and a message that could be sent; with what its review was of."""
    ids = dict[str, str]()
    for name, rows in (("table", "new@example.org,New\nnobody,\n"), ("draft", "new@example.org,New\n")):
        async with browser.post("/send", data={"pasted": f"email,name\n{rows}"}) as answer:
            assert answer.url.name == "people", await answer.text()
            ids[f"mine {name}"] = answer.url.parts[2]
    written = {
        "kind": "write",
        "sender": ME,
        "subject": "Hello {{ name }}",
        "body": "Dear {{ name }}",
        "action": "next",
    }
    async with browser.post(f"/send/{ids['mine draft']}/message", data=written) as answer:
        (ids["seen"],) = re.findall(r'name="seen" value="([^"]+)"', await answer.text())
    return ids
