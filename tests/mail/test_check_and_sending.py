"""What the check accepts the sending renders, and what does not render was refused: both run the same code.

`FUZZ=20000 pytest tests/mail/test_check_and_sending.py` tries more templates.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailerd.events.worker import RendererEvents
from mailerd.mail.renderer import CHECK_LIMITS, SEND_LIMITS, Renderer
from mailerd.mail.templates import Content, RecipientData, Source, Template, TemplateErrors
from tests.support.heard import Heard

_WORDS = st.sampled_from(["a", "b", "c", "loop"])
_PATHS = st.lists(_WORDS, min_size=1, max_size=3).map(".".join)
_SUFFIXES = st.sampled_from([
    "", "|upper", "|default('x')", "|d(1)|title", " + 1", "|default(a)", "|string|trim", "[0]", "[1:]", "|length",
    "|join", "|sort|first", "|sum", "|int + 1", "|round", "|unique|list", "|map(attribute='a')|join", "|e", "|safe",
    ".upper()", ".items()", ".get('a')", "|dictsort", "|truncate(3)", "|format(1)", " ~ b", " * 3", " // 0",
    " if a else b", "|urlencode", "|replace('a', b)", "|min", "|reverse", "|float", "|abs", " == b",
    "|map('upper')|list|last", "['a']", "[b]", " ** 2 ** 9", "|wordcount", ".__class__", "|attr('x')", "()", "|random",
])  # fmt: skip
_VALUES = st.builds(lambda path, suffix: "{{ " + path + suffix + " }}", _PATHS, _SUFFIXES)
_CONDITIONS = st.builds(
    lambda path, form: form.format(path),
    _PATHS,
    st.sampled_from(["{}", "not {}", "{} is defined", "{} == 1", "{} is none", "{} and a", "a or {}", "'x' in {}"]),
)
_SOURCES = st.recursive(
    _VALUES
    | st.sampled_from(["text ", "<p>x</p>", "<style>p{color:red}</style><p>", "<a href='x'>y", "{%", "{{", "\ud800"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, _CONDITIONS, inner, inner),
        st.builds("{{% for c in {} %}}{}{{% endfor %}}".format, _PATHS, inner),
        st.builds("{{% set b = {} %}}{}".format, _PATHS, inner),
    ),
    max_leaves=6,
)
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["x\ny", "\ud800", 10**2000, "x" * 2000, "<b>", "__class__"]),
)  # fmt: skip
_DATA = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=3), max_leaves=5
)


_STYLES = st.sampled_from(["", "<style>p{color:red}</style>"])


class Both:
    """The two renderers of a daemon."""

    def __init__(self, runner: "asyncio.Runner") -> None:
        self._runner = runner
        events = RendererEvents(Heard())
        self.checking = Renderer("checking", limits=CHECK_LIMITS, events=events)
        self.sending = Renderer("sending", limits=SEND_LIMITS, events=events)

    def judge(self, template: Template, reader: RecipientData) -> tuple[object, object]:
        """What each of them says: a list of reasons, none of them when there is a message."""
        return self._runner.run(self._judge(template, reader))

    async def _judge(self, template: Template, reader: RecipientData) -> tuple[object, object]:
        return (
            await self._one(self.checking, template, reader, content=False),
            await self._one(self.sending, template, reader, content=True),
        )

    @staticmethod
    async def _one(renderer: Renderer, template: Template, reader: RecipientData, *, content: bool) -> object:
        try:
            (made,) = await renderer.render(template, [reader], origin="fuzz", content=content)
        except TemplateErrors as errors:
            return str(errors)
        return [] if isinstance(made, Content) else [str(each) for each in made]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with asyncio.Runner() as runner:
        it = Both(runner)
        runner.run(it.checking.__aenter__())
        runner.run(it.sending.__aenter__())
        yield it
        runner.run(it.checking.__aexit__())
        runner.run(it.sending.__aexit__())


@settings(
    deadline=None, max_examples=int(os.environ.get("FUZZ", "300")), suppress_health_check=list(HealthCheck)
)  # fmt: skip
@given(st.builds(Source, _SOURCES, _SOURCES, st.none() | _SOURCES), st.dictionaries(_WORDS, _DATA, max_size=3), _STYLES)
def test_the_check_and_the_sending_say_the_same(
    both: Both, source: Source, variables: dict[str, Any], style: str
) -> None:
    template = Template(replace(source, html=style + (source.html or "")), inline_css=bool(style))
    checked, sent = both.judge(template, RecipientData("r@example.com", "Ada", json.dumps(variables)))
    assert checked == sent
    assert "broke the renderer" not in str(checked)
