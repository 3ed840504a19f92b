"""The messages between the renderer and its child: four bytes of length, big-endian, and JSON."""

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

from mailerd.mail.templates import Source, Template

LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = 64 * 1024 * 1024
"""The most bytes of a frame; the largest letter has some 12 MB, where JSON escapes each of its characters."""


def encode_frame(content: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return LENGTH.pack(len(data)) + data


def decode_frame(data: bytes) -> Any:
    """The message in a frame."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def template_to_json(template: Template) -> dict[str, Any]:
    """A template as JSON."""
    sources = {"": template.default, **template.languages}
    return {
        "sources": {tag: [each.subject, each.html, each.text] for tag, each in sources.items()},
        "inline_css": template.inline_css,
        "variables": template.variables,
    }


def template_from_json(given: Mapping[str, Any]) -> Template:
    """A template from JSON."""
    sources = {tag: Source(*parts) for tag, parts in given["sources"].items()}
    return Template(sources.pop(""), sources, given["inline_css"], given["variables"])
