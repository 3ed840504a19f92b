"""The smallest job, posted by the client that openapi-python-client makes."""

import os

from mailerd_client import AuthenticatedClient
from mailerd_client.api.events import list_events
from mailerd_client.api.jobs import create_job, get_job
from mailerd_client.models import AcceptedOut, FeedOut, JobIn, JobOut, RecipientIn, TemplateIn

client = AuthenticatedClient(
    os.environ["MAILERD_URL"], token=os.environ["MAILERD_API_KEY"], prefix="", auth_header_name="X-API-Key"
)
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
print(posted.job_id, job.total, posted.forecast.done_at, told)  # noqa: T201 - the script that runs it reads this
