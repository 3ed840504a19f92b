"""`POST /api/jobs/send_template_emails/test`: a job as some of its recipients would get it, to
other addresses.

What is posted is a job of the type `test`, through the same door as any other, with a recipient for
each message.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import AfterValidator, ConfigDict, Field, WrapValidator

from mailerd.core.i18n import t
from mailerd.core.rate_limit import CONSUMER_DOMAINS
from mailerd.core.suppression import canonical
from mailerd.http.errors import FieldError, invalid
from mailerd.intake.request_models import EXAMPLE, JobIn
from mailerd.mail.mime import Addresses
from mailerd.operations.inputs import EMAIL_SCHEMA, RequestModel, read_model

MAX_ADDRESSES: Final = 5
MAX_RECIPIENTS: Final = 3
_FORCED: Final = {"allow_duplicates": True, "on_bounces": "go_on", "on_invalid": "reject"}
_LEFT_OUT: Final = frozenset({"cc", "bcc", "metadata", "send_at", "tags"})
"""Fields of jobs and of recipients that are for the real messages: who else gets them, when, and
what they are.
"""
_OWN: Final = "/"
"""What the fields of a test begin with here: those of its job may have the same names."""
TEST_OF: Final = "test-of"
"""The variable of a test that says whose message it is: that person is found by it.

No template can name it.
"""
_RECIPIENT: Final = re.compile(r"recipients\[(\d+)\]")


def _unread(value: object, _: object) -> object:
    if not isinstance(value, dict):
        raise ValueError(t("must be an object"))  # noqa: TRY004 - what a validator raises
    return value


class JobTestIn(RequestModel):
    """A job, whose recipients would get it, and who gets it instead."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"job": EXAMPLE, "to": ["me@example.com"]}]}
    )

    # Read and checked as any job, recipient by recipient.
    job: Annotated[
        JobIn, WrapValidator(_unread), Field(description="the job, as it would be posted")
    ]
    to: Annotated[
        list[
            Annotated[str, AfterValidator(Addresses().check), Field(json_schema_extra=EMAIL_SCHEMA)]
        ],
        Field(
            min_length=1,
            max_length=MAX_ADDRESSES,
            description="who gets the messages: the sender, its domain (but not gmail.com), or mailboxes and aliases "
            "that the key may send from",
        ),
    ]
    indexes: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(
            default_factory=lambda: [0],
            min_length=1,
            max_length=MAX_RECIPIENTS,
            description="`index` of the recipients whose messages are shown, from 0; absent: the first one",
        ),
    ]


@dataclass(frozen=True)
class JobTest:
    """Who gets a test, and as which recipients: the first of these first, once for each address."""

    to: Sequence[str]
    indexes: Sequence[int]

    def field_of(self, path: str) -> str:
        """What a field of the job that is posted is called in the test."""
        if path.startswith(_OWN) or not self.to:  # or the body was refused before it was a job
            return path.removeprefix(_OWN)
        return "job." + _RECIPIENT.sub(
            lambda it: f"recipients[{self.indexes[int(it[1]) // len(self.to)]}]", path
        )

    def not_allowed(self, sender: str, known: Sequence[bool]) -> list[FieldError]:
        """The addresses that get no tests of this sender.

        `known`: whether the key may send from each of them.
        """
        own = canonical(sender)
        domain = own.rpartition("@")[2]
        why = t(
            "gets no tests: it is neither in the sender's domain nor a sender that the key may use"
        )
        return [
            FieldError(f"{_OWN}to[{place}]", why)
            for place, (it, is_known) in enumerate(zip(map(canonical, self.to), known, strict=True))
            if not (
                is_known
                or it == own
                or (it.rpartition("@")[2] == domain and domain not in CONSUMER_DOMAINS)
            )
        ]


NO_TEST: Final = JobTest((), ())


def as_job(given: Mapping[str, Any]) -> tuple[dict[str, Any], JobTest]:
    """The body of the job that sends this test; the job's check finds what is wrong with the job.

    Raises:
        ApiError: 422, there is no test in it.
    """
    asked = read_model(JobTestIn, given)
    twice = [*_repeated("to", [*map(canonical, asked.to)]), *_repeated("indexes", asked.indexes)]
    if twice:
        raise invalid(twice)
    job = cast("dict[str, Any]", asked.job)
    recipients = job.get("recipients")
    job = {name: it for name, it in job.items() if name not in _LEFT_OUT} | _FORCED
    if isinstance(recipients, list) and recipients:
        if wrong := [
            place for place, index in enumerate(asked.indexes) if index >= len(recipients)
        ]:
            why = t("the job has no such recipient: it has {n:,}", n=len(recipients))
            raise invalid([FieldError(f"indexes[{place}]", why) for place in wrong])
        names = given_names(job)
        job["recipients"] = [
            _instead(recipients[index], to, names) for index in asked.indexes for to in asked.to
        ]
    return job, JobTest(asked.to, asked.indexes)


def _repeated(name: str, values: Sequence[object]) -> list[FieldError]:
    """The places of what stands before them in the same list: it would be the same message
    again.
    """
    return [
        FieldError(f"{name}[{place}]", t("is given twice"))
        for place, it in enumerate(values)
        if it in values[:place]
    ]


def given_names(job: Mapping[str, Any]) -> frozenset[str]:
    """The names of the variables of a job."""
    variables = job.get("variables")
    return frozenset(variables) if isinstance(variables, dict) else frozenset()


def _instead(recipient: Any, to: str, names: frozenset[str]) -> Any:
    """Another address as this recipient: the template sees the recipient's address, too."""
    if not isinstance(recipient, dict):
        return recipient
    own, email = recipient.get("variables"), recipient.get("email")
    if (own is None or isinstance(own, dict)) and isinstance(email, str):
        seen = {} if "email" in names else {"email": email}
        own = seen | (own or {}) | {TEST_OF: canonical(email)}
    kept = {name: it for name, it in recipient.items() if name not in _LEFT_OUT}
    return kept | {"email": to} | ({} if own is None else {"variables": own})
