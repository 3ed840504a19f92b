"""The process that reads one draft: `python -I -m mailerd.mail.copied_draft_child CPU_SECONDS
MEMORY_BYTES PARENT`.

`copied_draft` starts it and sends the draft with its first frame. It bounds itself before it reads
anything.
"""

import html
import re
import sys
from email.message import Message as Mail
from itertools import count
from typing import Any, Final

from mailerd.core.i18n import Text, t
from mailerd.core.reasons import to_json
from mailerd.mail.cage import BLOB, bound, bound_cpu, end_with, give_way
from mailerd.mail.copied_draft import (
    MAX_HTML,
    MAX_PARTS,
    MAX_PICTURES,
    CopiedDraft,
    DraftNotCopiedError,
    DraftPicture,
)
from mailerd.mail.read_notice import KEY_HEADER, UNREADABLE, decoded, decoded_words, parse
from mailerd.mail.render import MAX_SUBJECT
from mailerd.mail.render_child import Child
from mailerd.mail.spreadsheet import ENCODINGS

_ENDINGS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
}
"""The pictures that mail programs show inside a message."""
_MAX_NAMED: Final = 10
"""Files that are named as left out."""
_MAX_NAME: Final = 100
_BRACES: Final = re.compile(
    r"\{\{(?:(?!\}\}).)*+(?:\}\}|\Z)|\{%(?:(?!%\}).)*+(?:%\}|\Z)", re.DOTALL
)
"""What is Jinja's.

Without an end it goes on to the end of all, so that each character is looked at once.
"""
_ONE_TAG: Final = r"<[a-zA-Z/!][^<>]*+>"
_TAG: Final = re.compile(_ONE_TAG)
_INNER: Final = rf"(?:[^{{}}<]|{_ONE_TAG}){{0,80}}+"
_CUT_BRACES: Final = re.compile(
    rf"\{{\s*(?:{_ONE_TAG}\s*)++[{{%]{_INNER}\}}{{0,2}}|\{{[{{%]{_INNER}[}}%]\s*(?:{_ONE_TAG}\s*)++\}}"
)
"""Two braces with a tag between them, which Jinja does not take for its own."""
_CID: Final = re.compile(r"cid:([^\s\"'<>()]{1,200})", re.IGNORECASE)
_SCRIPT: Final = re.compile(r"<script\b", re.IGNORECASE)
_SAMPLE: Final = b"""\
Subject: =?utf-8?b?YQ==?=\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>=20{{ a }}\r\n--b\r\nContent-Type: image/png\r\n\
Content-Disposition: inline; filename*=utf-8''a\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--b--\r\n"""
"""Reading it loads what the standard library loads late: later no file can be opened."""


def copy_draft(raw: bytes) -> CopiedDraft:
    """What a draft says.

    Raises:
        DraftNotCopiedError: it cannot be a message.
    """
    try:
        mail = parse(raw, whole=True)
        if mail.get(KEY_HEADER):  # a message of mailerd's own, maybe another tenant's
            raise DraftNotCopiedError(t("the draft no longer exists"))
        parts = _parts(mail)
        texts = [
            it
            for it in parts
            if it.get_content_type() in ("text/html", "text/plain") and not _filename(it)
        ]
        body = next(
            (it for it in texts if it.get_content_type() == "text/html"),
            texts[0] if texts else Mail(),
        )
        text = _text(body)
        subject = " ".join(decoded_words(str(mail.get("Subject", ""))).split())
    except UNREADABLE as error:
        raise DraftNotCopiedError(t("the draft is damaged")) from error
    if not subject:
        raise DraftNotCopiedError(
            t("the draft has no subject. Write one in Gmail, then copy it again")
        )
    if len(subject) > MAX_SUBJECT:
        raise DraftNotCopiedError(
            t("the subject has more than {n:,} characters. Shorten it", n=MAX_SUBJECT)
        )
    if not text.strip():
        raise DraftNotCopiedError(t("the draft is empty. Write it in Gmail, then copy it again"))
    others = [it for it in parts if it not in texts]
    if body.get_content_type() != "text/html":
        return CopiedDraft(subject, None, text, left_out=_named(others))
    if _SCRIPT.search(text):
        raise DraftNotCopiedError(
            t("the draft has a script, which no mail program runs. Remove it")
        )
    source, pictures, left = _with_pictures(whole_braces(text), others)
    return CopiedDraft(subject, source, None, pictures, _named(left))


def whole_braces(source: str) -> str:
    """HTML as an editor wrote it: what stands in `{{ … }}` and `{% … %}` is text again, without
    entities.

    Raises:
        DraftNotCopiedError: a part of it is formatted, and names would not be found.
    """
    faults = [found[0] for found in _CUT_BRACES.finditer(source)]

    def plain(found: re.Match[str]) -> str:
        if not found[0].endswith("}"):
            return found[0]  # Jinja names the line
        if _TAG.search(found[0]):
            faults.append(found[0])
        return html.unescape(found[0]).replace("\xa0", " ")

    source = _BRACES.sub(plain, source)
    if faults:
        names = ", ".join(dict.fromkeys(_words(it) for it in faults[:_MAX_NAMED]))
        raise DraftNotCopiedError(
            t(
                "{names} has formatting inside its braces. In Gmail select all of it with its braces, choose “Remove "
                "formatting”, then copy the draft again",
                names=names,
            )
        )
    return source


def _words(broken: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", broken)).split())[:_MAX_NAME]


def _parts(mail: Mail) -> list[Mail]:
    """The parts that hold no others, in order; a message that is attached is one."""
    found, left = list[Mail](), [mail]
    while left:
        part = left.pop()
        payload = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(payload, list):
            left += [it for it in reversed(payload) if isinstance(it, Mail)]
        else:
            found.append(part)
        if len(left) + len(found) > MAX_PARTS:
            raise DraftNotCopiedError(t("the draft has more than {n:,} parts", n=MAX_PARTS))
    return found


def _text(part: Mail) -> str:
    text = decoded(_content(part), part.get_content_charset())
    if len(text) > MAX_HTML:
        raise DraftNotCopiedError(
            t("the text of the draft has more than {n:,} characters. Shorten it", n=MAX_HTML)
        )
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode()


def _with_pictures(
    source: str, parts: list[Mail]
) -> tuple[str, tuple[DraftPicture, ...], list[Mail]]:
    """The HTML with names of our own for its pictures, those pictures, and the parts that are
    left.
    """
    shown = {found[1] for found in _CID.finditer(source)}
    names, pictures, left = dict[str, str](), list[DraftPicture](), list[Mail]()
    for part in parts:
        cid, kind = (
            str(part.get("Content-ID", "")).strip().strip("<>"),
            part.get_content_type().replace("jpg", "jpeg"),
        )
        content = _content(part)
        if cid not in shown or cid in names or kind not in _ENDINGS or not content:
            left.append(part)
            continue
        numbered = (f"picture-{number}.{_ENDINGS[kind]}" for number in count(len(names) + 1))
        names[cid] = next(name for name in numbered if name not in {*shown, *names.values()})
        pictures.append(DraftPicture(names[cid], kind, content))
        if len(pictures) > MAX_PICTURES:
            raise DraftNotCopiedError(t("the draft has more than {n:,} pictures", n=MAX_PICTURES))
    return _CID.sub(lambda it: f"cid:{names.get(it[1], it[1])}", source), tuple(pictures), left


def _named(parts: list[Mail]) -> tuple[str, ...]:
    return tuple((_filename(it) or it.get_content_type())[:_MAX_NAME] for it in parts[:_MAX_NAMED])


def _filename(part: Mail) -> str:
    try:
        return decoded_words(part.get_filename() or "")
    except UNREADABLE:
        return "?"


def _content(part: Mail) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


class CopyChild(Child):
    """The loop of the child process, of one turn: a draft, and what it says."""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What the draft says; why it cannot be copied."""
        bound_cpu(self._cpu)
        try:
            return {BLOB: copy_draft(asked.get(BLOB, b"")).pack()}
        except DraftNotCopiedError as error:
            why: Text | str = str(error)
            return {"refused": to_json(why)}


def main() -> None:
    """Bound this process, then serve."""
    cpu, memory, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)
    for encoding in (*ENCODINGS, "iso-8859-1", "iso-2022-jp", "koi8-r"):  # Python loads codecs late
        "".encode(encoding)
    copy_draft(_SAMPLE)
    give_way()
    bound(memory=memory)
    CopyChild(sys.stdin.buffer, sys.stdout.buffer, cpu=cpu).serve()


if __name__ == "__main__":
    main()
