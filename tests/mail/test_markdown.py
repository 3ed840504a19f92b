"""Markdown as a template: what is Jinja's stays as it is, and no value is ever read as Markdown or HTML."""

import pytest

from mailerd.mail.markdown import markdown_to_html
from mailerd.mail.render import CompiledTemplate
from mailerd.mail.templates import Content, RecipientData, Source, Template

HOSTILE = [
    "**bold** _it_ [x](https://evil.example)",
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "'><img src=x onerror=alert(1)>",
    "{{ secret }}{% for a in b %}",
    "\n\n# heading\n\n- item\n",
    "](https://evil.example) [",
    "`code` ```\n~~~",
    "&lt;b&gt; &#60;",
    "qaaaaaaaaaaaaaaaaaaaaraaaaaaz",
]


def made(markdown: str, **variables: object) -> str:
    """The HTML of a message whose body is this Markdown."""
    template = Template(Source("s", markdown_to_html(markdown), None), variables=variables)
    content = CompiledTemplate(template, at=lambda _: None).render(RecipientData("reader@example.com", None, None))
    assert isinstance(content, Content), [str(each) for each in content]
    return content.html or ""


def escaped(value: str) -> str:
    for each, code in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        value = value.replace(each, code)
    return value


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_text_and_neither_markdown_nor_html(value: str) -> None:
    it = escaped(value)
    markdown = (
        '# {{ v }}\n\n**{{ v }}** [{{ v }}]({{ v }} "{{ v }}")\n- {{ v }}\n\n![{{ v }}](https://a.example/{{ v }})'
    )
    assert made(markdown, v=value) == (
        f'<h1>{it}</h1>\n<p><strong>{it}</strong> <a href="{it}" title="{it}">{it}</a></p>\n'
        f'<ul>\n<li>{it}</li>\n</ul>\n<p><img src="https://a.example/{it}" alt="{it}" /></p>'
    )


@pytest.mark.parametrize(
    "jinja",
    [
        "{{ url | default('https://a.example/?a=1&b=2') }}",
        '{{ "}}" ~ "*a*" }}',
        "{{ 'it\\'s }}' }}",
        "{% if a < 3 and b > 2 %}",
        "{#- *no* \n\n _comment_ -#}",
        "{{ user's }}",
        "{{ never_closed ** __ <b>",
        "{% never_closed '%}",
        "{{ a_b_c }}{{ a*b*c }}",
    ],
)
def test_what_is_of_jinja_stays_as_it_is(jinja: str) -> None:
    assert jinja in markdown_to_html(f"Dear *reader* {jinja}")


def test_statements_on_lines_of_their_own_are_in_no_paragraph() -> None:
    source = "{% if vip %}\n\nDear **{{ name }}**\n\n{% else %}\nHello\n{% endif %}\n"
    source += "{% for i in items %}\n- {{ i }}\n{% endfor %}"
    assert made(source, vip=True, name="Ada", items=["a", "b"]).replace("\n", "") == (
        "<p>Dear <strong>Ada</strong></p><ul><li>a</li></ul><ul><li>b</li></ul>"
    )
    assert made(source, vip=False, items=[]).strip() == "<p>Hello</p>"


def test_html_of_the_author_is_shown_as_text_and_no_link_runs_a_script() -> None:
    html = markdown_to_html(
        "<b>x</b> <script>1</script> [a](javascript:alert(1)) [b](data:text/html,x) ![c](cid:logo.png)"
    )
    assert "<b>" not in html
    assert "<script" not in html
    assert "href" not in html
    assert '<img src="cid:logo.png" alt="c" />' in html


def test_lines_end_where_they_were_ended_and_an_indented_line_is_no_code() -> None:
    assert markdown_to_html("Dear {{ name }},\nthank you.\n\n    Ada") == (
        "<p>Dear {{ name }},<br />\nthank you.</p>\n<p>Ada</p>\n"
    )


@pytest.mark.parametrize(
    "source", ["", "\0", "\ud800 [x](\ud800 {{ \ud800 }})", "{{", "{%", "{#", "{{}}" * 3, "\r\n{{\r\n}}"]
)
def test_whatever_the_text_it_becomes_html_and_the_same_each_time(source: str) -> None:
    assert markdown_to_html(source) == markdown_to_html(source)
    assert sorted(markdown_to_html(source)).count("{") == source.count("{")


def test_braces_without_end_take_no_longer_than_their_number() -> None:
    for each in ("{{", "{{'", '{%"', "{{'\\", "{#"):
        assert len(markdown_to_html(each * 50_000)) >= 50_000 * len(each)
