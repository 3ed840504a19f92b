"""Whose word a notice is: no address and no name that a stranger chooses makes one Google's."""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.notices import Dmarc, ReceivedMail, dmarc, is_forged, is_googles
from mailerd.inbox.examine import shown_headers
from mailerd.mail.read_notice import decoded_words

DAEMON: Final = "Mail Delivery Subsystem <mailer-daemon@googlemail.com>"
PASS: Final = "dmarc=pass header.from=googlemail.com"
FAIL: Final = "dmarc=fail (p=QUARANTINE sp=QUARANTINE dis=QUARANTINE) header.from=googlemail.com"


def arrived(results: str, writer: str = DAEMON) -> ReceivedMail:
    """As the reader makes it of what Google's API lists."""
    given = (("Authentication-Results", results), ("From", writer))
    return ReceivedMail(shown_headers([{"name": name, "value": value} for name, value in given]))


def as_it_is(local: str) -> str:
    return local


def quoted(local: str) -> str:
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def half_quoted(local: str) -> str:
    return f'"{local}"'


WRITERS: Final = st.sampled_from([as_it_is, quoted, half_quoted])
"""How Google may write a local part; it is not documented."""
WORD: Final = f"=?us-ascii?q?=29=22=3B{PASS.replace(' ', '_').replace('=', '=3D')}=3B_x=3D=22=28?="
OPENED: Final = f"=?us-ascii?q?=29=22=3B{PASS.replace(' ', '_').replace('=', '=3D')}_=28?="
"""Closes what it stands in, vouches, and leaves a comment open over all that follows."""
PIECES: Final = st.sampled_from(
    ["(", ")", '"', "\\", ";", " ", "@", "<", ">", f"; {PASS}", f"; {PASS}; ", "=?us-ascii?q?=22?=", WORD, OPENED,
     "=?utf-8?b?Ig==?=", "=?", "?=", "=22", "dmarc", "=pass", "mx.google.com;", "x", "\u2029", "\0"]
)  # fmt: skip
LOCALS: Final = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60)


def results(dkim: str, spf: str, mail_from: str, own: str, *, own_first: bool) -> str:
    parts = [f"dkim=pass header.i={dkim}@evil.example header.s=s1 header.b=Qo1tQm5r"]
    parts.append(
        f"spf=pass (google.com: domain of {spf}@evil.example designates 192.0.2.66 as permitted sender) "
        f"smtp.mailfrom={mail_from}@evil.example"
    )
    parts.insert(1 if own_first else 2, own)
    return "; ".join(["mx.google.com", *parts])


@given(one=LOCALS, other=LOCALS, in_comment=WRITERS, in_result=WRITERS, own_first=st.booleans(), decoded=st.booleans())
def test_no_local_part_makes_a_notice_googles(
    one: str, other: str, in_comment: Callable[[str], str], in_result: Callable[[str], str], *, own_first: bool,
    decoded: bool,
) -> None:  # fmt: skip
    """`decoded`: Google's API may decode what it lists; it does so for a subject."""
    value = results(in_result(one), in_comment(other), in_result(other), FAIL, own_first=own_first)
    received = arrived(decoded_words(value) if decoded else value)
    assert not is_googles(received)
    assert is_forged(received)


@pytest.mark.parametrize(
    "value",
    [
        f"mx.google.com; spf=pass smtp.mailfrom={WORD}@evil.example; {FAIL}",
        f'mx.google.com; spf=pass smtp.mailfrom="{WORD}"@evil.example; {FAIL}',
        f'mx.google.com; spf=pass smtp.mailfrom="{OPENED}"@evil.example; {FAIL}',
        decoded_words(f'mx.google.com; spf=pass smtp.mailfrom="{OPENED}"@evil.example; {FAIL}'),
        f"mx.google.com; spf=pass (google.com: domain of {WORD}@evil.example designates 192.0.2.66) x=y; {FAIL}",
        f"mx.google.com; spf=pass smtp.mailfrom=x; {PASS} (",
        f'mx.google.com; spf=pass smtp.mailfrom=x; {PASS} "',
        f"mx.google.com; spf=pass ) x=y; {PASS}",
        f'mx.google.com; dkim=pass header.i="@evil.example; {FAIL}; spf=pass smtp.mailfrom="; {PASS}',
        f"mx.google.com; spf=pass (a (; {FAIL}; b) c); {PASS}",
        "mx.google.com; dm(x)arc=pass header.from=googlemail.com",
        'mx.google.com; dmarc=pass header.from="evil.example" googlemail.com',
        "mx.google.com; dmarc=pass header.from=evil.example header.from=googlemail.com",
        "mx.google.com; " + f"dkim=pass header.i=@{'x' * 60}.example; " * 60 + PASS,
    ],
)
def test_a_result_of_another_form_vouches_for_nobody(value: str) -> None:
    assert not is_googles(arrived(value))
    assert is_forged(arrived(value))


NAMES: Final = st.lists(
    st.sampled_from(["<", ">", "(", ")", '"', ",", ":", ";", "mailer-daemon@googlemail.com", "Mail Delivery", " ",
                     "=?utf-8?q?=3Cmailer-daemon=40googlemail.com=3E_=28?=", "=?utf-8?q?=29?=", "\\"]), max_size=8
).map("".join)  # fmt: skip


@given(before=NAMES, behind=NAMES, decoded=st.booleans())
def test_no_name_makes_a_person_with_googles_domain_its_daemon(before: str, behind: str, *, decoded: bool) -> None:
    """Addresses at googlemail.com are people's: DMARC passes for what they send."""
    writer = f"{before} <eve@googlemail.com>{behind}"
    received = arrived(f"mx.google.com; {PASS}", decoded_words(writer) if decoded else writer)
    assert not is_googles(received)


def test_an_answer_whose_result_cannot_be_read_is_not_believed() -> None:
    own = "dmarc=fail (p=REJECT) header.from=example.org"
    for local in ("=?us-ascii?q?=22=3B?=", '"', "(", "; dmarc=pass header.from=example.org; x="):
        assert dmarc(arrived(f"mx.google.com; spf=pass smtp.mailfrom={local}@evil.example; {own}"))[0] is Dmarc.FAIL
    assert dmarc(arrived("mx.google.com; spf=none smtp.helo=a.example"))[0] is Dmarc.NONE


def test_only_a_subject_is_decoded() -> None:
    word = "=?us-ascii?q?=41=22?="
    names = ["From", "To", "Authentication-Results", "X-Failed-Recipients", "In-Reply-To", "Return-Path",
             "Content-Type", "Auto-Submitted", "Precedence", "X-Mailerd-Key", "Subject"]  # fmt: skip
    shown = dict(shown_headers([{"name": it, "value": word} for it in names]))
    assert {name for name, value in shown.items() if value != word} == {"Subject"}
    assert shown["Subject"] == 'A"'
