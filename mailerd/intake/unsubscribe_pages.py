"""The pages of the public site, in English and Chinese: one sentence, one button, no script."""

from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

from mailerd.core.i18n import Language

CSS: Final = files("mailerd.intake").joinpath("pages/unsubscribe.css").read_text("utf-8")

MARK: Final = '<meta name="generator" content="mailerd">'
"""It stands in each page: `mailerd check` knows by it that a page is ours, whatever its language and version."""


@dataclass(frozen=True)
class _Words:
    title: str
    text: str
    button: str = ""


_ASK: Final[dict[Language, _Words]] = {
    "en": _Words("Unsubscribe from {list}?", "{who} will get no more letters of this list.", "Unsubscribe"),
    "zh": _Words("退订“{list}”？", "{who} 将不再收到此列表的邮件。", "确认退订"),
}
_DONE: Final[dict[Language, _Words]] = {
    "en": _Words("You are unsubscribed", "{who} gets no more letters of {list}.", "Undo"),
    "zh": _Words("已退订", "{who} 不会再收到“{list}”的邮件。", "撤销退订"),
}
_UNDONE: Final[dict[Language, _Words]] = {
    "en": _Words("You are subscribed again", "{who} gets the letters of {list} as before.", "Unsubscribe"),
    "zh": _Words("已恢复订阅", "{who} 将继续收到“{list}”的邮件。", "退订"),
}
_STILL_OUT: Final[dict[Language, _Words]] = {
    "en": _Words("You still get no letters", "{who} gets no letters of {list}, for another reason. Please ask us."),
    "zh": _Words("仍未恢复订阅", "{who} 因其他原因仍不会收到“{list}”的邮件，请联系发件人。"),
}
_UNKNOWN: Final[dict[Language, _Words]] = {
    "en": _Words("This link does not work", "It may be incomplete. Please open it again from the letter itself."),
    "zh": _Words("链接无效", "链接可能不完整，请从邮件中重新打开。"),
}
_LATER: Final[dict[Language, _Words]] = {
    "en": _Words("Please try again in a minute", "Nothing has been changed: the service cannot store it now."),
    "zh": _Words("请稍后再试", "服务暂时无法保存，您的订阅未作更改。"),
}
_YOU: Final[dict[Language, str]] = {"en": "This address", "zh": "此邮箱"}


def ask(language: Language, *, list_title: str, who: str) -> str:
    """The page with the button; opening it changes nothing."""
    return _page(language, _ASK[language], list_title=list_title, who=who, fields="", quiet=False)


def done(language: Language, *, list_title: str, who: str) -> str:
    """What follows the button, with a way back."""
    undo = '<input type="hidden" name="undo" value="1">'
    return _page(language, _DONE[language], list_title=list_title, who=who, fields=undo, quiet=True)


def undone(language: Language, *, list_title: str, who: str) -> str:
    """What follows the way back."""
    return _page(language, _UNDONE[language], list_title=list_title, who=who, fields="", quiet=True)


def still_out(language: Language, *, list_title: str, who: str) -> str:
    """What follows the way back where more than this link keeps the letters away."""
    return _page(language, _STILL_OUT[language], list_title=list_title, who=who)


def unknown(language: Language) -> str:
    """For a link that was cut or forged; the same for all of them."""
    return _page(language, _UNKNOWN[language])


def later(language: Language) -> str:
    """For a time in which nothing can be stored."""
    return _page(language, _LATER[language])


def _page(
    language: Language, words: _Words, *, list_title: str = "", who: str = "", fields: str = "", quiet: bool = False
) -> str:
    named = {"list": escape(list_title), "who": escape(who or _YOU[language])}
    title, text = words.title.format(**named), words.text.format(**named)
    kind = ' class="quiet"' if quiet else ""
    form = f'<form method="post">{fields}<button{kind}>{words.button}</button></form>' if words.button else ""
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="robots" content="noindex">\n{MARK}\n<title>{title}</title>\n'
        f'<link rel="stylesheet" href="style.css">\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{text}</p>\n'
        f"{form}\n</main>\n</body>\n</html>\n"
    )
