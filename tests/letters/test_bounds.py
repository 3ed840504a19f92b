"""A stranger's template reaches nothing and ends soon."""

import time

import pytest

from mailerd.letters import RenderError, Template, TemplateErrors

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''['__cla' ~ 'ss__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ []|map(attribute='__class__') }}",
    "{{ [x]|map(attribute='a.' ~ '__class__')|list }}",
    "{{ [x]|sort(attribute='_' ~ '_class__') }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ lipsum() }}",
    "{{ joiner }}",
    "{{ namespace(a=1) }}",
    "{{ dict(a=1) }}",
    "{{ config.items() }}",
    "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{0.__class__}'.format_map(x) }}",
    "{{ ('{0.__class__}'|safe).format(1) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{{ '%(a)s' % x }}",
    "{{ '%*d'|format(9, 1) }}",
    "{{ x.upper }}",
    "{{ x.get }}",
    "{{ x.get('__class__') }}",
    "{{ (1).real }}",
    "{{ x.mro() }}",
    "{{ range.__init__ }}",
    "{{ range }}",
    "{{ x.clear() }}",
    "{% for a in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% for a in [1] %}{{ loop.__init__ }}{% endfor %}",
    "{% for a in [1] %}{{ loop }}{% endfor %}",
    "{% for a in [1] %}{{ loop(a) }}{% endfor %}",
    "{% for a in [1] recursive %}{{ a }}{% endfor %}",
    "{% for a in [].__class__.__base__.__subclasses__() %}{% endfor %}",
    "{% set x = x.__class__ %}",
    "{% set x.y = 1 %}",
    "{% set x %}a{% endset %}",
    "{% import 'os' as os %}",
    "{% from 'a' import b %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{% block a %}{% endblock %}",
    "{% macro a() %}{% endmacro %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% call x() %}{% endcall %}",
    "{% filter upper %}a{% endfilter %}",
    "{% with a = 1 %}{% endwith %}",
    "{% autoescape false %}{{ x }}{% endautoescape %}",
    "{{ context }}",
    "{{ environment }}",
    "{{ missing }}",
    "{{ x|_out('a') }}",
    "{{ x['_' ~ 'id'] }}",
    "{{ x.get('_id') }}",
    "{% for a in [1] %}{% if loop.depth %}{% endif %}{% endfor %}",
    "{{ x|_called('upper') }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_no_known_way_out_of_the_sandbox_works(source: str) -> None:
    with pytest.raises((TemplateErrors, RenderError)):
        Template.compile(subject="s", html=source, text=None).render({"x": {"a": "b", "_id": 1}})


LONG = "{% set x = 'a' * 900000 %}{% for i in range(10000) %}"

BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 9**9**9 }}",
    "{{ 9**(9**9) }}",
    "{{ 2**257 }}",
    "{{ ('a' * 1000001)|length }}",
    "{{ range(100001)|first }}",
    "{{ 2 ** 255 * 2 ** 255 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '%.1000000000f'|format(1.5) }}",
    "{{ '%1000000000d' is even }}",
    "{{ '%1000000000d' is divisibleby(1) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 5|round(-1000000000) }}",
    "{{ range(10**9)|list }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{{ a }}{{ a }}{{ a }}{{ a }}{% endfor %}",
    "{% for a in range(60000) %}" + "x" * 100 + "{% endfor %}",
    "{% set x = 'aaaaaaaaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 30,
    "{% set x = 'aaaaaaaaaaaaaaaa' %}" + "{% set x = x + x %}" * 30,
    "{% set x = 'a' * 100000 %}" + "{% set x = x|replace('a', 'aaaaaaaaaaaa') %}" * 5,
    "{% set x = [1] %}" + "{% set x = x + x %}" * 30,
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 30 + "{{ x }}",
    "{% set x = [1] %}" + "{% set x = [x, x] %}" * 30 + "{{ x|join }}",
    "{% set x = [1] %}{% set y = [1.0] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * 30 + "{{ x == y }}",
    "{% set x = [1] %}{% set y = [1.0] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * 30 + "{{ [x, y]|max }}",
    LONG + "{% if 'b' in x %}{% endif %}{% endfor %}",
    LONG + "{% if x == x ~ 'b' %}{% endif %}{% endfor %}",
    LONG + "{% if x[1:] %}{% endif %}{% endfor %}",
    LONG + "{% if x|upper %}{% endif %}{% endfor %}",
    LONG + "{% if x.upper() %}{% endif %}{% endfor %}",
    LONG + "{% if x|replace('b', 'c') %}{% endif %}{% endfor %}",
    LONG + "{{ x }}{% endfor %}",
    "{% set x = range(90000)|list %}{% for i in range(10000) %}{% if x|sort %}{% endif %}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ 1" + " + 1" * 5000 + " }}",
    "{{ " + "[" * 100 + "]" * 100 + " }}",
    "{% if x %}" * 60 + "{% endif %}" * 60,
    "{% for a in [1] %}" * 15 + "{% endfor %}" * 15,
    "{{ a.b }}" * 20_000,
    "{{ " + "9" * 10_000 + " }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_what_would_not_end_is_stopped_in_a_fifth_of_a_second(source: str) -> None:
    start = time.process_time()
    with pytest.raises((TemplateErrors, RenderError)) as caught:
        Template.compile(subject="s", html=source, text=None).render({"x": 1})
    assert time.process_time() - start < 0.2
    assert "html" in str(caught.value)


def test_a_long_table_is_not_a_bomb() -> None:
    row = "<tr><td>{{ r.a }}</td><td>{{ r.b|upper }}</td><td>{{ '%.2f'|format(r.c) }}</td></tr>"
    source = "{% for r in rows %}" + row + "{% endfor %}"
    rows = [{"a": "a", "b": "b", "c": 1}] * 5000
    made = Template.compile(subject="s", html=source, text=None).render({"rows": rows}).html
    assert made is not None
    assert made.count("<tr>") == 5000


def test_one_rendering_does_not_pay_for_another() -> None:
    made = Template.compile(subject="s", html="{% for a in range(90000) %}{% endfor %}", text="t")
    assert [made.troubles({}) for _ in range(3)] == [[], [], []]
