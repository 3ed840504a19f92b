"""Letters: templates in a restricted Jinja, and the bytes of a message; this door alone imports jinja2."""

from mailerd.letters.attachments import Attachment, attachment
from mailerd.letters.compose import Envelope, compose
from mailerd.letters.errors import RenderError, TemplateError, TemplateErrors
from mailerd.letters.template import Content, Template
from mailerd.letters.text import text_from_html
from mailerd.letters.variants import Variants

__all__ = [
    "Attachment",
    "Content",
    "Envelope",
    "RenderError",
    "Template",
    "TemplateError",
    "TemplateErrors",
    "Variants",
    "attachment",
    "compose",
    "text_from_html",
]
