"""What is done with a template on its page: a version is published, it is archived, or sent to
oneself.
"""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from mailerd.core.i18n import t
from mailerd.core.states import JobType
from mailerd.http.errors import ApiError
from mailerd.mail.template_library import TemplateLibraryError
from mailerd.store.write.api_keys import Permission
from mailerd.web.frame.forms import Form, read_form
from mailerd.web.frame.services import ConsoleRequest
from mailerd.web.send.post_job import explain, post_job
from mailerd.web.templates.template_page import VERSION, ShownTemplate, see


async def act(it: ConsoleRequest) -> web.Response:
    """Publish a version, archive the template, or send it to oneself."""
    async with it.services.shares.posts.place(it.key):
        form = await read_form(it.http)
        match form.text("action"):
            case "publish":
                return await _publish(it, form)
            case "archive":
                it.require(Permission.TEMPLATES)
                await it.templates.archive_template(it.caller, it.http.match_info["name"])
                return it.back("/templates", t("Template archived. Jobs that were posted keep it."))
            case _:
                return await _send_test(it, form)


async def _publish(it: ConsoleRequest, form: Form) -> web.Response:
    it.require(Permission.TEMPLATES)
    version = form.text("version")
    if not VERSION.fullmatch(version):
        it.missing()
    text = await publish(it, it.http.match_info["name"], version, expect=form.text("expect"))
    return it.back(f"/templates/{it.http.match_info['name']}?version={version}", text)


async def publish(it: ConsoleRequest, name: str, version: str, *, expect: str) -> str:
    """Publish a version, if `expect` is still the one that is published; what to say of it.

    Raises:
        ApiError: there is no such version.
    """
    try:
        await it.templates.publish_version(it.caller, name, version, expect=expect or None)
    except ApiError as error:
        if error.code == "conflict":
            return t("Not published: {why}", why=str(error))
        if error.code != "version_moved":
            raise
        return t(
            "Not published: another version was published meanwhile. This version is kept. Compare them."
        )
    return t("Published. Jobs that are posted from now on get this version.")


async def _send_test(it: ConsoleRequest, form: Form) -> web.Response:
    """Send a test to the address that is given; each press of the button sends one."""
    seen = await see(it)
    it.require(Permission.SEND)
    try:
        examples = (await it.library.in_layout(seen.named)).variables
        answer, _ = await post_job(it, _test_job(seen, form, examples), type_=JobType.TEST)
    except (ApiError, TemplateLibraryError) as error:
        why = explain(it, error) if isinstance(error, ApiError) else str(error)
        return it.back(f"/templates/{seen.named.name}", why)
    return it.back(f"/jobs/{answer['job_id']}", t("Test message accepted."))


def _test_job(seen: ShownTemplate, form: Form, examples: Mapping[str, Any]) -> bytearray:
    """A test of a job with one message, which has the template's own examples."""
    named, recipient = seen.named, {"email": form.text("email")}
    if language := form.text("in"):
        recipient["language"] = language
    job = {
        "sender_email": form.text("sender"),
        "template_name": named.name,
        "variables": dict(examples),
        "recipients": [recipient],
        "reference": f"test of {named.name}"[:255],
    }
    if seen.state is not None:
        job["template_version"] = named.version
    return bytearray(
        json.dumps({"job": job, "to": [form.text("email")]}, ensure_ascii=False).encode()
    )
