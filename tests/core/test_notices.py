"""What messages mean: codes, words, languages; and what a stranger may write without its being believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailerd.core.notices import (
    BOUNCES,
    DeliveryReport,
    Kind,
    ReceivedMail,
    Reported,
    classify,
    is_forged,
    is_googles,
    read,
    without_addresses,
)

ADA = "ada@example.org"
DAEMON = ("From", "Mail Delivery Subsystem <mailer-daemon@googlemail.com>")
VOUCHED = ("Authentication-Results", "mx.google.com; dkim=pass header.i=@googlemail.com; dmarc=pass (p=QUARANTINE "
           "sp=QUARANTINE dis=NONE) header.from=googlemail.com")  # fmt: skip


RATE = "The user you are trying to contact is receiving mail at a rate"


@pytest.mark.parametrize(
    "status,text,kind",
    [
        ("5.1.1", "", Kind.HARD),
        ("5.1.10", "RESOLVER.ADR.RecipientNotFound", Kind.HARD),
        ("5.4.4", "Host or domain name not found", Kind.HARD),
        ("5.2.1", "account disabled", Kind.HARD),
        ("5.2.1", "mailbox is over quota", Kind.SOFT),
        ("5.2.1", f"550-5.2.1 {RATE} that prevents additional", Kind.SOFT),
        ("5.2.1", "550-5.2.1 … at a rate that 550-5.2.1 prevents additional messages from being", Kind.SOFT),
        ("5.2.1", "550 5.2.1 https://support.google.com/mail/?p=ReceivingRatePerm - gsmtp", Kind.SOFT),
        ("5.2.1", "550 5.2.1 The email account that you tried to reach is inactive.", Kind.HARD),
        ("5.2.1", "550 5.2.1 https://support.google.com/mail/?p=DisabledUser x - gsmtp", Kind.HARD),
        ("4.2.1", "450-4.2.1 The user you are trying to contact is receiving mail too quickly.", Kind.SOFT),
        ("5.0.0", f"550 {RATE}", Kind.SOFT),
        ("5.7.1", f"554 5.7.1 blocked: {RATE}", Kind.BLOCKED),
        ("5.1.1", f"550 5.1.1 no such user. {RATE}", Kind.HARD),
        ("5.2.2", "", Kind.SOFT),
        ("5.4.7", "delivery time expired", Kind.SOFT),
        ("4.4.1", "no answer", Kind.SOFT),
        ("5.7.1", "", Kind.BLOCKED),
        ("5.7.26", "unauthenticated", Kind.BLOCKED),
        ("5.0.0", "Message rejected. See https://support.google.com/mail/answer/69585", Kind.BLOCKED),
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


def test_a_mailbox_that_gets_too_much_mail_lives() -> None:
    assert classify("5.2.1", RATE) == (Kind.SOFT, "5.2.1", False)
    assert classify("4.2.1", RATE) == (Kind.SOFT, "4.2.1", False)


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
    assert read(ReceivedMail((DAEMON,), DeliveryReport(text=text)), about=ADA).kind is Kind.OVER_LIMIT


@pytest.mark.parametrize("text", LIMITS)
def test_another_server_cannot_say_that_our_limit_was_reached(text: str) -> None:
    """It answers what it likes to a message, and Google reports that in a notice that is Google's own."""
    said = Reported(ADA, "failed", "5.4.5", text, remote=True)
    assert read(ReceivedMail((DAEMON,), DeliveryReport((said,), text=text)), about=ADA).kind in BOUNCES


@pytest.mark.parametrize("text", LIMITS)
@pytest.mark.parametrize(
    "action,status", [("delayed", "4.4.1"), ("delayed", ""), ("failed", "5.1.1"), ("failed", "4.2.1")]
)
def test_a_report_is_believed_before_its_words(action: str, status: str, text: str) -> None:
    """What Google says of a mailbox that gets too much mail names the article on limits, for example."""
    report = DeliveryReport((Reported(ADA, action, status, text),), text=text)
    kind = read(ReceivedMail((DAEMON,), report), about=ADA).kind
    assert kind is (Kind.DELAYED if action == "delayed" else classify(status, "")[0])


@pytest.mark.parametrize("text", LIMITS)
def test_a_report_without_a_telling_code_leaves_it_to_the_words(text: str) -> None:
    report = DeliveryReport((Reported(ADA, "failed", "5.0.0", "smtp; it was refused"),), text=text)
    assert read(ReceivedMail((DAEMON,), report), about=ADA).kind is Kind.OVER_LIMIT


IDN = "x@xn--fhq4vr0j699ewyal1w.example"
ODD = "p=DailyLimitExceeded@a-5.4.5-a.example"
SPELLED = [
    ODD, ODD.upper(), f"<{ODD}>", f"mailto:{ODD}", f'"{ODD}" <{ODD}>', "p=DailyLimit\n Exceeded@a-5.4.5-a.example",
    "p=DailyLimitExceeded@a-5.4\n .5-a.example", "p=DailyLimitExceeded @ a-5.4.5-a.example", "at a-5.4.5-a.example",
    "mx1.a-5.4.5-a.example", f"{ODD}, 550-5.4.5@other.example",
    '"550 5.4.5 reached a limit for sending mail"@x.example',
    "发到550-5.4.5@邮件发送上限.example", "邮件发送上限.example", "5.4.5", "answer/22839", "550-5.4.5.dead.example",
    "[mx.550-5.4.5-x.example. 192.0.2.1: timed out]", "support.google.com/a/answer/22839",
]  # fmt: skip


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("about", [ODD, IDN])
def test_an_address_in_googles_own_words_is_no_limit(spelled: str, about: str) -> None:
    if spelled == "邮件发送上限.example":
        about = IDN
    elif "-5.4.5-a" in spelled:
        about = ODD
    text = f"Address not found. Your message wasn't delivered to {spelled} because the domain couldn't be found"
    for reported in ((), (Reported(about, "failed", "4.0.0", f"smtp; lookup of {spelled} failed"),)):
        report = DeliveryReport(reported, text=text)
        assert read(ReceivedMail((DAEMON,), report), about=about).kind is not Kind.OVER_LIMIT


@pytest.mark.parametrize("end", ["ß", "ς", "ﬁ", "\u1e9e", "🦄", ""])
def test_a_domain_is_known_by_its_messages_also_where_idna_would_write_them_otherwise(end: str) -> None:
    label = f"送信上限{end}"
    domain = f"xn--{label.encode('punycode').decode('ascii')}.example"
    for shown in (f"{label}.example", f"mx.{label}.example", f"x@{label}.example", domain):
        report = DeliveryReport(text=f"Address not found: the domain of {shown} couldn't be found")
        assert read(ReceivedMail((DAEMON,), report), about=f"x@{domain}").kind is not Kind.OVER_LIMIT
    for broken in ("xn--", "xn--\xff", "xn--99999999999999", "xn---"):
        assert "@" in without_addresses(f"lookup of {broken}.example failed", f"x@{broken}.example")


def test_an_address_makes_no_delay() -> None:
    late = "delayed@dead.example"
    for subject, text in ((f"failed: {late}", f"{late}: 550 no such user"), ("failed", f"{late} 550 no such user")):
        report = DeliveryReport(text=text)
        headers = (DAEMON, ("Subject", subject), ("X-Failed-Recipients", late))
        assert read(ReceivedMail(headers, report), about=late).kind is Kind.HARD
        assert read(ReceivedMail(headers), about=late).kind is Kind.UNKNOWN


_LOCALS = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9=/-]{1,20}){0,2}", fullmatch=True)
_DOMAINS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,5}){0,3}\.(example|org)", fullmatch=True)


@given(_LOCALS, _DOMAINS, st.lists(st.integers(0, 60), max_size=3), st.sampled_from(["\n", " ", "\r\n  ", "\n\t"]))
def test_no_part_of_an_address_is_left_however_its_lines_are_broken(
    local: str, domain: str, breaks: list[int], space: str
) -> None:
    address = f"{local}@{domain}"
    broken = address
    for at in sorted({1 + it % (len(address) - 1) for it in breaks}, reverse=True):
        broken = broken[:at] + space + broken[at:]
    text = f"It failed for {broken.upper()}: <{broken}>, at {domain} and mx.{domain}"
    left = without_addresses(text, address).split()
    assert [it.strip("<>,:") for it in left] == ["It", "failed", "for", "@", "@", "at", "@", "and", "@"]


def test_of_several_recipients_the_messages_own_counts() -> None:
    two = (Reported("eve@example.org", "failed", "5.1.1"), Reported("Ada@Example.org", "delayed", "4.4.1"))
    assert read(ReceivedMail((DAEMON,), DeliveryReport(two)), about=ADA).kind is Kind.DELAYED
    assert read(ReceivedMail((DAEMON,), DeliveryReport(two)), about="eve@example.org").kind is Kind.HARD


def test_headers_alone_never_tell_the_class() -> None:
    failed = ReceivedMail((DAEMON, ("Subject", "Delivery Status Notification (Failure)"), ("X-Failed-Recipients", ADA)))
    assert read(failed, about=ADA).kind is Kind.UNKNOWN
    assert read(ReceivedMail((DAEMON, ("Subject", "Delivery Status Notification (Delay)")))).kind is Kind.DELAYED


def test_a_text_says_that_it_is_tried_on() -> None:
    gateway = ReceivedMail(
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
    assert read(ReceivedMail(tuple(headers))).kind is kind


@pytest.mark.parametrize(
    "writer",
    [DAEMON[1], "mailer-daemon@googlemail.com", "<MAILER-DAEMON@google.com>",
     '"Mail, Delivery" (a <b>) < mailer-daemon@googlemail.com >'],
)  # fmt: skip
def test_google_vouches_for_its_own_notice(writer: str) -> None:
    assert is_googles(ReceivedMail((VOUCHED, ("From", writer))))
    assert not is_forged(ReceivedMail((VOUCHED, ("From", writer))))


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
    assert not is_googles(ReceivedMail(headers))
    assert is_forged(ReceivedMail(headers))


def test_what_its_own_domain_disowns_is_forged() -> None:
    assert is_forged(ReceivedMail((("Authentication-Results", "mx.google.com; dmarc=fail header.from=example.org"),)))
    assert not is_forged(ReceivedMail((("Authentication-Results", "mx.google.com; spf=none"),)))
    assert not is_forged(
        ReceivedMail((("Authentication-Results", "evil.example; dmarc=fail header.from=example.org"),))
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
    received = ReceivedMail(tuple(headers), report)
    meaning = read(received, about=about)
    assert len(meaning.reason) <= 500
    if report is None:
        assert meaning.kind not in {Kind.HARD, Kind.SOFT, Kind.BLOCKED, Kind.OVER_LIMIT}
    if report and any(it.remote for it in report.recipients):
        assert meaning.kind is not Kind.OVER_LIMIT


@given(st.text(max_size=200))
def test_what_others_put_into_comments_and_quotes_vouches_for_nobody(words: str) -> None:
    for value in (f"mx.google.com; spf=pass ({words.replace(')', '')}) x", f"mx.evil.example; {words}"):
        assert not is_googles(ReceivedMail((("Authentication-Results", value), DAEMON)))
