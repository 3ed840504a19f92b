"""A job's template in all its languages, and its CSS where that is to be inlined: what a letter is really made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import css_inline

from mailerd.core.languages import choose
from mailerd.letters.errors import RenderError
from mailerd.letters.template import Content, Template

CSS_AT_MOST: Final = 1_000_000
"""Characters of a rendered letter whose CSS is inlined: it takes some milliseconds for each 100,000."""

# Nothing is loaded, neither from the network nor from the disk. Rules that cannot be inlined (@media) stay in <style>.
_INLINER: Final = css_inline.CSSInliner(
    load_remote_stylesheets=False, keep_style_tags=True, keep_link_tags=True, keep_at_rules=True
)


@dataclass(frozen=True)
class Variants:
    """Templates by language; nothing in it changes, so several threads may use it at once."""

    default: Template
    languages: Mapping[str, Template] = field(default_factory=dict)
    inline_css: bool = False

    def of(self, variables: Mapping[str, object]) -> Template:
        """The template of whom these variables belong to: their `language` says which."""
        found = choose(variables.get("language"), among=self.languages.keys()) if self.languages else None
        return self.languages[found] if found else self.default

    def troubles(self, variables: Mapping[str, object]) -> list[RenderError]:
        """Why these variables will not render; an empty list means that they will."""
        return self.of(variables).troubles(variables)

    def render(self, variables: Mapping[str, object]) -> Content:
        """One recipient's letter.

        Raises:
            RenderError: the variables do not fit the template, or its CSS cannot be inlined.
        """
        content = self.of(variables).render(variables)
        if not self.inline_css or content.html is None or "<style" not in content.html.lower():
            return content
        if len(content.html) > CSS_AT_MOST:
            raise RenderError(f"more than {CSS_AT_MOST} characters, too many to inline CSS", part="html", line=None)
        try:
            return replace(content, html=_INLINER.inline(content.html))
        except (css_inline.InlineError, ValueError) as error:
            raise RenderError(f"its CSS cannot be inlined: {error}", part="html", line=None) from error
