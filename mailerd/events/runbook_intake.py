"""What to do about the processes that render templates, and about the public site of unsubscribe links."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import LOG, OWN_BUG, LikelyCause, Runbook

INTAKE_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "renderer_ended": Runbook(
        "The process that renders templates ended over one of them, or was killed; another was started within a tenth of a "
        "second. Letters beside it were made all the same; the one at fault fails with this reason, or its post is refused. Where "
        "it was killed or got no CPU no letter is at fault: it waits, and its post is answered 503.",
        "渲染模板的进程因某个模板而结束，或被终止；十分之一秒内已启动新的进程。其他邮件照常生成；出错的邮件以此原因失败，或其请求被拒绝。若进程被外部终止或得不到 CPU，则不归咎于任何邮件：邮件等待，请求得到 503。",
        (
            LikelyCause("a template takes more than a second of CPU or 320 MB for one letter", "某个模板处理一封邮件需要一秒以上的 CPU 时间或 320 MB 以上内存", "mailerd jobs list"),
            LikelyCause("a person or the kernel killed the process, as when memory is short", "进程被人或内核终止，例如内存不足", "journalctl -k -g 'out of memory' -n 20"),
        ),
    ),
    "renderer_ends_often": Runbook(
        "The renderer ends again and again: over templates of a client, or since this machine kills it or gives it no CPU. "
        "Other letters go on; each end costs about a second, and ten where there is no CPU.",
        "渲染进程反复结束：因某个客户端的模板，或因本机将其终止、不给它 CPU。其他邮件继续发送；每次结束约耗时一秒，得不到 CPU 时为十秒。",
        (
            LikelyCause("a client posts templates that are too costly, by mistake or on purpose: the line names its key or sender", "客户端有意或无意提交了开销过大的模板：日志行给出其密钥或发件人", "mailerd keys list"),
            LikelyCause("it was killed or got no CPU, as the line says: memory or CPU are short", "如日志行所述，进程被终止或得不到 CPU：内存或 CPU 不足", "journalctl -k -g 'out of memory' -n 20; cat /proc/pressure/cpu /proc/pressure/memory"),
            LOG,
        ),
    ),
    "renderer_not_started": Runbook(
        "No template can be rendered: posts are answered 503, letters wait and lose no attempt. It is tried again by itself.",
        "模板无法渲染：请求得到 503，邮件等待且不计尝试次数。会自动重试。",
        (
            LikelyCause("memory or processes of the service are used up", "服务的内存或进程数已用尽", "systemctl show mailerd -p MemoryCurrent,MemoryMax,TasksCurrent,TasksMax"),
            LikelyCause("the installation is incomplete, as in the midst of an upgrade", "安装不完整，例如正在升级", "/opt/mailerd/bin/python -I -m mailerd.mail.render_child 1 335544320 $$ </dev/null"),
        ),
    ),
    "renderer_broke": Runbook(
        "The part of mailerd that asks the renderer met an error that it does not know. The letters wait and lose no attempt.",
        "mailerd 中调用渲染进程的部分遇到未知错误。邮件等待，且不计尝试次数。",
        (OWN_BUG,),
    ),
    "unsubscribe_unserved": Runbook(
        "The database did not answer a request to the public site: POST wanted to unsubscribe, GET only opened a link, as "
        "`mailerd check` does. Mail programs try again by themselves; a person sees a page that asks to try again.",
        "数据库没有应答退订站点的一个请求：POST 是请求退订，GET 只是打开链接，`mailerd check` 也会这样做。邮件程序会自动重试；个人会看到请稍后重试的页面。",
        (
            LikelyCause("the database is away: the lines of the database say since when", "数据库不可用：数据库相关日志说明自何时起", "mailerd check"),
            LikelyCause("the database takes no writes (read-only, disk full)", "数据库拒绝写入（只读或磁盘已满）", "journalctl -u mariadb -u mysql -p warning -n 30"),
        ),
    ),
    "unsubscribe_failed": Runbook(
        "The public site met an error that it does not know and answered 500. Nothing was changed by that request.",
        "退订站点遇到未知错误，已应答 500。该请求未改变任何数据。",
        (OWN_BUG,),
    ),
}  # fmt: skip
