"""`GET /api/recipients/{id}/message`: a message rendered again, for somebody who only looks."""

from pathlib import Path

import pytest

from mailerd.store.write.api_keys import Permission
from tests.intake.site import Build, Site
from tests.intake.test_recipients import one


async def test_a_message_that_waits_is_shown_as_it_will_be_and_nothing_changes(site: Site) -> None:
    id_ = await one(site, bcc=[{"email": "audit@example.com", "name": "Audit"}])
    before = await site.rows("SELECT * FROM job_recipients")
    status, shown = await site.get(f"/api/recipients/{id_}/message")
    assert status == 200, shown
    assert (shown["subject"], shown["html"], shown["sent_at"]) == ("Hello Ada", "<p>X for Ada</p>", None)
    assert shown["headers"]["To"] == "Ada <ada@example.com>"
    assert shown["headers"]["Bcc"] == "Audit <audit@example.com>"
    assert (shown["recipient_id"], shown["attachments"]) == (id_, [])
    assert await site.rows("SELECT * FROM job_recipients") == before
    assert await site.rows("SELECT COUNT(*) FROM attempts") == [(0,)]


async def test_a_named_template_that_is_gone_is_still_that_of_the_job(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    (folder / "hello").mkdir(parents=True)
    (folder / "hello" / "template.toml").write_text('[variables]\nname = "Ada"\n')
    (folder / "hello" / "subject.txt").write_text("Hello {{ name }}")
    (folder / "hello" / "body.html").write_text("Dear {{ name }}")
    site = await build(templates=folder)
    id_ = await one(site, template=None, template_name="hello")
    for each in (folder / "hello").iterdir():
        each.unlink()
    (folder / "hello").rmdir()
    status, shown = await site.get(f"/api/recipients/{id_}/message")
    assert (status, shown["subject"]) == (200, "Hello Ada"), shown


async def test_of_a_person_that_was_forgotten_no_message_is_made_up(site: Site) -> None:
    id_ = await one(site)
    await site.rows(
        "UPDATE job_recipients SET status = 'sent', to_email = CONCAT('forgotten-', id, '@example.invalid'), "
        "to_name = NULL, variables = NULL"
    )
    status, answer = await site.get(f"/api/recipients/{id_}/message")
    assert (status, answer["error"]["code"]) == (410, "contents_deleted")


async def test_a_message_that_cannot_be_rendered_says_why(site: Site) -> None:
    job_id = await site.posted(
        {"email": "ada@example.com", "name": "Ada"}, {"email": "b@example.com"}, on_invalid="skip"
    )
    ((id_,),) = await site.rows("SELECT id FROM job_recipients WHERE job_id = %s AND seq = 1", job_id)
    status, answer = await site.get(f"/api/recipients/{id_}/message")
    assert (status, answer["error"]["code"]) == (409, "conflict")
    assert "name" in answer["error"]["message"]


async def test_a_template_that_takes_too_long_is_ended_and_answered(site: Site) -> None:
    id_ = await one(site)
    await site.rows(
        "UPDATE jobs SET html = '{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}'"
    )
    status, answer = await site.get(f"/api/recipients/{id_}/message")
    assert (status, answer["error"]["code"]) == (409, "conflict"), answer


@pytest.mark.parametrize("id_", ["0", "999999", "abc", "9" * 30])
async def test_of_what_is_no_message_of_ours_nothing_is_shown(site: Site, id_: str) -> None:
    assert (await site.get(f"/api/recipients/{id_}/message"))[0] == 404


async def test_a_key_sees_messages_of_its_own_senders_if_it_may_read(site: Site) -> None:
    id_ = await one(site)
    other = await site.keys.create("other", senders=["you@example.com"])
    poster = await site.keys.create("poster", permissions=[Permission.SEND])
    for secret, expected in (other, 404), (poster, 403):
        status, _ = await site.get(f"/api/recipients/{id_}/message", headers={"X-API-Key": secret})
        assert status == expected
