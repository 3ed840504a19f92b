"""What to do about what the inbox reader says."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import OWN_BUG, LikelyCause, Runbook

INBOX_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "inbox_unreadable": Runbook(
        "Google did not let mailerd read this inbox. Letters go on; what became of them is learnt later, and nothing is lost.",
        "Google 未允许 mailerd 读取该收件箱。邮件照常发送；其结果稍后才会得知，不会丢失。",
        (
            LikelyCause("the sign-in was revoked or lost a scope", "授权已被撤销或缺少权限范围", "mailerd check"),
            LikelyCause("Google cannot be reached, or throttles the mailbox: it goes on by itself", "无法连接 Google 或该邮箱被限流：会自行恢复", "journalctl -u mailerd -p warning -n 50"),
        ),
    ),
    "letter_given_back": Runbook(
        "Google had answered that it took this letter, and wrote later that it did not send it, since the mailbox had reached "
        "its limit. The letter waits again, lost no attempt, and goes once the sender's day has room.",
        "Google 曾应答已接收该邮件，随后通知因邮箱达到限额而未发出。该邮件重新等待，不消耗尝试次数，待发件人当日额度恢复后发送。",
        (
            LikelyCause("the mailbox may send less than pace.per_day says (a trial account, a new one)", "该邮箱的实际额度低于 pace.per_day（试用或新账户）", "mailerd senders set SENDER --per-day N"),
            LikelyCause("the person or another program sends from the same mailbox: leave them a reserve", "本人或其他程序也在使用该邮箱发送邮件：请预留额度", "mailerd senders set SENDER --reserve N"),
        ),
    ),
    "sender_rests": Runbook(
        "What came back to the mailbox says that it should not send for a while: a limit was reached, or receiving servers "
        "block its letters as unwanted.",
        "收件箱内容表明该邮箱应暂停发送：已达限额，或收件服务器将其邮件视为不受欢迎而拦截。",
        (
            LikelyCause("daily_limit: Google's limit; it ends by itself", "daily_limit：达到 Google 限额；会自行结束", "mailerd senders list"),
            LikelyCause("blocked: read the reasons, mend list or content, then resume the sender", "blocked：查看原因，整理名单或内容后恢复发件人", "mailerd bounces --sender SENDER"),
            LikelyCause("bounces: many addresses do not exist; clean the lists, then resume the sender", "bounces：大量地址不存在；清理名单后恢复发件人", "mailerd bounces --sender SENDER"),
        ),
    ),
    "job_paused_for_bounces": Runbook(
        "Too many addresses of this job do not exist, so it was paused: to go on would cost the mailbox its reputation. Nothing "
        "is lost; its other messages wait. After a person's resume only what is sent from then on counts.",
        "该任务中不存在的地址过多，已暂停：继续发送会损害该邮箱的信誉。不会丢失任何邮件，其余邮件等待。人工恢复后，仅统计此后发送的邮件。",
        (
            LikelyCause("an old or bought list: look at what came back, clean the list, cancel the job and post the rest", "名单陈旧或为购买所得：查看退信，清理名单，取消任务后重新提交其余收件人", "mailerd bounces --job @MAILERD_JOB@"),
            LikelyCause("the list is right after all: let it go on", "名单其实无误：让它继续", "mailerd jobs resume @MAILERD_JOB@"),
        ),
    ),
    "job_bounces": Runbook(
        "Half of what pauses this job has come back, since the addresses do not exist. It goes on.",
        "因地址不存在的退信已达到暂停该任务所需数量的一半。任务继续发送。",
        (
            LikelyCause("an old or bought list", "名单陈旧或为购买所得", "mailerd bounces --job @MAILERD_JOB@"),
        ),
    ),
    "notice_not_believed": Runbook(
        "A message claims to be a notice about a letter, and Google does not vouch for it, or it names another address or "
        "another message. It changed nothing.",
        "有邮件自称是关于某封邮件的通知，但 Google 未予认证，或其中的地址或邮件不符。未作任何改动。",
        (
            LikelyCause("it is about a message that the owner of the mailbox wrote in the same thread, or about an earlier sending", "通知关于邮箱主人在同一会话中所写的邮件，或关于此前的一次发送", "look at the message in the mailbox"),
            LikelyCause("a third party forges notices", "有人伪造通知", "look at the message in the mailbox"),
            LikelyCause("another mail system's notice under gmail.metadata, where its body cannot be read", "在 gmail.metadata 权限下无法读取正文的其他邮件系统通知", "mailerd auth login --sender SENDER --readonly"),
        ),
    ),
    "notice_passed_over": Runbook(
        "This message could not be read three times. It is passed over, so that it holds up nothing behind it; what it says "
        "about a letter is not known.",
        "该邮件三次读取失败，已跳过，以免阻塞后续邮件；其内容未知。",
        (
            LikelyCause("it is too large or broken: look at it in the mailbox", "邮件过大或损坏：请在邮箱中查看", "mailerd bounces --sender SENDER"),
            LikelyCause("a limit notice about a letter that is still unsure: settle that", "关于状态未定邮件的限额通知：请先处理该邮件", "mailerd explain RECIPIENT"),
        ),
    ),
    "history_forgotten": Runbook(
        "Google keeps a mailbox's history for about a week, sometimes for hours. mailerd walks the inbox back to what it knows, "
        "and finds the same notices there.",
        "Google 约保留邮箱历史一周，有时仅数小时。mailerd 会将收件箱回溯至已知位置，并找到相同的通知。",
        (
            LikelyCause("no daemon ran for days, or the inbox could not be read: nothing is to be done", "数日无守护进程运行或无法读取收件箱：无需处理", "mailerd check"),
        ),
    ),
    "notice_crashed": Runbook(
        "A message met an error that mailerd does not know. It is tried twice more, and then passed over by name.",
        "处理该邮件时遇到未知错误。将再试两次，然后跳过并记录。",
        (OWN_BUG,),
    ),
    "inbox_crashed": Runbook(
        "Reading inboxes met an error that mailerd does not know. Letters are sent all the same; the reader tries again from "
        "its last commit.",
        "读取收件箱时遇到未知错误。邮件照常发送；读取将从上次提交处重试。",
        (OWN_BUG,),
    ),
    "inbox_step_failed": Runbook(
        "The database refused a step of reading inboxes. Nothing of it was written; it is read again.",
        "数据库拒绝了读取收件箱的某个步骤。未写入任何内容；将重新读取。",
        (
            LikelyCause("the database's own error stands in the line", "该行中有数据库自身的错误", "mailerd check"),
        ),
    ),
}  # fmt: skip
