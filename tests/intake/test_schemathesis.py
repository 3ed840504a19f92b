"""The API against its own description: schemathesis makes thousands of requests of openapi.json, good and bad ones."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from mailerd.http import auth
from mailerd.intake import events_endpoint
from tests.intake.site import Build, job

CASES_AT_LEAST = 500
WITHIN = 1800.0
"""Seconds; it takes half a minute, on a machine that is much slower ten times as long."""


@pytest.mark.slow
async def test_schemathesis_finds_no_failure(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_FAILURES_PER_MINUTE", 100_000)  # it leaves the key away on purpose, once each call
    monkeypatch.setattr(events_endpoint, "MAX_STREAM_SECONDS", 0.0)  # a stream ends once it has said what there is
    streamed, begin = set[str](), events_endpoint.EventStreams.begin

    async def noted(self: events_endpoint.EventStreams, request: web.Request) -> events_endpoint.EventStream:
        streamed.add(request.path)
        return await begin(self, request)

    monkeypatch.setattr(events_endpoint.EventStreams, "begin", noted)
    templates = Path(__file__).parents[2] / "examples" / "templates"
    site = await build(patience=5.0, templates=templates)
    _, posted = await site.post(job({"email": "a@example.com", "name": "A"}, {"email": "b@example.com", "name": "B"}))
    ((recipient,),) = await site.rows("SELECT MIN(id) FROM job_recipients")
    (tmp_path / "schemathesis.toml").write_text(
        f"[parameters]\n'path.id' = {json.dumps(posted['job_id'])}\n\n"
        f"[[operations]]\ninclude-tag = 'recipients'\nparameters = {{ 'path.id' = {recipient} }}\n\n"
        # A description cannot say all that is asked of a message: that a template fits its variables, for instance.
        "[checks.positive_data_acceptance]\nexpected-statuses = [200, 204, 401, 403, 404, 409, 422]\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "run",
        f"{site.url}/openapi.json", "--checks", "all", "--max-examples", "40", "--seed", "1", "--no-color",
        "--header", f"X-API-Key: {site.key}", "--generation-deterministic",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = out.decode()

    assert process.returncode == 0, told[-20_000:]
    found = re.search(r"([\d,]+) generated, [\d,]+ passed|(\d+) generated", told)
    assert found, told
    assert int((found[1] or found[2]).replace(",", "")) >= CASES_AT_LEAST, told
    assert not site.heard.of("request_failed")
    assert {"/api/events/stream", f"/api/jobs/{posted['job_id']}/events"} <= streamed, "both streams are read"
