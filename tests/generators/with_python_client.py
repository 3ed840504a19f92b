"""The smallest job, posted by the client that openapi-python-client makes."""

import json
import os

from mailerd_client import AuthenticatedClient
from mailerd_client.api.events import list_events
from mailerd_client.api.jobs import create_job, get_job, stream_job_events
from mailerd_client.models import AcceptedOut, FeedEventOut, FeedOut, JobIn, JobOut, RecipientIn, TemplateIn

client = AuthenticatedClient(os.environ["MAILERD_URL"], token=os.environ["MAILERD_API_KEY"])
body = JobIn(
    sender_email="me@example.com",
    template=TemplateIn(subject="Hello", text="Hello"),
    recipients=[RecipientIn(email="python@example.org")],
)
posted = create_job.sync(client=client, body=body)
assert isinstance(posted, AcceptedOut), posted
job = get_job.sync(posted.job_id, client=client)
assert isinstance(job, JobOut), job
page = list_events.sync(client=client, after="0")
assert isinstance(page, FeedOut), page
told = [(it.id, it.type_) for it in page.events]
stream = stream_job_events.sync(posted.job_id, client=client)  # it ends with the job
assert isinstance(stream, str), stream
assert stream.rstrip().rpartition("event: ")[2].startswith("finished\n"), stream
ended = JobOut.from_dict(json.loads(stream.rstrip().rpartition("data: ")[2]))
assert (ended.total, ended.status.value) == (1, "completed"), ended
with client.get_httpx_client().stream("GET", "/api/events/stream", params={"after": 0}) as response:
    lines = (line for line in response.iter_lines() if line.startswith("data: "))  # it does not end
    first = FeedEventOut.from_dict(json.loads(next(lines).removeprefix("data: ")))
assert (first.id, first.type_) == told[0] if told else first.id == 1, first
print(posted.job_id, job.total, posted.forecast.done_at, told)  # noqa: T201 - the script that runs it reads this
