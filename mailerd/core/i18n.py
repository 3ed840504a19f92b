"""Sentences that can be said in another language: the English of each, and what it was made of.

The code is written in English. `t` makes a sentence of a template and its fields; it is a `str`, in
English, and `mailerd.locale.say` fills the fields into the template of another language. What is
made of it by `+` or an f-string is an ordinary string, and stays English: so sentences are put
together by `t` and `joined`.
"""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any, Final, Literal, Self, override

type Language = Literal["en", "zh"]

UNSEEN: Final = (
    *range(9),
    *range(10, 32),
    *range(127, 160),
    0x61C,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
)
"""What a terminal obeys, what begins a line, what turns the direction of a line, and what no
encoding has.
"""
_ESCAPES: Final = {code: ascii(chr(code)).strip("'") for code in UNSEEN} | {13: "\\x0d"}


def visible(text: str) -> str:
    """A text of strangers as one line that does nothing: whatever it could do where it is shown is
    an escape.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


def visible_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they are filled in: what a stranger may have written is visible; texts of ours stay
    as they are.
    """
    return {name: _visible_field(value) for name, value in fields.items()}


def _visible_field(value: Any) -> Any:
    if isinstance(value, BaseException):
        value = str(value)
    return visible(value) if type(value) is str else value


_NAMES: Final = frozenset({"sender", "address", "webhook"})
"""Fields that hold a name as it was given: o'brien@example.com is an address."""


def filled(template: str, fields: Mapping[str, Any]) -> str:
    """A template with its fields; within a command, which stands in backticks, names are quoted for
    the shell.
    """
    if "`" not in template or fields.keys().isdisjoint(_NAMES):
        return template.format_map(fields)
    quoted = {
        name: quote(str(value)) if name in _NAMES else value for name, value in fields.items()
    }
    parts = template.split("`")
    return "`".join(
        part.format_map(quoted if number % 2 else fields) for number, part in enumerate(parts)
    )


class Text(str):
    """An English sentence that knows its template and its fields."""

    __slots__ = ("context", "fields", "msgid", "parts", "plural")

    msgid: str
    """The template in English, which is the key of the catalogue; "" where the text is `parts`."""
    fields: Mapping[str, Any]
    """A field that is a Text itself is said in the language of the whole."""
    plural: str
    """The template for another number of things than one (the field `n`); "" where it has no
    plural.
    """
    context: str
    """What tells two templates of the same English apart; "" for most."""
    parts: tuple[str, ...]
    """Of several texts: each of them, and what joins them, in turn."""

    def __new__(  # noqa: PLR0917 - `t`, `tn`, `tc` and `joined` call it, and a copy
        cls,
        english: str,
        msgid: str = "",
        fields: Mapping[str, Any] | None = None,
        plural: str = "",
        context: str = "",
        parts: tuple[str, ...] = (),
    ) -> Self:
        """`english`: what it says in English."""
        self = super().__new__(cls, english)
        self.msgid, self.fields, self.plural, self.context, self.parts = (
            msgid,
            fields or {},
            plural,
            context,
            parts,
        )
        return self

    @override
    def __str__(self) -> str:
        """Itself: the text of an exception that was raised with a Text is that Text."""
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What a copy is made of."""
        return (
            str.__str__(self),
            self.msgid,
            dict(self.fields),
            self.plural,
            self.context,
            self.parts,
        )


def t(msgid: str, /, **fields: Any) -> Text:
    """A sentence of a template and its fields: `t("sender {sender} resumed", sender=email)`."""
    fields = visible_fields(fields)
    return Text(filled(msgid, fields), msgid, fields)


def tn(one: str, many: str, n: int, /, **fields: Any) -> Text:
    """A sentence of which the template depends on a number, which is its field `n`."""
    fields = visible_fields(fields)
    fields["n"] = n
    return Text(filled(one if n == 1 else many, fields), one, fields, plural=many)


def tc(context: str, msgid: str, /, **fields: Any) -> Text:
    """A sentence of a template that means something else elsewhere: `tc("a time", "since")`."""
    fields = visible_fields(fields)
    return Text(filled(msgid, fields), msgid, fields, context=context)


def N_(msgid: str) -> str:  # noqa: N802 - the name by which gettext's tools know it
    """Mark a template that is said later: `t(msgid, …)`."""
    return msgid


def verbatim(sentence: str) -> Text:
    """A sentence without fields, its braces as they are: of help and documentation, which other
    programs read too.
    """
    return t(sentence.replace("{", "{{").replace("}", "}}"))


def joined(texts: Sequence[str], by: str = "; ") -> Text:
    """Several texts, one after the other."""
    parts = [part for text in texts for part in (by, _visible_field(text))][1:]
    return Text("".join(parts), parts=tuple(parts))


def printed(text: str) -> Text:
    """What another program has printed, a line each."""
    return joined(text.splitlines(), "\n")
