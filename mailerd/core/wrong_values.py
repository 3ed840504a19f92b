"""What is wrong with a value, by the type of pydantic's error: its own sentences are for
developers, and English.
"""

from collections.abc import Mapping
from typing import Any, Final

from mailerd.core.i18n import N_, Text, t

_BY_TYPE: Final = {
    "missing": N_("is missing"),
    "int_parsing": N_("must be a whole number"),
    "int_type": N_("must be a whole number"),
    "int_from_float": N_("must be a whole number"),
    "int_parsing_size": N_("must be a whole number"),
    "float_parsing": N_("must be a number"),
    "float_type": N_("must be a number"),
    "finite_number": N_("must be a number"),
    "bool_parsing": N_("must be true or false"),
    "bool_type": N_("must be true or false"),
    "string_type": N_("must be text"),
    "list_type": N_("must be a list"),
    "dict_type": N_("must be a table"),
    "model_type": N_("must be a section such as [database]"),
    "path_type": N_("must be a path"),
    "greater_than": N_("must be more than {gt}"),
    "greater_than_equal": N_("must be at least {ge}"),
    "less_than": N_("must be less than {lt}"),
    "less_than_equal": N_("must be at most {le}"),
    "string_too_short": N_("is too short: its minimum length is {min_length}"),
    "string_too_long": N_("is too long: its maximum length is {max_length}"),
    "string_pattern_mismatch": N_("must match the pattern {pattern}"),
    "literal_error": N_("must be one of {expected}"),
}


def wrong_value(type_: str, context: Mapping[str, Any]) -> Text | None:
    """What is wrong, by the `type` and `ctx` of an error; None: it says so itself, or it is of no
    type that is known.

    An error of a validator of ours (`value_error`) has the exception in its context: that is what
    it says.
    """
    if (
        isinstance(said := getattr(context.get("error"), "args", None), tuple)
        and said
        and isinstance(said[0], Text)
    ):
        return said[0]
    if (template := _BY_TYPE.get(type_)) is None:
        return None
    fields = {name: f"{it:g}" if isinstance(it, float) else it for name, it in context.items()}
    return t(template, **{**fields, "expected": str(context.get("expected")).replace(" or ", ", ")})
