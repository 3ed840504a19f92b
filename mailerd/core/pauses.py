"""Pauses in words: until when, for which cause, who can end them; and the labels of states and causes."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from mailerd.core.bounce_rule import BOUNCES
from mailerd.core.rate_limit import FOREVER
from mailerd.core.verdicts import PauseCause

# What people read in place of the codes of statuses, actions, causes and limits, in English and Chinese.
#
# The console shows these; commands and the log show the code itself in English, which is also what the API has.

LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "queued": ("queued", "排队"),
    "sending": ("sending", "发送中"),
    "paused": ("paused", "已暂停"),
    "completed": ("completed", "已完成"),
    "cancelled": ("cancelled", "已取消"),
    "waiting": ("waiting", "等待"),
    "sender_paused": ("sender paused", "邮箱已暂停"),
    "scheduled": ("scheduled", "定时待发"),
    "deferred": ("deferred", "稍后重试"),
    "limit": ("limit", "限额已满"),
    "no_daemon": ("no daemon", "无守护进程"),
    "unsure": ("unsure", "存疑"),
    "day_full": ("limit reached", "已达上限"),
    "google_silent": ("no response from Google", "Google 无响应"),
    "sent": ("sent", "已发送"),
    "failed": ("failed", "失败"),
    "pause": ("pause", "暂停"),
    "resume": ("resume", "恢复"),
    "cancel": ("cancel", "取消"),
    "retry": ("retry", "重试"),
    "priority": ("priority", "优先级"),
    "suppress": ("suppress", "禁发"),
    "unsuppress": ("end a suppression", "解除禁发"),
    "settle": ("settle", "确认"),
    "answered": ("answered by Google", "Google 已应答"),
    "seen in SENT": ("seen in the sent mail", "已发送中可见"),
    "draft gone": ("its draft is gone", "草稿已不存在"),
    "person": ("a person said so", "人工确认"),
    "throttled": ("throttled", "被限速"),
    "daily_limit": ("daily limit", "每日上限"),
    "project_limit": ("project limit", "项目上限"),
    "too_many_concurrent": ("too many at once", "并发过多"),
    "token_refused": ("sign-in refused", "授权被拒"),
    "no_credentials": ("no credentials", "缺少凭据"),
    "client_refused": ("OAuth client refused", "OAuth 客户端被拒"),
    "wrong_mailbox": ("wrong mailbox", "邮箱不符"),
    "scope_missing": ("scope missing", "缺少权限范围"),
    "mailbox_refused": ("Gmail is off", "Gmail 未启用"),
    "manual": ("by a person", "人工"),
    "unsubscribed": ("unsubscribed", "已退订"),
    "hard_bounce": ("hard bounce", "硬退信"),
    "complained": ("complaint", "投诉"),
    "imported": ("imported", "导入"),
    "google_unreachable": ("Google unreachable", "Google 无法访问"),
    "mailto": ("letter", "邮件退订"),
    "notice": ("notice of a bounce", "退信通知"),
    "import": ("import", "导入"),
    "bounced": ("bounced", "退信"),
    "replied": ("answered", "已回复"),
    "other_replied": ("answered from another address", "从其他地址回复"),
    "auto_replied": ("answered by a program", "自动回复"),
    "hard": ("no such address", "地址不存在"),
    "soft": ("soft bounce", "软退信"),
    "blocked": ("blocked", "被拦截"),
    "bounces": ("too many bounces", "退信过多"),
    "unknown": ("unknown cause", "原因不明"),
    "delayed": ("delayed", "延迟"),
    "over_limit": ("over Google's limit", "超出 Google 上限"),
    "reply": ("answer", "回复"),
    "auto_reply": ("automatic answer", "自动回复"),
    "unsubscribe": ("unsubscribe", "退订"),
    "other": ("other", "其他"),
    "new": ("not read yet", "尚未读取"),
    "read": ("read", "已读取"),
    "behind": ("being caught up", "追赶中"),
    "refused": ("refused by Google", "被 Google 拒绝"),
    "one_click": ("one click", "一键退订"),
    "page": ("page", "退订页面"),
    "api": ("API", "API"),
    "cli": ("command", "命令行"),
    "draft": ("by draft", "经草稿"),
    "direct": ("direct", "直接发送"),
    "authorized_user": ("sign-in of a person", "个人登录"),
    "service_account": ("service account", "服务账号"),
    "on": ("on", "启用"),
    "failing": ("failing", "失败中"),
    "paused_manually": ("paused by a person", "人工暂停"),
    "gone": ("gone: it answered 410", "已停用（410）"),
    "delivered": ("delivered", "已送达"),
    "made": ("made", "新建"),
    "changed": ("changed", "修改"),
    "rotated": ("rotated", "轮换"),
    "revoked": ("revoked", "吊销"),
    "resumed": ("resumed", "恢复"),
    "removed": ("removed", "移除"),
    "remove": ("remove", "移除"),
    "add": ("add", "添加"),
    "limits": ("limits", "限额"),
    "units_per_minute": ("units a minute", "每分钟配额单位"),
    "per_minute": ("letters a minute", "每分钟封数"),
    "per_day": ("letters in 24 h", "24 小时封数"),
    "reserve": ("reserve of the day", "每日预留"),
    "min_gap": ("seconds between two", "两封间隔秒数"),
    "warm_up": ("first day's letters", "首日封数"),
    "warm_up_growth": ("more each day", "每日递增"),
}
"""What statuses, actions, causes and limits are called, by their names in tables and settings."""


def in_chinese(code: str) -> str:
    """What a code is called in Chinese; one without a name stays as it is."""
    return LABELS[code][1] if code in LABELS else code


MANUAL: Final = "manual"
"""The cause of a pause that a person ordered. No reply of Google means it, so it is no `PauseCause`."""
BLOCKED: Final = "blocked"
"""The cause of a pause after many letters that receiving servers did not want; their notices say so, later."""
CAUSES: Final = (*(cause.value for cause in PauseCause), MANUAL, BLOCKED, BOUNCES)
"""Every cause that a sender's row may name."""


def until(end: datetime, say: Callable[[datetime], str] = "{:%Y-%m-%d %H:%M:%S} UTC".format) -> str:
    """When a pause ends, in words; `say` shows a moment where this is not the place for all of it."""
    return "until it is resumed" if end == FOREVER else f"until {say(end)}"


def hold_reason(
    *,
    sender: str,
    job_paused: bool,
    due: datetime | None,
    paused_until: datetime | None,
    pause_reason: str | None,
    say: Callable[[datetime], str],
    repair: str | None = None,
    last_error: str | None = None,
    job_reason: str | None = None,
    braked_until: datetime | None = None,
) -> str | None:
    """Why waiting letters are held; None when neither a pause nor their time holds them.

    `due`: when the first of them is due, None when that is past. `paused_until`: the sender's pause, None when it is
    over. Of these two, the one that ends last is the reason. `repair`: what a person has to do before a letter of the
    sender can go. `job_reason`: why the job is paused, where no person did it. `braked_until`: until when it waits,
    since what came back of it is read first. `say` writes a moment.
    """
    reason = f": {pause_reason}" if pause_reason else ""
    if job_paused:
        return f"the job is paused: {job_reason}" if job_reason else "the job is paused"
    if repair:
        return f"{sender} is paused until {repair} (tried each minute{reason})"
    if paused_until and (due is None or paused_until >= due):
        return f"{sender} is paused {until(paused_until, say)}{reason}"
    if braked_until:
        return f"much came back, and is read before more is sent, until {say(braked_until)}"
    if due and last_error:
        return f"put off until {say(due)}, since the last attempt said: {last_error}"
    return f"not due before {say(due)}" if due else None


_LOGIN: Final = "mailerd auth login --sender {sender}"
_REPAIRS: Final[Mapping[str, tuple[str, str]]] = {
    PauseCause.TOKEN_REFUSED: ("the sign-in is renewed", _LOGIN),
    PauseCause.NO_CREDENTIALS: ("there is a credential file that can be used", _LOGIN),
    PauseCause.CLIENT_REFUSED: ("the sign-in names an OAuth client that Google knows", _LOGIN),
    PauseCause.WRONG_MAILBOX: ("the credential file opens {sender}", _LOGIN),
    PauseCause.SCOPE_MISSING: ("the sign-in has the scope, or it is delegated", _LOGIN),
    PauseCause.MAILBOX_REFUSED: ("Gmail is switched on for {sender}", "https://admin.google.com/ac/users"),
}
"""What a person has to do before a letter can be sent, and where; the pause ends each minute, for another try."""
_REASON_WITHOUT_REMEDY: Final = frozenset({PauseCause.TOKEN_REFUSED, PauseCause.SCOPE_MISSING})
"""Causes whose reason is Google's answer alone; the others say themselves which file or which setting to correct."""
_STILL: Final = timedelta(minutes=2)
"""Time after a pause in which the try that follows it may have no answer yet."""


def repair(cause: str | None, end: datetime | None, *, sender: str, now: datetime) -> str | None:
    """What has to happen, by a person, before any letter of the sender can go; None where waiting is enough.

    `cause` and `end` are those of its last pause. An old one proves nothing: it may be mended and nothing sent since.
    """
    return remedy(cause, sender=sender) if end and end > now - _STILL else None


def remedy(cause: str | None, *, sender: str) -> str | None:
    """What has to happen, by a person, to end a pause of this cause; None where waiting is enough."""
    if (known := _REPAIRS.get(cause or "")) is None:
        return None
    what, where = (each.format(sender=sender) for each in known)
    return f"{what}: `{where}`" if where.startswith("mailerd ") else what


def repair_command(cause: str, *, sender: str) -> str:
    """The command, or the page, by which a person ends a pause of this cause."""
    return _REPAIRS.get(cause, ("", _LOGIN))[1].format(sender=sender)


def with_remedy(reason: str, cause: str, *, sender: str) -> str:
    """Why a sender is paused, with what a person has to do, for who hears of it by that sentence alone."""
    mend = remedy(cause, sender=sender) if cause in _REASON_WITHOUT_REMEDY else None
    return f"{reason}; tried each minute until {mend}" if mend else reason
