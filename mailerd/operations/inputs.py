"""What an operation is given: the base of the models, and what is wrong with the fields of one, in
words.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from mailerd.core.i18n import N_, joined, t
from mailerd.errors import MailerdError
from mailerd.http.errors import MAX_DETAILS, ApiError, FieldError, invalid
from mailerd.mail.mime import MAX_ADDRESS
from mailerd.mail.templates import ONE_LINE
from mailerd.store.write.list_names import LIST_NAME, MAX_LIST_NAME

TOO_MANY: Final = "too_many_fields"


def few_fields(number: int, known: Collection[str], *, objects: int = 1) -> None:
    """Refuse so many objects that have so many fields together, before each of these is checked.

    Pydantic makes an error of each unknown field, which takes a hundred times as much memory as the
    field, and time in which nothing else runs.
    """
    if number > objects * len(known) + MAX_DETAILS:
        raise PydanticCustomError(
            TOO_MANY,
            "has {number} fields; known fields: {known}",
            {"number": f"{number:,}", "known": ", ".join(known) or "-"},
        )


class RequestModel(BaseModel):
    """The base of every body: nothing else is in it, and nothing is taken for something else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: object) -> object:
        """A stranger may fill any body with a million fields."""
        if isinstance(value, dict):
            few_fields(len(value), cls.model_fields)
        return value


def read_model[M: BaseModel](
    model: type[M], fields: Mapping[str, Any], *, context: object = None
) -> M:
    """A small body; `context`: what its validators are given.

    Raises:
        ApiError: 422, naming all that is wrong.
    """
    try:
        return model.model_validate(fields, context=context)
    except ValidationError as error:
        raise invalid(list(field_errors(error))) from None


class WrongFieldError(MailerdError):
    """A field has a value that it may not have; in words."""


def read_fields[M: BaseModel](
    model: type[M], fields: Mapping[str, Any], *, context: object = None
) -> M:
    """What an operation is given, of the fields of a form or the options of a command; `context`:
    as in `read_model`.

    Raises:
        WrongFieldError: the first that is wrong.
    """
    try:
        return read_model(model, fields, context=context)
    except ApiError as error:
        wrong = error.errors[0]
        raise WrongFieldError(joined([wrong.field, wrong.message], ": ")) from None


EMAIL_SCHEMA: Final = {"format": "idn-email", "maxLength": MAX_ADDRESS}
"""What the schema says of an address, which a function of ours checks; so with the others."""
LINE_SCHEMA: Final = {"pattern": ONE_LINE}
LIST_SCHEMA: Final = {"maxLength": MAX_LIST_NAME, "pattern": f"^{LIST_NAME.pattern}$"}
UNKNOWN_FIELD: Final = N_("unknown field")
MESSAGES: Final = {
    "missing": N_("is required"),
    "extra_forbidden": UNKNOWN_FIELD,
    "model_type": N_("must be an object"),
    "dict_type": N_("must be an object"),
    "string_type": N_("must be a string"),
    "list_type": N_("must be a list"),
    "bool_type": N_("must be true or false"),
    "int_type": N_("must be a whole number"),
    "float_type": N_("must be a number"),
    "finite_number": N_("must be a number"),
    "string_too_short": N_("must not be empty"),
    "string_too_long": N_("exceeds {max_length} characters"),
    "string_pattern_mismatch": N_("must match the pattern {pattern}"),
    "too_short": N_("must not be empty"),
    "too_long": N_("has {actual_length} entries, above the limit of {max_length}"),
    "greater_than_equal": N_("must be at least {ge}"),
    "less_than_equal": N_("must be at most {le}"),
    "literal_error": N_("must be one of {expected}"),
    TOO_MANY: N_("has {number} fields; known fields: {known}"),
}
"""Messages for pydantic's types of errors, in the words of JSON; other types keep pydantic's
message.
"""


def field_errors(error: ValidationError) -> Iterator[FieldError]:
    """All that is wrong, each with the path of its field."""
    for each in error.errors(include_url=False, include_input=False):
        path = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in each["loc"]
        ).removeprefix(".")
        yield FieldError(path, _message(each))


def _message(it: ErrorDetails) -> str:
    context = it.get("ctx", {})
    if it["type"] == "value_error":  # of a validator of ours
        return str(context["error"])
    if (words := MESSAGES.get(it["type"])) is None:
        return it["msg"][:1].lower() + it["msg"][1:]
    if "expected" in context:
        context["expected"] = context["expected"].replace(" or ", ", ")
    return t(words, **context)
