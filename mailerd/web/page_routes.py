"""Every address of the console for who is signed in: what shows its page, and what a form that is
sent there does.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.look import (
    activity_page,
    change_job,
    chart_page,
    inbox_page,
    job_page,
    jobs_page,
    keys_page,
    lists_page,
    message_page,
    overview_page,
    person_page,
    search_page,
    senders_page,
    settings_page,
    status_page,
    webhooks_page,
)
from mailerd.web.send import (
    send_message_page,
    send_page,
    send_preview,
    send_review_page,
    send_table,
)
from mailerd.web.send.draft import of_draft
from mailerd.web.templates import template_actions, template_diff, template_editor, template_page

Page = Callable[[ConsoleRequest], Awaitable[web.StreamResponse]]
PAGES: Final[tuple[tuple[str, Page | None, Page | None], ...]] = (
    ("/", overview_page.show, None),
    ("/status", status_page.show, status_page.check),
    ("/search", search_page.show, None),
    ("/settings", settings_page.show, None),
    ("/activity", activity_page.show, None),
    ("/activity.csv", activity_page.table, None),
    ("/chart.csv", chart_page.results, None),
    ("/jobs", jobs_page.show, jobs_page.act),
    ("/jobs/{id}", job_page.show, change_job.act),
    ("/jobs/{id}/results.csv", job_page.results, None),
    ("/jobs/{id}/chart.csv", job_page.chart, None),
    ("/messages/{id}", message_page.show, message_page.act),
    ("/messages/{id}/html", message_page.html, None),
    ("/doubts", jobs_page.doubts, None),
    ("/senders", senders_page.show, None),
    ("/senders/{email}", senders_page.one, senders_page.act),
    ("/inbox", inbox_page.show, None),
    ("/inbox.csv", inbox_page.results, None),
    ("/people", person_page.show, None),
    ("/suppressions", lists_page.show, lists_page.act),
    ("/suppressions.csv", lists_page.results, None),
    ("/lists", lists_page.lists, lists_page.make_list),
    ("/templates", template_page.index, None),
    ("/templates/{name}", template_page.show, template_actions.act),
    ("/templates/{name}/html", template_page.html, None),
    ("/templates/{name}/diff", template_diff.diff, None),
    ("/templates/{name}/edit", template_editor.show, template_editor.save),
    ("/templates/{name}/duplicate", template_editor.show, None),
    ("/new-template", template_editor.show, template_editor.save),
    ("/new-template/html", None, template_editor.preview),
    ("/send", send_page.start, send_page.create),
    ("/send/{draft}/people", of_draft(send_page.show), of_draft(send_page.change)),
    ("/send/{draft}/problems.csv", of_draft(send_table.problems), None),
    ("/send/{draft}/corrected.csv", of_draft(send_table.corrected), None),
    ("/send/{draft}/message", of_draft(send_message_page.show), of_draft(send_message_page.change)),
    ("/send/{draft}/html", of_draft(send_preview.html), None),
    ("/send/{draft}/review", of_draft(send_review_page.show), of_draft(send_review_page.change)),
    ("/webhooks", webhooks_page.show, webhooks_page.add),
    ("/webhooks/{id}", webhooks_page.one, webhooks_page.act),
    ("/keys", keys_page.show, keys_page.act),
)
DOWNLOADS: Final = (inbox_page.results, job_page.results, lists_page.results)
"""Those that have a place of their own for what they read."""
