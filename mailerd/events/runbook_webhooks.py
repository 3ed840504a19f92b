"""What to do about webhooks."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import OWN_BUG, LikelyCause, Runbook

_DELIVERIES: Final = LikelyCause(
    "what each attempt was answered stands in the list of deliveries",
    "每次尝试的应答见投递列表",
    "mailerd webhooks show @MAILERD_WEBHOOK@",
)
_TEST: Final = LikelyCause(
    "the endpoint is down, slow (15 s at most) or answers with an error or a redirect",
    "端点停机、过慢（最多 15 秒）、返回错误或重定向",
    "mailerd webhooks test @MAILERD_WEBHOOK@",
)
_NETWORK: Final = LikelyCause(
    "its address is not public and not in webhooks.allow_networks (the message says: not a public address)",
    "其地址不是公网地址，也不在 webhooks.allow_networks 中（消息显示：not a public address）",
    "mailerd check",
)
_DATABASE: Final = LikelyCause(
    "the database is away or busy: its own lines say more",
    "数据库不可用或繁忙：数据库相关日志有更多说明",
    "mailerd check",
)

WEBHOOK_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "webhook_failing": Runbook(
        "An application's endpoint does not take its events. They wait in the database, and all go out when it is back; letters "
        "are not affected. After webhooks.pause_after (5 days) it is paused.",
        "某应用的端点不接收事件。事件保留在数据库中，端点恢复后全部投递；邮件不受影响。超过 webhooks.pause_after（5 天）后将暂停。",
        (_TEST, _NETWORK, _DELIVERIES),
    ),
    "webhook_paused": Runbook(
        "An endpoint failed for days and gets nothing more until a person resumes it. Its events are kept as long as any "
        "(retention.events), and are delivered when it is resumed.",
        "端点已连续失败数日，恢复之前不再投递。其事件按 retention.events 保留，恢复后继续投递。",
        (
            _TEST,
            LikelyCause("the application is mended", "应用已修复", "mailerd webhooks resume @MAILERD_WEBHOOK@"),
            LikelyCause("it is no longer needed", "不再需要该端点", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_gone": Runbook(
        "An endpoint said by the status 410 that it wants no more events. It gets none until a person resumes it.",
        "端点以状态码 410 表示不再需要事件。恢复之前不再投递。",
        (
            LikelyCause("the application was taken down", "应用已下线", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
            LikelyCause("it was a mistake, as of a proxy", "误答，例如来自代理", "mailerd webhooks resume @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_event_given_up": Runbook(
        "One event was refused at every attempt over days, while the endpoint took others. It is kept as failed.",
        "某个事件数日内每次尝试均被拒绝，而端点接收了其他事件。该事件以失败状态保留。",
        (
            LikelyCause("the application fails over this one event: its own log says why", "应用处理该事件出错：其自身日志说明原因", "mailerd webhooks show @MAILERD_WEBHOOK@"),
            LikelyCause("once the application is mended", "应用修复之后", "mailerd webhooks replay @MAILERD_WEBHOOK@ --failed"),
        ),
    ),
    "webhook_events_expired": Runbook(
        "Events are deleted when they are older than retention.events. An endpoint that is on holds them up; a paused one does not.",
        "早于 retention.events 的事件会被删除。处于启用状态的端点会推迟删除；已暂停的端点不会。",
        (
            LikelyCause("the endpoint was paused for too long: the application reads its state from the API", "端点暂停过久：应用应通过 API 重新读取状态", "mailerd webhooks show @MAILERD_WEBHOOK@"),
            LikelyCause("it is no longer needed", "不再需要该端点", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_step_failed": Runbook(
        "The part that delivers events could not use the database. It goes on by itself, and no event is lost.",
        "投递事件的部分无法使用数据库。会自动继续，不会丢失事件。",
        (_DATABASE,),
    ),
    "webhook_broke": Runbook(
        "An attempt met an error that mailerd does not know. The event is free again when its lease is over.",
        "某次尝试遇到 mailerd 未知的错误。租约到期后该事件会再次投递。",
        (OWN_BUG,),
    ),
}  # fmt: skip
