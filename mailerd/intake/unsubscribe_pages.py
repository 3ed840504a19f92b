"""The pages of the public site: one sentence, one button, no script."""

from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

from mailerd.core.i18n import N_, Language, t
from mailerd.locale import say

CSS: Final = files("mailerd.intake").joinpath("pages/unsubscribe.css").read_text("utf-8")

MARK: Final = '<meta name="generator" content="mailerd">'
"""It stands in each page: `mailerd check` knows by it that a page is ours, whatever its language
and version.
"""


@dataclass(frozen=True)
class _Words:
    """Templates."""

    title: str
    text: str
    button: str = ""


_ASK: Final = _Words(
    N_("Unsubscribe from {list}?"),
    N_("{who} will no longer receive messages from this list."),
    N_("Unsubscribe"),
)
_DONE: Final = _Words(
    N_("You are unsubscribed"), N_("{who} no longer receives messages from {list}."), N_("Undo")
)
_UNDONE: Final = _Words(
    N_("You are subscribed again"),
    N_("{who} receives messages from {list} again."),
    N_("Unsubscribe"),
)
_STILL_OUT: Final = _Words(
    N_("You still receive no messages"),
    N_("{who} is blocked from {list} for another reason. Please contact the sender."),
)
_UNKNOWN: Final = _Words(
    N_("This link is invalid"),
    N_("The link may be incomplete. Please open it again from the message."),
)
_LATER: Final = _Words(
    N_("Please try again in a minute"),
    N_("Your subscription was not changed: the service is temporarily unavailable."),
)
_YOU: Final = t("This address")


def ask(language: Language, *, list_title: str, who: str) -> str:
    """The page with the button; opening it changes nothing."""
    return _page(language, _ASK, list_title=list_title, who=who, fields="", quiet=False)


def done(language: Language, *, list_title: str, who: str) -> str:
    """What follows the button, with a way back."""
    undo = '<input type="hidden" name="undo" value="1">'
    return _page(language, _DONE, list_title=list_title, who=who, fields=undo, quiet=True)


def undone(language: Language, *, list_title: str, who: str) -> str:
    """What follows the way back."""
    return _page(language, _UNDONE, list_title=list_title, who=who, fields="", quiet=True)


def still_out(language: Language, *, list_title: str, who: str) -> str:
    """What follows the way back where more than this link keeps the messages away."""
    return _page(language, _STILL_OUT, list_title=list_title, who=who)


def unknown(language: Language) -> str:
    """For a link that was cut or forged; the same for all of them."""
    return _page(language, _UNKNOWN)


def later(language: Language) -> str:
    """For a time in which nothing can be stored."""
    return _page(language, _LATER)


def _page(
    language: Language,
    words: _Words,
    *,
    list_title: str = "",
    who: str = "",
    fields: str = "",
    quiet: bool = False,
) -> str:
    named = {"list": escape(say(list_title, language)), "who": escape(say(who or _YOU, language))}
    title, text = say(t(words.title, **named), language), say(t(words.text, **named), language)
    button = say(t(words.button), language) if words.button else ""
    kind = ' class="quiet"' if quiet else ""
    form = f'<form method="post">{fields}<button{kind}>{button}</button></form>' if button else ""
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="robots" content="noindex">\n{MARK}\n<title>{title}</title>\n'
        f'<link rel="stylesheet" href="style.css">\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{text}</p>\n'
        f"{form}\n</main>\n</body>\n</html>\n"
    )
