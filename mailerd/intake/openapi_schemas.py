"""Schemas as generators of clients take them, and examples made of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mailerd.intake.errors import CODES
from mailerd.intake.openapi_words import DESCRIPTIONS, EXAMPLES

PREFIX: Final = "#/components/schemas/"
_BY_TYPE: Final[dict[str, Any]] = {"integer": 1, "number": 1.0, "boolean": True, "string": "text", "null": None}
_BY_FORMAT: Final = {"date-time": "2026-12-01T09:00:00Z", "byte": "JVBERi0xLjcK"}


def for_generators(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas, with a description for each property and no defaults.

    A generator for TypeScript makes a field with a default one that must be given, so the default is said in words.
    """
    made = {}
    for name, schema in schemas.items():
        properties = {field: _property(field, each) for field, each in schema.get("properties", {}).items()}
        made[name] = {**schema, "properties": properties} if properties else schema
    made["FailureOut"]["properties"]["code"]["description"] += ": " + ", ".join(f"`{code}`" for code in sorted(CODES))
    return made


def _property(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if key not in {"default", "title"}}
    said = made.get("description") or DESCRIPTIONS.get(name, "")
    if schema.get("default"):  # what is absent, empty or false needs no word
        said += f"; by default {schema['default']}"
    return {**made, "description": said} if said else made


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str = "") -> Any:
    """A value that fits a schema: the one that it gives itself, else one by its name, else one by its type."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "$ref" in schema:
        model = schema["$ref"].removeprefix(PREFIX)
        return EXAMPLES[name] if name in _WHOLE else example_of(schemas[model], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {field: example_of(each, schemas, name=field) for field, each in schema["properties"].items()}
    return _plain(schema, schemas, name)


_WHOLE: Final = frozenset({"forecast"})
"""Fields whose example is given whole."""


def _plain(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str) -> Any:
    either = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    kind = schema.get("type")
    if name in EXAMPLES and _fits(EXAMPLES[name], schema):
        return EXAMPLES[name]
    if either:
        return example_of(either[0], schemas, name=name)
    if "contentSchema" in schema:
        return json.dumps(example_of(schema["contentSchema"], schemas))
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas)]
    if kind == "object":
        return dict.fromkeys(_keys(schema, schemas), 1)
    return _BY_FORMAT.get(schema.get("format", "")) or _BY_TYPE.get(str(kind))


def _keys(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    names = schema.get("propertyNames", {})
    yield from schemas[names["$ref"].removeprefix(PREFIX)].get("enum", ()) if "$ref" in names else ()


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = {schema.get("type"), *(each.get("type") for each in schema.get("anyOf", ()))}
    match value:
        case None:
            return "null" in kinds
        case str():
            return "string" in kinds and "format" not in schema
        case int() | float():
            return bool({"integer", "number"} & kinds)
        case list():
            return "array" in kinds
        case _:
            return "object" in kinds
