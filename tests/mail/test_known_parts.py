"""A part that the renderer has compiled for one job is not compiled again for the next one of the same template."""

from io import BytesIO

import pytest

from mailerd.mail.render import CompiledPart
from mailerd.mail.render_child import Child
from mailerd.mail.templates import Content, RecipientData, Source, Template, TemplateErrors

READER = RecipientData("reader@example.com", "Ada", None)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that were compiled, in their order."""
    sources: list[str] = []
    compile_ = CompiledPart.compile

    def noted(source: str, *, name: str) -> CompiledPart:
        sources.append(source)
        return compile_(source, name=name)

    monkeypatch.setattr(CompiledPart, "compile", noted)
    return sources


def job(subject: str, html: str, product: str) -> Template:
    return Template(Source(subject, html, None), variables={"product": product})


def test_the_next_job_of_a_template_costs_no_compilation_and_has_its_own_variables(compiled: list[str]) -> None:
    child = Child(BytesIO(), BytesIO(), cpu=1.0)
    first = child.compile(job("Your {{ product }}", "<p>{{ product }}</p>", "book"))
    second = child.compile(job("Your {{ product }}", "<p>{{ product }}</p>", "<lamp>"))
    assert compiled == ["Your {{ product }}", "<p>{{ product }}</p>"]
    assert first.render(READER) == Content("Your book", "<p>book</p>", "book")
    assert second.render(READER) == Content("Your <lamp>", "<p>&lt;lamp&gt;</p>", "<lamp>")


def test_the_same_source_as_another_part_is_another_part(compiled: list[str]) -> None:
    child = Child(BytesIO(), BytesIO(), cpu=1.0)
    child.compile(job("{{ product }}", "<p>1</p>", ""))
    made = child.compile(job("2", "{{ product }}", "<b>")).render(READER)
    assert compiled == ["{{ product }}", "<p>1</p>", "2", "{{ product }}"]
    assert made == Content("2", "&lt;b&gt;", "<b>")


def test_nothing_is_kept_of_a_template_that_is_refused(compiled: list[str]) -> None:
    """The parent does not count its characters: a client could fill the child's memory with them."""
    child = Child(BytesIO(), BytesIO(), cpu=1.0)
    for _ in range(2):
        with pytest.raises(TemplateErrors):
            child.compile(job("{% if %}", "<p>good</p>", ""))
    assert compiled.count("<p>good</p>") == 2
