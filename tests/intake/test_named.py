"""Templates by name: chosen by language, kept in the version that a job was posted with, never a way to other files."""

import shutil
from pathlib import Path

import pytest

from tests.intake.site import Build, Site, job

EXAMPLES = Path(__file__).parents[2] / "examples" / "templates"
POST = {"template": None, "template_name": "welcome"}


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "templates"))


@pytest.fixture
async def named(build: Build, folder: Path) -> Site:
    return await build(templates=folder)


async def test_a_named_template_is_stored_with_its_languages_and_pictures(named: Site) -> None:
    status, answer = await named.post(
        job(
            {"email": "a@example.com", "name": "A"},
            {"email": "b@example.com", "name": "B", "language": "zh-CN"},
            **POST,
        )
    )

    assert status == 200, answer
    _, shown = await named.get(f"/api/jobs/{answer['job_id']}")
    assert shown["template"]["name"] == "welcome"
    assert len(shown["template"]["version"]) == 16
    assert await named.rows("SELECT subject, inline_css, attachments FROM jobs") == [
        ("Welcome to {{ product }}, {{ name }}", 1, 1)
    ]
    assert await named.rows("SELECT language, subject FROM job_templates") == [
        ("zh", "{{ name }}，欢迎使用 {{ product }}")
    ]
    assert await named.rows("SELECT content_id FROM job_attachments") == [("logo.png",)]
    assert await named.rows("SELECT variables FROM job_recipients ORDER BY seq") == [(None,), ('{"language":"zh-CN"}',)]


async def test_a_dry_run_shows_each_language_with_its_css_inlined(named: Site) -> None:
    _, answer = await named.post(
        job(
            {"email": "a@example.com", "name": "A"},
            {"email": "b@example.com", "name": "B", "language": "zh_TW"},
            {"email": "c@example.com", "name": "C", "language": "fr"},
            dry_run=True,
            **POST,
        )
    )

    subjects = [each["subject"] for each in answer["samples"]]
    assert subjects == ["Welcome to X, A", "B，欢迎使用 X", "Welcome to X, C"]
    assert '<h1 style="color: #205090;">' in answer["samples"][0]["html"]
    assert "Thank you for choosing X." in answer["samples"][0]["text"]
    assert "205090" not in answer["samples"][0]["text"]


async def test_an_empty_part_is_none_for_the_dry_run_as_for_the_sending(named: Site, folder: Path) -> None:
    (folder / "welcome" / "body.txt").write_text("")
    (folder / "welcome" / "zh" / "body.html").write_text("")
    (folder / "welcome" / "zh" / "body.txt").write_text("{{ name }}，你好")
    people = {"email": "a@example.com", "name": "A"}, {"email": "b@example.com", "name": "B", "language": "zh"}
    _, answer = await named.post(job(*people, dry_run=True, **POST))

    english, chinese = answer["samples"]
    assert "Thank you for choosing X." in english["text"]
    assert (chinese["html"], chinese["text"]) == (None, "B，你好")
    await named.post(job(*people, **POST))
    assert await named.rows("SELECT text FROM jobs") == [(None,)]
    assert await named.rows("SELECT html, text FROM job_templates") == [(None, "{{ name }}，你好")]


async def test_the_link_that_unsubscribes_needs_no_declaration(named: Site, folder: Path) -> None:
    link = '{% if unsubscribe_url %}<a href="{{ unsubscribe_url }}">Unsubscribe</a>{% else %}no link{% endif %}'
    (folder / "welcome" / "body.html").write_text(link)
    status, answer = await named.post(job(dry_run=True, list="news", **POST))

    assert status == 200, answer
    assert answer["samples"][0]["html"] == "no link"  # it has no public address here


async def test_a_byte_order_mark_is_no_part_of_a_message(named: Site, folder: Path) -> None:
    for file in (folder / "welcome").rglob("*.t*"):  # as an editor of Windows saves them
        file.write_text(file.read_text(), encoding="utf-8-sig")
    _, answer = await named.post(job(dry_run=True, **POST))

    assert answer["samples"][0]["subject"].startswith("Welcome to X")
    assert "\ufeff" not in str(answer)


async def test_a_changed_template_is_another_version_and_a_posted_job_keeps_its_own(named: Site, folder: Path) -> None:
    _, first = await named.post(job(**POST))
    (folder / "welcome" / "subject.txt").write_text("Changed {{ name }}")
    _, second = await named.post(job(**POST))
    versions = [(await named.get(f"/api/jobs/{it['job_id']}"))[1]["template"]["version"] for it in (first, second)]

    assert versions[0] != versions[1]
    assert await named.rows("SELECT subject FROM jobs ORDER BY id") == [
        ("Welcome to {{ product }}, {{ name }}",), ("Changed {{ name }}",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["nothing", "../templates/welcome", "welcome/zh", "/etc/passwd", "..", "WELCOME", "", "welcome\x00", "a" * 65],
)
async def test_no_other_name_leads_anywhere(named: Site, name: str) -> None:
    status, answer = await named.post(job(template=None, template_name=name))

    assert status == 422
    assert answer["error"]["details"][0]["field"] == "template_name"


async def test_what_leads_out_of_a_templates_folder_is_refused(named: Site, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_text("<p>secret</p>")
    (folder / "welcome" / "body.html").unlink()
    (folder / "welcome" / "body.html").symlink_to(tmp_path / "secret.html")
    status, answer = await named.post(job(**POST))

    assert status == 422
    assert "points outside the folder" in answer["error"]["details"][0]["message"]


@pytest.mark.parametrize(
    "path, text, words",
    [
        ("body.html", "{{ secret }}", "'secret', which template.toml does not declare"),
        ("body.html", "{% include '/etc/passwd' %}", "body"),
        ("zh/body.html", "{{ x.__class__ }}", "zh/html"),
        ("subject.txt", "", "subject.txt: is missing or empty"),
        ("template.toml", "colour = 1", "unknown key 'colour'"),
        ("template.toml", "[variables]\nwhen = {at = [nan]}", "not JSON compliant"),
        ("template.toml", "language = 5", "language must be a text"),
        ("template.toml", "x = [", "template welcome"),
        ("images/evil.svg.exe", "x", "which Gmail rejects"),
        ("images/page.html", "x", "is not an image"),
        ("ZZ!/body.html", "x", "must be a language"),
    ],
)
async def test_a_broken_template_is_refused_with_its_reasons(
    named: Site, folder: Path, path: str, text: str, words: str
) -> None:
    file = folder / "welcome" / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    status, answer = await named.post(job(**POST))

    assert status == 422
    if path != "body.html" or "include" not in text:
        assert words in answer["error"]["details"][0]["message"]
    _, listed = await named.get("/api/templates")
    assert [each["name"] for each in listed["broken"]] == ["welcome"]


async def test_a_folder_that_may_not_be_read_is_told_and_no_bug(build: Build, tmp_path: Path) -> None:
    """A name that is too long for the system stands for a folder of another user's, which root may read."""
    site = await build(templates=tmp_path / ("x" * 300))
    status, answer = await site.get("/api/templates")
    assert (status, answer["error"]["code"]) == (503, "renderer_unavailable")
    assert answer["error"]["message"] == "templates.folder cannot be read: File name too long"
    status, _ = await site.post(job(**POST))
    assert status == 422
    assert not site.heard.of("request_failed")


async def test_an_example_that_is_a_date_to_toml_is_a_text(named: Site, folder: Path) -> None:
    file = folder / "welcome" / "template.toml"
    file.write_text(f"{file.read_text()}\nday = 2026-12-01\ntimes = [09:30:00, 2026-12-01T09:30:00Z]\n")
    status, listed = await named.get("/api/templates")
    assert (status, listed["broken"]) == (200, [])
    given = listed["templates"][0]["variables"]
    assert (given["day"], given["times"]) == ("2026-12-01", ["09:30:00", "2026-12-01T09:30:00+00:00"])


async def test_the_library_is_listed(named: Site) -> None:
    status, listed = await named.get("/api/templates")

    assert status == 200
    [it] = listed["templates"]
    assert (it["name"], it["languages"], it["pictures"]) == ("welcome", ["zh"], ["logo.png"])
    assert it["variables"] == {"name": "Ada", "product": "Tea"}
    assert listed["broken"] == []


@pytest.mark.parametrize("language", [7, "", "x" * 40, "en us", "../zh"])
async def test_a_language_that_is_none_is_named(named: Site, language: object) -> None:
    status, answer = await named.post(job({"email": "a@example.com", "name": "A", "language": language}, **POST))

    assert (status, answer["error"]["details"][0]["field"]) == (422, "recipients[0].language")
