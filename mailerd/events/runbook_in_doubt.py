"""What to do about letters of which it is not known, or was known wrongly, whether they were sent."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import LikelyCause, Runbook

DOUBTS_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "letter_undone": Runbook(
        "The answer to a send was lost, and Google said that the draft was gone, which it is not: the letter was not sent. "
        "The row is put right and the letter goes out by that very draft; a job that was completed is open again.",
        "发送的应答丢失，Google 又称草稿不在，而草稿其实仍在：邮件并未发送。记录已更正，邮件将用该草稿发出；已完成的任务会重新打开。",
        (
            LikelyCause(
                "Google answered from a copy of the mailbox that lagged; with gmail.metadata the sent mail is looked at instead",
                "Google 的应答来自滞后的邮箱副本；有 gmail.metadata 权限时会改查“已发送”",
                "mailerd auth login --sender @MAILERD_SENDER@ --metadata",
            ),
        ),
    ),
    "letter_needs_a_person": Runbook(
        "Only a look into the mailbox can tell whether this letter was sent; without the scope gmail.metadata mailerd may "
        "not look itself. Either it went directly and no answer came, or its draft is gone although Google had refused "
        "every send of it. Look into Sent and say what you found.",
        "只有查看邮箱才能判断此邮件是否已发送；没有 gmail.metadata 权限时 mailerd 无法自行查看。"
        "要么是直接发送后没有应答，要么是 Google 拒绝了每次发送而草稿却已不在。请查看“已发送”并告知结果。",
        (
            LikelyCause("it stands in Sent", "已在“已发送”中", "mailerd settle @MAILERD_RECIPIENT@ --sent"),
            LikelyCause("it does not", "不在“已发送”中", "mailerd settle @MAILERD_RECIPIENT@ --not-sent"),
        ),
    ),
}
