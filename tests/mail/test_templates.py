"""What a template says of its variables, and what becomes of them."""

from typing import Any

import pytest
from hypothesis import strategies as st

from mailerd.core.reasons import from_json, to_json
from mailerd.locale import say
from mailerd.mail.environment import FILTERS
from mailerd.mail.templates import RenderError, TemplateErrors
from tests.mail.in_process import InProcess


def template(html: str, *, subject: str = "Hello", text: str | None = "t") -> InProcess:
    return InProcess(subject=subject, html=html, text=text)


def rendered(html: str, /, **variables: Any) -> str | None:
    return template(html).render(variables).html


def lacks(made: InProcess, variables: dict[str, Any]) -> str | None:
    """The variable that is missing, or the sentence of another error; None when all of it renders."""
    errors = made.errors(variables)
    return errors[0].variable or str(errors[0]) if errors else None


def trouble(html: str, /, **variables: Any) -> RenderError:
    with pytest.raises(RenderError) as caught:
        template(html).render(variables)
    return caught.value


def refusals(*, subject: str = "s", html: str | None = None, text: str | None = None) -> list[str]:
    with pytest.raises(TemplateErrors) as caught:
        InProcess(subject=subject, html=html, text=text)
    return [str(error) for error in caught.value.errors]


def test_html_is_escaped_and_subject_and_text_are_not() -> None:
    made = InProcess(subject="{{ x }}", html="{{ x }}", text="{{ x }}").render({"x": "<Ada & Bob>"})
    assert (made.subject, made.html, made.text) == ("<Ada & Bob>", "&lt;Ada &amp; Bob&gt;", "<Ada & Bob>")


def test_a_missing_text_is_made_from_the_html() -> None:
    assert template("<p>Dear {{ x }}</p>", text=None).render({"x": "A & B"}).text == "Dear A & B"


def test_html_that_its_css_makes_too_long_is_refused_by_the_check() -> None:
    style, row = f"<style>td {{ font-family: '{'x' * 900}' }}</style>", "{% for n in range(n) %}<td>1</td>{% endfor %}"
    made = InProcess(subject="s", html=f"{style}<table><tr>{row}</tr></table>", text="t", inline_css=True)
    assert made.errors({"n": 100}) == []
    assert str(made.errors({"n": 2000})[0]) == "html: exceeds 1,000,000 bytes once its CSS is inlined"


def test_a_message_of_text_alone_has_no_html() -> None:
    assert InProcess(subject="s", html=None, text="t").render({}).html is None


@pytest.mark.parametrize(
    "source, expected",
    [
        (
            "{% for p in order.items %}{{ loop.index }}:{{ p.n }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "1:a, 2:b",
        ),
        ("{% for k, v in order|items if k == 'id' %}{{ k }}={{ v }}{% else %}none{% endfor %}", "id=7"),
        ("{% for k in order.keys() %}{{ k }}{{ loop.cycle('_', '-') }}{% endfor %}", "items_id-"),
        ("{% set total = order['items']|sum(attribute='price') %}{{ '%.2f'|format(total) }}", "3.50"),
        (
            "{{ order['items']|map(attribute='n')|join(', ') }} {{ order['items']|join('-', attribute='n') }}",
            "a, b a-b",
        ),
        ("{{ (order['items']|sort(reverse=true, attribute='price')|first).n }}", "b"),
        ("{{ name[0] }}{{ name[:2] }}{{ name.upper() }}{{ name|replace('d', 'DD') }}", "AAdADAADDa"),
        (
            "{{ 'x' if order.id is odd else 'y' }} {{ order.id % 4 }} {{ 2 ** 3 }} {{ '-' * 3 }} {{ '%s!' % name }}",
            "x 3 8 --- Ada!",
        ),
        ("{% if name in ['Ada', 'Bob'] and 'd' in name and 1 < 2 <= 2 %}yes{% endif %}", "yes"),
        ("{{ name ~ '<' ~ 1 }} {{ '<b>'|safe ~ '<' }} {{ '<'|e }}", "Ada&lt;1 <b>&lt; &lt;"),
        ("{{ [1, 2] + [3] == [1, 2, 3] }} {{ order.get('nothing', 4) }} {{ range(2, 4)|list|last }}", "True 4 3"),
        ("{{ [3, 1, 3]|unique|join }} {{ [3, 1]|min }}{{ [3, 1]|max }} {{ 'a b'|truncate(1, true, '') }}", "31 13 a b"),
        (
            "{{ 2.567|round(1) }} {{ '7'|int + 1 }} {{ 'x'|int(5) }} {{ 2.1|round(0, 'ceil') }} {{ 'ä'|urlencode }}",
            "2.6 8 5 3.0 %C3%A4",
        ),
        ("{{ order|dictsort|length }}{{ 'abc'|length }}{{ [1, 2]|reverse|join }}", "2321"),
    ],
)
def test_what_messages_are_written_with(source: str, expected: str) -> None:
    order = {"items": [{"n": "a", "price": 1}, {"n": "b", "price": 2.5}], "id": 7}
    assert rendered(source, name="Ada", order=order) == expected


@pytest.mark.parametrize(
    "source, line, variable",
    [
        ("{{ name }}", 1, "name"),
        ("\n\n{{ user.nick }}", 3, "user.nick"),
        ("\n{{ user.nick|upper }}", 2, "user.nick"),
        ("{{ nobody.name.first }}", 1, "nobody.name.first"),
        ("{{ user.name ~ user.nick }}", 1, "user.nick"),
        ("{% for x in list %}\n{{ x.a }}{{ x.b }}{% endfor %}", 2, "x.b"),
        ("{% if user.nick %}a{% endif %}", 1, "user.nick"),
        ("{% for x in nobody %}{% endfor %}", 1, "nobody"),
        ("{{ list.x|default('') }}{{ user.x }}", 1, "user.x"),
        ("{{ named.nick|upper }}{{ user.nick|upper }}", 1, "user.nick"),
        ("{% for x in list %}{{ x.nick|default('') }}{% endfor %}\n{{ user.nick|upper }}", 2, "user.nick"),
        ("{{ nothing }}", 1, "nothing"),
        ("{{ user.nothing|upper }}", 1, "user.nothing"),
        ("{% for x in list %}{{ x.a }}{{ x.null }}{% endfor %}", 1, "x.null"),
        ("{{ 'Dear ' ~ nothing }}", 1, "nothing"),
        ("\n{{ user.name ~ ', ' ~ user.nothing ~ '!' }}", 2, "user.nothing"),
        ("{{ '%s!'|format(nothing) }}", 1, "nothing"),
        ("{{ '%s!' % nothing }}", 1, "nothing"),
        ("{{ user.name|replace('A', nothing) }}", 1, "nothing"),
        ("{{ user.name|replace(old='A', new=nothing) }}", 1, "nothing"),
        ("{{ [user.name, nothing]|join(', ') }}", 1, "nothing"),
        ("{{ list|map(attribute='a')|join(nothing) }}", 1, "nothing"),
    ],
)
def test_a_missing_or_null_variable_is_named_with_its_line(source: str, line: int, variable: str) -> None:
    variables = {
        "user": {"name": "A", "nothing": None},
        "list": [{"a": 1, "null": None}],
        "nothing": None,
        "named": {"nick": "A"},
    }
    error = trouble(source, **variables)
    assert (error.part, error.line, error.variable) == ("html", line, variable)
    assert lacks(template(source), variables) == variable


@pytest.mark.parametrize(
    "html, subject, named",
    [
        ("{{ a }}{{ b|upper }}\n{{ c.d }}", "{{ s }}", ["s", "a", "b", "c.d"]),
        ("{{ a }}{% if b %}{{ c }}{% endif %}{% for x in d %}{{ e }}{% endfor %}", "s", ["a", "b", "d"]),
        ("{{ a }}{{ b|default('x') }}{{ b if c else d }}{{ e or f }}", "s", ["a", "c", "d", "e", "f"]),
        ("{{ a }}{% set b = 1 %}{{ b }}{{ a }}", "{{ a }}", ["a"]),
        ("{{ a }}{{ name + 1 }}{{ b }}", "s", ["a"]),
        ("{% if name %}{{ a }}{% endif %}{{ b }}", "s", ["a", "b"]),
    ],
)
def test_everything_that_is_missing_on_the_way_is_named_once(html: str, subject: str, named: list[str]) -> None:
    found = template(html, subject=subject).errors({"name": "Ada"})
    assert [error.variable for error in found] == named


def test_a_render_error_reads_like_a_sentence() -> None:
    assert str(trouble("\n\n{{ name }}")) == "html, line 3: 'name' is undefined; an empty name counts as undefined"


@pytest.mark.parametrize("default", ["default('you')", "d('you')", "default('you', true)"])
@pytest.mark.parametrize("variables", [{}, {"user": None}, {"user": {}}, {"user": {"name": None}}])
def test_default_stands_in_for_missing_and_null_at_any_depth(default: str, variables: dict[str, Any]) -> None:
    assert rendered("Dear {{ user.name|%s }}" % default, **variables) == "Dear you"  # noqa: UP031 - braces


@pytest.mark.parametrize(
    "source, words",
    [
        ("{{ list }}", "a list cannot be shown in a message; loop over it or join it"),
        ("{{ list|upper }}", "a list cannot be shown"),
        ("{{ user }}", "an object cannot be shown"),
        ("{% for x in name %}{% endfor %}", "a list is needed here, not a text"),
        ("{{ name + 1 }}", "can only concatenate str"),
        ("{{ 1 + name }}", "unsupported operand"),
        ("{{ name - 1 }}", "unsupported operand"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ list|first }}", "No first item"),
        ("{{ user.items() }}", "a list cannot be shown"),
        ("{{ list.items() }}", "list has no items()"),
        ("{{ name ~ list }}", "a list cannot be shown"),
        ("{{ '%s and %s' % (name, user) }}", "an object cannot be shown"),
        ("{{ [name, list]|join(', ') }}", "a list cannot be shown"),
        ("{{ [{'a': none}]|join(', ', attribute='a') }}", "a value is null"),
        ("{{ name|format(1) }}", "not all arguments"),
        ("{{ '\\ud800' }}", "half a character"),
        ("{{ '\\x00' }}", "contains a NUL"),
        ("{{ list|dictsort }}", "no attribute 'items'"),
        ("{{ 1|round(1, 'up') }}", "must be common, ceil or floor"),
    ],
)
def test_other_trouble_is_said_in_words(source: str, words: str) -> None:
    error = trouble(source, name="Ada", list=[], user={})
    assert words in str(error)
    assert error.variable == ""
    assert lacks(template(source), {"name": "Ada", "list": [], "user": {}}) == str(error)


@pytest.mark.parametrize("value", ["a\nBcc: x@example.com", "a\rb", "a\u2028b", "a\x00b", "a\x85b", "x" * 1001])
def test_a_subject_is_one_short_line(value: str) -> None:
    made = template("h", subject="Hello {{ x }}!")
    assert lacks(made, {"x": value})
    with pytest.raises(RenderError) as caught:
        made.render({"x": value})
    assert caught.value.part == "subject"


def test_a_subject_is_stripped_and_its_tabs_become_spaces() -> None:
    made = template("h", subject="\n{% if x %}\nHi\t{{ x }}{% endif %}\n")
    assert made.render({"x": "y\n"}).subject == "Hi y"


def test_every_error_of_every_part_is_named_at_once() -> None:
    assert refusals(subject="{{ a", html="{% include 'x' %}\n{{ y|uper }}", text="\n{{ z.__class__ }}") == [
        "subject, line 1: the template ends where '}}' is expected",
        "html, line 1: {% include %} is not available in a message; a template is one piece with if, for and set",
        "html, line 2: unknown filter 'uper'; did you mean 'upper'?",
        "text, line 2: '__class__' starts with an underscore; such names are not available",
    ]


@pytest.mark.parametrize(
    "source, en, zh",
    [
        ("{{ a b }}", "expected '}}', got 'b'", "此处应为 '}}'，实际为 'b'"),
        ("{{ (a }}", "expected ')', got '}'", "此处应为 ')'，实际为 '}'"),
        ("{{ }}", "expected an expression, got '}}'", "此处应为表达式，实际为 '}}'"),
        ("{% if a %}x", "the template ends within a block; expected: 'elif', 'else', 'endif'", "模板在块内结束"),
        ("{% foo %}", "unknown tag 'foo'", "未知标签 'foo'"),
        (
            "{% if a %}{% endfor %}",
            "the tag 'endfor' does not belong here; expected: 'elif', ",
            "标签 'endfor' 不应在此",
        ),
        ("{{ a & b }}", "unexpected character '&'", "意外的字符 '&'"),
        ("{{ a ) }}", "unexpected ')'", "意外的 ')'"),
        ("{# a", "the end of 'comment' is missing", "缺少 'comment' 的结尾"),
        ("{% %}", 'the template engine says: "tag name expected"', "模板引擎报告：“tag name expected”"),
    ],
)
def test_what_jinja_says_is_said_in_the_readers_language(source: str, en: str, zh: str) -> None:
    with pytest.raises(TemplateErrors) as caught:
        template(source)
    (error,) = caught.value.errors
    kept = from_json(to_json(error.reason))
    assert en in str(kept)
    assert zh in say(kept, "zh")


@pytest.mark.parametrize("source", ["a\n{{ x }}\n{{ (10**5000)|string }}", "\n\n{% if (10**5000) ~ '' %}x{% endif %}"])
def test_a_number_of_too_many_digits_is_named_with_its_line(source: str) -> None:
    assert refusals(html=source) == ["html, line 3: a number with too many digits"]


@pytest.mark.parametrize(
    "source, words",
    [
        ("{{ ａ }}", "must be written 'a'"),
        ("{{ self.x }}", "means something else"),
        ("{{ 1e999 }}", "too large"),
        ("{{ " + "9" * 5000 + " }}", "too many digits"),
        ("{{ x is evn }}", "did you mean 'even'?"),
        ("{{ f(*a) }}", "calls accept only plain arguments"),
        ("{{ x|join(*a) }}", "not available in arguments"),
        ("{{ a[0]() }}", "only range()"),
        ("\ud800", "half a character"),
        ("x" * 1_000_001, "exceeds 1000000 characters"),
    ],
)
def test_what_cannot_work_is_refused_when_compiling(source: str, words: str) -> None:
    assert any(words in error for error in refusals(html=source))


def test_a_template_needs_a_body() -> None:
    assert refusals() == ["html: the template has neither html nor text; give one or both"]


def test_the_names_are_those_that_the_caller_must_give() -> None:
    source = "{{ a.b }}{% for x in l %}{{ x }}{{ loop.index }}{% endfor %}{% set y = z %}{{ y }}{{ range(3)|join }}"
    assert template(source, subject="{{ s }}", text="{{ t }}").names == {"a", "l", "z", "s", "t"}


@pytest.mark.parametrize(
    "source, variables",
    [
        ("{% if a %}{{ b }}{% endif %}", {"a": False}),
        ("{% if a is defined %}{{ a }}{% endif %}", {}),
        ("{{ a or 1 }}", {"a": 0}),
        ("{{ a|default('x')|upper }}", {}),
        ("{% set a = 1 %}{{ a }}", {}),
        ("{{ a.b.c }}", {"a": {"b": {"c": 1}}}),
        ("{{ a }}", {"a": "x" * 300_000}),
    ],
)
def test_what_is_missing_where_nobody_looks_is_not_lacking(source: str, variables: dict[str, Any]) -> None:
    assert lacks(template(source), variables) is None


_WORDS = st.sampled_from(["a", "b", "c"])
_PATHS = st.lists(_WORDS, min_size=1, max_size=2).map(".".join)
_VALUES = st.builds(
    lambda path, suffix: "{{ " + path + suffix + " }}",
    _PATHS,
    st.sampled_from(["", "|upper", "|default('x')", "|d(1)|title", " + 1", "|default(a)", "|string|trim", "[0]"]),
)
_CONDITIONS = st.builds(
    lambda path, form: form.format(path),
    _PATHS,
    st.sampled_from(["{}", "not {}", "{} is defined", "{} == 1", "{} is none", "{} and a", "a or {}", "'x' in {}"]),
)
_SOURCES = st.recursive(
    _VALUES | st.just("text "),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, _CONDITIONS, inner, inner),
        st.builds("{{% for c in {} %}}{}{{% endfor %}}".format, _PATHS, inner),
    ),
    max_leaves=6,
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["x\ny", "\ud800", 10**2000, "x" * 2000]),
)
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=3), max_leaves=5
)


@pytest.mark.parametrize("name", sorted(FILTERS.keys() - {"default", "d"}))
def test_no_filter_but_default_makes_something_of_what_is_missing(name: str) -> None:
    arguments = {"format": "(1)", "replace": "('a', 'b')", "truncate": "(9)", "batch": "(2)", "map": "('upper')"}
    assert template("{{ a|%s%s }}" % (name, arguments.get(name, ""))).errors({})  # noqa: UP031 - braces


@pytest.mark.parametrize(
    "html, subject, variables",
    [
        ("{{ a|default('x') }}", "s", {"a": [1]}),
        ("h", "{{ a|default('x') }}", {"a": "x\ny"}),
        ("h", "{{ a }}", {"a": 10**2000}),
        ("{{ a }}", "s", {"a": "\n\ud800"}),
        ("{{ a }}", "one\n{{ a }}", {"a": 1}),
        ("{{ a }}", "{{ 'one\\ntwo' }}", {"a": 1}),
        ("{% if a %}{% endif %}", "s", {}),
        ("{{ a.b }}", "s", {"a": "text"}),
    ],
)
def test_what_cannot_stand_in_a_message_is_refused(html: str, subject: str, variables: dict[str, Any]) -> None:
    assert lacks(template(html, subject=subject), variables)
