"""The catalogues of translated texts: what they must hold."""

from functools import cache
from string import Formatter

from babel.messages.catalog import Message

from mailerd.core.i18n import joined, t, tn
from mailerd.core.labels import coded
from mailerd.locale import say
from tools import messages

CHINESE = messages.read(next(messages.catalogues()))
TRANSLATED = [message for message in CHINESE if message.id]


@cache
def code() -> list[Message]:
    """What the code says; nobody who only collects the tests reads all of it."""
    return [message for message in messages.in_code() if message.id]


def fields(template: str) -> set[tuple[str, ...]]:
    return {(name, spec or "", shown or "") for _, name, spec, shown in Formatter().parse(template) if name}


def test_a_text_is_said_in_the_language_of_its_reader() -> None:
    text = t("Google unreachable: {cause}", cause=t("no response within the time-out"))
    assert say(text, "en") == text
    assert say(text, "zh") == "无法连接 Google：超时前没有响应"
    assert say(joined([t("no response within the time-out"), "x"]), "zh") == "超时前没有响应；x"
    assert say("no response within the time-out", "zh") == "no response within the time-out", (
        "what nobody made a text of stays as it is"
    )


def test_what_is_not_translated_is_said_in_english() -> None:
    assert say(t("no such template {x}", x=1), "zh") == "no such template 1"
    assert say(tn("{n} such", "{n} suches", 2), "zh") == "2 suches"


def each_of(templates: object) -> list[str]:
    return [templates] if isinstance(templates, str) else list(templates)  # type: ignore[call-overload]


def fits(message: Message) -> bool:
    known = {name for template in each_of(message.id) for name in fields(template)}
    return all(fields(template) <= known for template in each_of(message.string))


def test_a_translation_has_no_field_that_its_english_has_not() -> None:
    assert [message.id for message in TRANSLATED if not fits(message)] == []


def test_every_template_of_the_code_is_translated() -> None:
    known = {(each_of(message.id)[0], message.context): message.string for message in TRANSLATED}
    assert [it.id for it in code() if not known.get((each_of(it.id)[0], it.context))] == []


def test_no_text_of_the_catalogue_has_left_the_code() -> None:
    said = {(each_of(it.id)[0], it.context) for it in code()}
    assert [it.id for it in TRANSLATED if (each_of(it.id)[0], it.context) not in said] == [], "run `make messages`"


def test_an_empty_text_is_empty_in_every_language() -> None:
    assert [say(t(""), "zh"), say(joined([]), "zh"), say(coded(""), "zh")] == ["", "", ""], (
        "gettext keeps its header there"
    )


def test_a_field_that_is_chinese_itself_has_no_space_beside_it() -> None:
    sender, end = t("the sender"), t("until it is resumed")
    assert say(t("{sender} is paused {until}", sender=sender, until=end), "zh") == "发件邮箱已暂停（需手动恢复）"
    assert say(t("{sender} is paused {until}", sender="a@x.org", until=end), "zh") == "a@x.org 已暂停（需手动恢复）"
    assert say(joined([t("Nothing more happens."), t("No jobs.")], " "), "zh") == "已处理完毕。没有任务。"
    assert say(joined(["3", t("({note})", note="x")], " "), "zh") == "3（x）"
    assert say(t("paused by {name}: {name}", name="太白 先生"), "zh").count("太白 先生") == 2, "a name stays as it is"
