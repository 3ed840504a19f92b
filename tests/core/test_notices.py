"""What messages mean: codes, words, languages; and what a stranger may write without its being believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.authentication import is_forged, is_googles
from mailerd.core.notices import BOUNCES, DeliveryReport, InboxMessage, Kind, Reported, classify, read

ADA = "ada@example.org"
DAEMON = ("From", "Mail Delivery Subsystem <mailer-daemon@googlemail.com>")
VOUCHED = ("Authentication-Results", "mx.google.com; dkim=pass header.i=@googlemail.com; dmarc=pass (p=QUARANTINE "
           "sp=QUARANTINE dis=NONE) header.from=googlemail.com")  # fmt: skip


@pytest.mark.parametrize(
    "status,text,kind",
    [
        ("5.1.1", "", Kind.HARD),
        ("5.1.10", "RESOLVER.ADR.RecipientNotFound", Kind.HARD),
        ("5.4.4", "Host or domain name not found", Kind.HARD),
        ("5.2.1", "account disabled", Kind.HARD),
        ("5.2.1", "mailbox is over quota", Kind.SOFT),
        ("5.2.2", "", Kind.SOFT),
        ("5.4.7", "delivery time expired", Kind.SOFT),
        ("4.4.1", "no answer", Kind.SOFT),
        ("5.7.1", "", Kind.BLOCKED),
        ("5.7.26", "unauthenticated", Kind.BLOCKED),
        ("5.0.0", "InboxMessage rejected. See https://support.google.com/mail/answer/69585", Kind.BLOCKED),
        ("5.0.0", "550 5.1.1 no such user", Kind.HARD),
        ("", "Sorry, no mailbox here by that name. (#5.1.1)", Kind.HARD),
        ("", "550 User unknown", Kind.HARD),
        ("", "552 mailbox full", Kind.SOFT),
        ("", "用户不存在", Kind.HARD),
        ("", "邮箱已满", Kind.SOFT),
        ("", "it failed", Kind.UNKNOWN),
        ("5.5.1", "what", Kind.UNKNOWN),
    ],
)
def test_a_failure_has_a_class(status: str, text: str, kind: Kind) -> None:
    assert classify(status, text)[0] is kind


@pytest.mark.parametrize("status,counts", [("5.2.2", True), ("5.4.7", True), ("5.3.4", False), ("5.2.3", False)])
def test_size_and_content_say_nothing_of_the_mailbox(status: str, *, counts: bool) -> None:
    assert classify(status, "")[2] is counts


LIMITS = [
    "You have reached a limit for sending mail. Your message was not sent.",
    "Vous avez atteint une limite d'envoi d'e-mails. Votre message n'a pas été envoyé.",
    "Hai raggiunto il limite di invio. Il tuo messaggio non è stato inviato.",
    "您已达到邮件发送上限。您的邮件未发送。",
    "…, https://support.google.com/a/answer/166852",
    "550 5.4.5 whatever language this is",
]


@pytest.mark.parametrize("text", LIMITS)
def test_a_limit_notice_is_known_in_every_language(text: str) -> None:
    assert read(InboxMessage((DAEMON,), DeliveryReport(text=text)), about=ADA).kind is Kind.OVER_LIMIT


@pytest.mark.parametrize("text", LIMITS)
def test_another_server_cannot_say_that_our_limit_was_reached(text: str) -> None:
    """It answers what it likes to a letter, and Google reports that in a notice that is Google's own."""
    said = Reported(ADA, "failed", "5.4.5", text, remote=True)
    assert read(InboxMessage((DAEMON,), DeliveryReport((said,), text=text)), about=ADA).kind in BOUNCES


def test_of_several_recipients_the_letters_own_counts() -> None:
    two = (Reported("eve@example.org", "failed", "5.1.1"), Reported("Ada@Example.org", "delayed", "4.4.1"))
    assert read(InboxMessage((DAEMON,), DeliveryReport(two)), about=ADA).kind is Kind.DELAYED
    assert read(InboxMessage((DAEMON,), DeliveryReport(two)), about="eve@example.org").kind is Kind.HARD


def test_headers_alone_never_tell_the_class() -> None:
    failed = InboxMessage((DAEMON, ("Subject", "Delivery Status Notification (Failure)"), ("X-Failed-Recipients", ADA)))
    assert read(failed, about=ADA).kind is Kind.UNKNOWN
    assert read(InboxMessage((DAEMON, ("Subject", "Delivery Status Notification (Delay)")))).kind is Kind.DELAYED


def test_a_text_says_that_it_is_tried_on() -> None:
    gateway = InboxMessage(
        (("From", "gateway@example.org"), ("Subject", "Delivery failure notification")),
        DeliveryReport(text=f"could not be delivered to {ADA}. Delivery attempts will continue for 5 days."),
    )
    assert read(gateway, about=ADA).kind is Kind.DELAYED


@pytest.mark.parametrize(
    "headers,kind",
    [
        ([("From", ADA), ("Subject", "Non-delivery of my parcel")], Kind.REPLY),
        ([("From", ADA), ("Subject", "Non-Delivery: Hello")], Kind.UNKNOWN),
        ([("From", ADA), ("Subject", "Re: Hello")], Kind.REPLY),
        ([("From", ADA), ("Auto-Submitted", "no")], Kind.REPLY),
        ([("From", ADA), ("Auto-Submitted", "auto-replied; owner=x")], Kind.AUTO_REPLY),
        ([("From", ADA), ("X-Autoreply", "yes")], Kind.AUTO_REPLY),
        ([("From", ADA), ("Precedence", "auto_reply")], Kind.AUTO_REPLY),
        ([("From", ADA), ("Subject", "自动回复: Hello")], Kind.AUTO_REPLY),
        ([("From", ADA), ("Content-Type", "multipart/report; report-type=disposition-notification")], Kind.AUTO_REPLY),
        ([("From", ADA), ("Subject", "u." + "A" * 62)], Kind.UNSUBSCRIBE),
        ([("From", ADA), ("Subject", "u." + "A" * 61)], Kind.REPLY),
    ],
)
def test_answers(headers: list[tuple[str, str]], kind: Kind) -> None:
    assert read(InboxMessage(tuple(headers))).kind is kind


@pytest.mark.parametrize(
    "writer",
    [DAEMON[1], "mailer-daemon@googlemail.com", "<MAILER-DAEMON@google.com>",
     '"Mail, Delivery" (a <b@c>) < mailer-daemon@googlemail.com >'],
)  # fmt: skip
def test_google_vouches_for_its_own_notice(writer: str) -> None:
    assert is_googles(InboxMessage((VOUCHED, ("From", writer))))
    assert not is_forged(InboxMessage((VOUCHED, ("From", writer))))


FORGERIES = [
    (DAEMON,),
    (("Authentication-Results", "mx.evil.example; dmarc=pass header.from=googlemail.com"), DAEMON),
    (("Authentication-Results", "mx.google.com; dmarc=fail header.from=googlemail.com"), VOUCHED, DAEMON),
    (("Authentication-Results", "mx.google.com; dmarc=pass header.from=evil.example"), DAEMON),
    (("Authentication-Results", "mx.google.com; spf=pass (a; dmarc=pass header.from=googlemail.com) x=y"), DAEMON),
    (("Authentication-Results", 'mx.google.com; spf=pass x="; dmarc=pass header.from=googlemail.com"'), DAEMON),
    (("Authentication-Results", "mx.google.com; dmarc=pass header.from=evil.example; dmarc=pass "
      "header.from=googlemail.com"), DAEMON),
    (("Authentication-Results", "mx.google.com; dmarc=pass xheader.from=googlemail.com"), DAEMON),
    (VOUCHED, DAEMON, ("From", "eve@evil.example")),
    (VOUCHED, ("From", "mailer-daemon@googlemail.com <eve@evil.example>")),
    (VOUCHED, ("From", "mailer-daemon@googlemail.com, eve@evil.example")),
    (VOUCHED, ("From", "Mail <mailer-daemon@googlemail.com>, eve@evil.example")),
    (VOUCHED, ("From", "eve@evil.example, Mail <mailer-daemon@googlemail.com>")),
    (VOUCHED, ("From", "eve@evil.example <mailer-daemon@googlemail.com>")),
    (VOUCHED, ("From", "<mailer-daemon@googlemail.com> <eve@evil.example>")),
    (VOUCHED, ("From", "mailer-daemon@googlemail.com: eve@evil.example;")),
]  # fmt: skip


@pytest.mark.parametrize("headers", FORGERIES)
def test_a_forged_notice_is_not_googles(headers: tuple[tuple[str, str], ...]) -> None:
    assert not is_googles(InboxMessage(headers))
    assert is_forged(InboxMessage(headers))


def test_what_its_own_domain_disowns_is_forged() -> None:
    assert is_forged(InboxMessage((("Authentication-Results", "mx.google.com; dmarc=fail header.from=example.org"),)))
    assert not is_forged(InboxMessage((("Authentication-Results", "mx.google.com; spf=none"),)))
    assert not is_forged(
        InboxMessage((("Authentication-Results", "evil.example; dmarc=fail header.from=example.org"),))
    )


TEXT = st.text(max_size=60) | st.sampled_from(
    [*LIMITS, "5.1.1", "user unknown", "mailbox full", "(Delay)", ADA, "<", "(", '"']
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["From", "Subject", "Content-Type", "X-Failed-Recipients", "Auto-Submitted", "Precedence",
                         "Authentication-Results"]),
        TEXT,
    ),
    max_size=6,
)  # fmt: skip
ACTIONS = st.sampled_from(["failed", "delayed", "delivered", ""])
RECIPIENTS = st.lists(st.builds(Reported, TEXT, ACTIONS, TEXT, TEXT, st.booleans()), max_size=3).map(tuple)
REPORTS = st.none() | st.builds(DeliveryReport, RECIPIENTS, TEXT, TEXT)


@given(HEADERS, REPORTS, TEXT)
def test_every_message_has_a_meaning(headers: list[tuple[str, str]], report: DeliveryReport | None, about: str) -> None:
    message = InboxMessage(tuple(headers), report)
    meaning = read(message, about=about)
    assert len(meaning.reason) <= 500
    if report is None:
        assert meaning.kind not in {Kind.HARD, Kind.SOFT, Kind.BLOCKED, Kind.OVER_LIMIT}
    if report and any(it.remote for it in report.recipients):
        assert meaning.kind is not Kind.OVER_LIMIT


@given(st.text(max_size=200))
def test_what_others_put_into_comments_and_quotes_vouches_for_nobody(words: str) -> None:
    for value in (f"mx.google.com; spf=pass ({words.replace(')', '')}) x", f"mx.evil.example; {words}"):
        assert not is_googles(InboxMessage((("Authentication-Results", value), DAEMON)))
