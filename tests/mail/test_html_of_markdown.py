"""The HTML of a message that is written as Markdown is made in the child, as all templates are."""

import pytest

from mailerd.mail.templates import Content, RecipientData, Source, Template, TemplateErrors
from tests.support.rendering import rendering


async def test_it_is_made_in_the_child_and_a_value_is_text_there() -> None:
    async with rendering() as renderer:
        html = await renderer.html_of("# {{ title }}\n\n[go]({{ url }})", origin="o")
        reader = RecipientData("a@b.example", None, '{"title": "<i>*x*</i>", "url": "https://b.example/?a=\\"1"}')
        (made,) = await renderer.render(Template(Source("s", html, None)), [reader], origin="o")
    assert isinstance(made, Content)
    assert made.html == '<h1>&lt;i&gt;*x*&lt;/i&gt;</h1>\n<p><a href="https://b.example/?a=&#34;1">go</a></p>'


async def test_an_error_names_the_line_that_was_typed() -> None:
    async with rendering() as renderer:
        with pytest.raises(TemplateErrors) as caught:
            await renderer.html_of("Hello\n\n{{ name", origin="o")
        assert [each.line for each in caught.value.errors] == [3]
