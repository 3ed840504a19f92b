"""The body of `POST /api/jobs/send_template_emails`, field by field, but for its recipients."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mailerd.intake.addresses import Addresses, mailbox
from mailerd.intake.parsing import too_deep
from mailerd.intake.problems import Fault

LINE_AT_MOST: Final = 255
"""Characters of a name or a reference, as in the schema."""
SUBJECT_AT_MOST: Final = 10_000
"""Characters of the subject's template: four bytes each still fit into its column."""
PART_AT_MOST: Final = 4_000_000
"""Characters of the template's html or text: four bytes each still fit into its column."""
AHEAD_AT_MOST: Final = timedelta(days=366)

NOT_YET: Final = ("template_name", "attachments", "dry_run")
"""Fields of the contract that come later: they are refused, never passed over."""

# What would end a header or forge one: C0, DEL, C1 and the separators that some programs take for line ends.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?P<zone>[Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


def one_line(value: str) -> str:
    """A value that goes into a header. Raises ValueError when it holds a control character."""
    if found := _CONTROL.search(value):
        raise ValueError(f"contains the control character U+{ord(found[0]):04X}")
    return value


def _moment(value: object, info: ValidationInfo) -> object:
    if value is None:
        return None
    match = _RFC_3339.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a time such as "2026-12-01T09:00:00Z" (RFC 3339)')
    if match["zone"] is None:
        raise ValueError('must say its zone, as in "2026-12-01T09:00:00Z" or "…+01:00"')
    try:
        moment = datetime.fromisoformat(match[0].upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time: {error}") from None
    if info.context and moment > info.context["now"] + AHEAD_AT_MOST:
        raise ValueError("is more than a year ahead")
    return moment


def _mailbox(value: str) -> str:
    return mailbox(value)


def _address(value: str) -> str:
    return Addresses().check(value)


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    if too_deep(value):
        raise ValueError("is nested too deeply")
    return value


Line = Annotated[str, AfterValidator(one_line), Field(max_length=LINE_AT_MOST)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TemplateIn(_Strict):
    """`template`: Jinja2 sources."""

    subject: Annotated[str, AfterValidator(one_line), Field(min_length=1, max_length=SUBJECT_AT_MOST)]
    html: Annotated[str, Field(max_length=PART_AT_MOST)] | None = None
    text: Annotated[str, Field(max_length=PART_AT_MOST)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.html or self.text):
            raise ValueError("needs html or text")
        return self


class Head(_Strict):
    """Everything but the recipients."""

    sender_email: Annotated[str, AfterValidator(_mailbox)]
    sender_name: Line | None = None
    reply_to: Annotated[str, AfterValidator(one_line), AfterValidator(_address)] | None = None
    template: TemplateIn
    variables: Annotated[dict[str, Any], AfterValidator(_shallow)] | None = None
    send_at: Annotated[datetime | None, BeforeValidator(_moment)] = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    reference: Line | None = None
    on_invalid: Literal["reject", "skip"] = "reject"


def read_head(fields: Mapping[str, Any], *, now: datetime) -> tuple[Head | None, list[Fault]]:
    """The head of a request, or None and everything that is wrong with it."""
    faults = [Fault(name, "is not supported yet") for name in NOT_YET if name in fields]
    known = {name: value for name, value in fields.items() if name not in NOT_YET}
    try:
        return Head.model_validate(known, context={"now": now}), faults
    except ValidationError as error:
        return None, [*faults, *_said(error)]


def _said(error: ValidationError) -> Iterator[Fault]:
    for each in error.errors(include_url=False, include_input=False):
        path = ".".join(str(step) for step in each["loc"])
        match each["type"]:
            case "missing":
                yield Fault(path, "is required")
            case "extra_forbidden":
                yield Fault(path, "unknown field")
            case "model_type" | "dict_type":
                yield Fault(path, "must be an object")
            case "string_type":
                yield Fault(path, "must be a string")
            case "int_type":
                yield Fault(path, "must be a whole number")
            case "value_error":
                yield Fault(path, each["msg"].removeprefix("Value error, "))
            case _:
                yield Fault(path, each["msg"][:1].lower() + each["msg"][1:])
