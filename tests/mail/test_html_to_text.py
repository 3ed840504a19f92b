"""HTML as a person reads it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailerd.mail.html_to_text import text_from_html
from tests.support.own_time import at_this_speed


@pytest.mark.parametrize(
    "html, expected",
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("One<br>Two<br/><br />Three", "One\nTwo\n\nThree"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<h1>Title</h1>text", "Title\n\ntext"),
        ("  a \n\t b  <b>c</b>d <i> e</i>", "a b cd e"),
        ("Tom &amp; J&eacute;r&#244;me &lt;x&gt; &#x20AC; &nbsp;y &unknown;", "Tom & Jérôme <x> €  y &unknown;"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>d", "- a\n- b\n  - c\n\nd"),
        ("x<ol><li>a<li><p>b</p></ol>", "x\n\n1. a\n2. b"),
        ("<a href='https://x.example/?a=1&amp;b=2'>see <b>here</b></a>.", "see here (https://x.example/?a=1&b=2)."),
        ('<a title="a>b" href = "https://x.example">https://x.example</a>', "https://x.example"),
        ("<a href=https://x.example>x.example</a> <a href='mailto:a@b.c'>a@b.c</a>", "x.example a@b.c"),
        ("<a href='mailto:a@b.c'>Write</a> <a href='#top'>Up</a> <a>none</a>", "Write (a@b.c) Up none"),
        ("<a href='https://x.example'><img src=x></a>", "https://x.example"),
        ("<img alt='Our &lt;logo&gt;' src='x.png'>", "Our <logo>"),
        (
            "<table><tr><td>Apple</td>\n<td>3.00</td></tr><tr><td>Pear</td><td>1</td></tr></table>",
            "Apple  3.00\nPear  1",
        ),
        ("<head><title>T</title><style>p > a {}</style></head><script>if (a < b) {}</script>x", "x"),
        ("a<!-- <p>no</p> -->b<!DOCTYPE html><?xml ?><![if !mso]>c<![endif]>", "abc"),
        ("1 < 2 and <3", "1 < 2 and <3"),
        ("a<hr>b", "a\n\n" + "-" * 40 + "\n\nb"),
        ("<pre>\n x  y\n   z\n</pre>end", "x  y\n   z\n\nend"),
        ("a\u200b\u00ad\ufeffb", "ab"),
        ("中文<p>段落</p>", "中文\n\n段落"),
        ("lost <a href='x", "lost"),
        ("lost <script>x", "lost"),
        ("kept <é and all that comes", "kept <é and all that comes"),
        ("", ""),
        ("</p></ul></a></pre></td>x", "x"),
        ("before<p>&#" + "9" * 5000 + ";", "before"),
        ("&#xD800;", "\ufffd"),
    ],
)
def test_html_becomes_readable_text(html: str, expected: str) -> None:
    assert text_from_html(html) == expected


def test_a_picture_in_the_html_costs_the_text_no_words() -> None:
    picture = "data:image/png;base64," + "iVBORw0KGgo/+" * 30_000 + "=="
    html = f"<p>Dear Ada,</p><img alt='Our logo' src='{picture}'><p style=\"background: url({picture})\">welcome.</p>"
    assert text_from_html(html) == "Dear Ada,\n\nOur logo\n\nwelcome."
    assert text_from_html("<p>Write data:image/png;base64,AAAA</p>") == "Write data:image/png;base64,AAAA"


_BITS = [
    "<a ",
    "<",
    "&",
    "<!--",
    "</",
    "<a b='",
    '<a b="',
    "<![x",
    "<?",
    "&#",
    "<a>",
    "<ul><li>",
    "<p>x",
    "<a =",
    "<pre>\n",
]


@pytest.mark.parametrize(
    "bit", [*_BITS, "'data:a/b;base64,", "<a" + "/" * 9, "<td>", "<a href", "\xa0", "a href=", "<a x" + " " * 99]
)
def test_hostile_html_is_read_in_linear_time(bit: str) -> None:
    start = time.process_time()
    text_from_html(bit * (1_000_000 // len(bit)))
    assert time.process_time() - start < at_this_speed(1.0)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from([*_BITS, "x", " ", "\n", ">", "'", "</a>", "</ul>", "<br>", "</pre>"])).map("".join)
    | st.text()
)
def test_no_html_fails(html: str) -> None:
    made = text_from_html(html)
    assert made == made.strip()
    assert "\n\n\n" not in made
