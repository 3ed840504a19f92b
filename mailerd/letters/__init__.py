"""Letters: templates in a restricted Jinja, and the bytes of a message; this door alone imports jinja2."""

from mailerd.letters.compose import Envelope, compose
from mailerd.letters.errors import RenderError, TemplateError, TemplateErrors
from mailerd.letters.template import Content, Template
from mailerd.letters.text import text_from_html

__all__ = [
    "Content",
    "Envelope",
    "RenderError",
    "Template",
    "TemplateError",
    "TemplateErrors",
    "compose",
    "text_from_html",
]
