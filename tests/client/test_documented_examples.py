"""The examples of the documents, as they stand, against a daemon: Python's, and those of templates with curl."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Place
from tests.house.markdown import Paper

DOCS = Path(__file__).parents[2] / "docs"
JOB = DOCS.parent / "examples" / "first-job.json"
LANGUAGES = pytest.mark.parametrize("ending", [".md", ".zh-CN.md"])


def section(tmp_path: Path, page: str, begin: str) -> Paper:
    """The section of a page that has these characters in its heading."""
    parts = (DOCS / page).read_text("utf-8").split("\n## ")
    [text] = [part for part in parts if begin in part.splitlines()[0]]
    (tmp_path / "part.md").write_text(f"## {text}\n", "utf-8")
    return Paper(tmp_path / "part.md")


async def run(place: Place, *command: str, **known: str) -> str:
    """What a program prints; it ends well."""
    known = {**os.environ, "MAILERD_URL": place.url, "MAILERD_API_KEY": place.key, "KEY": place.key, **known}
    process = await asyncio.create_subprocess_exec(
        *command, env=known, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


@LANGUAGES
async def test_the_examples_from_python_send_their_messages_once(place: Place, tmp_path: Path, ending: str) -> None:
    one, many = [it for it in section(tmp_path, f"reference/api{ending}", "Python").blocks if it.language == "python"]
    for _ in range(2):
        await run(place, sys.executable, "-c", one.body)
    assert await place.jobs() == 1
    job = JOB.read_text("utf-8")
    given = f"import json, os\nkey, job = os.environ['KEY'], json.loads('''{job}''', strict=False)\n"
    program = given + many.body.replace("http://127.0.0.1:5000", place.url).replace('"results.csv"', "'/dev/null'")
    said = await run(place, sys.executable, "-c", program + "print(job['status'], failed)")
    assert (said.strip(), await place.jobs()) == ("completed []", 2)


@LANGUAGES
async def test_the_examples_of_templates_store_publish_and_render(place: Place, tmp_path: Path, ending: str) -> None:
    guide = section(tmp_path, f"how-to/templates{ending}", "API")
    shown: list[Any] = [json.loads(it.body) for it in guide.blocks if it.language == "json"]
    said = [
        json.loads(await run(place, "bash", "-c", it.body.replace("http://127.0.0.1:5000", place.url)))
        for it in guide.blocks
        if it.language == "bash"
    ]
    assert said[0] == shown[0]
    assert said[1]["published"] == said[0]["version"]
    reference = (DOCS / f"reference/api{ending}").read_text("utf-8")
    [line] = [each for each in reference.splitlines() if "{name}/render`" in each]
    body = "{" + line.split("`{", 1)[1].split("}`")[0] + "}"
    call = f"curl -sS -H 'X-API-Key: {place.key}' -H 'Content-Type: application/json' -d '{body}'"
    made = json.loads(await run(place, "bash", "-c", f"{call} {place.url}/api/templates/order/render"))
    assert (made["subject"], "Dear Ada, order 17" in made["html"]) == ("Order 17", True)


async def test_the_example_in_flask_gives_its_caller_a_422_for_an_address_that_is_none(place: Place) -> None:
    program = """
from flask_app import app
for number, email in ((17, "ada@example.com"), (18, "nobody")):
    print(app.test_client().post(f"/orders/{number}/thanks", data={"email": email}).status_code)
"""
    said = await run(place, sys.executable, "-c", program, PYTHONPATH=f"{DOCS.parent}/examples")
    assert said.split() == ["202", "422"]
    said = await run(
        place, sys.executable, "-c", program, PYTHONPATH=f"{DOCS.parent}/examples", MAILERD_API_KEY="wrong"
    )
    assert said.split() == ["502", "502"]
