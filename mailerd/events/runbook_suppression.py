"""What to do about the public site of unsubscribe links."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import LikelyCause, Runbook

SUPPRESSION_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "unsubscribe_unserved": Runbook(
        "A person or a mail program wanted to unsubscribe and was answered 503, since the database could not store it. Mail "
        "programs try again by themselves; a person sees a page that asks to try again.",
        "有人或邮件程序请求退订，但数据库无法存储，已应答 503。邮件程序会自动重试；个人会看到请稍后重试的页面。",
        (
            LikelyCause("the database is away: the lines of the database say since when", "数据库不可用：数据库相关日志说明自何时起", "mailerd check"),
            LikelyCause("the database takes no writes (read-only, disk full)", "数据库拒绝写入（只读或磁盘已满）", "journalctl -u mariadb -u mysql -p warning -n 30"),
        ),
    ),
    "unsubscribe_failed": Runbook(
        "The public site met an error that it does not know and answered 500. Nothing was changed by that request.",
        "退订站点遇到未知错误，已应答 500。该请求未改变任何数据。",
        (
            LikelyCause("a bug in mailerd: the stack says where; report it", "mailerd 的缺陷：堆栈指明位置；请报告", "journalctl -u mailerd -p err -n 100 -o cat"),
        ),
    ),
}  # fmt: skip
