"""What to do about a sender's pause, by its cause: each has a MESSAGE_ID of its own, so `journalctl -x` names that one."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import LikelyCause, Runbook

_LOGIN: Final = "mailerd auth login --sender @MAILERD_SENDER@"
_CHECK: Final = LikelyCause("which part of it is wrong", "具体哪一部分有误", "mailerd check --sender @MAILERD_SENDER@")
_WAITS: Final = "The letters of this mailbox wait, with their attempts intact; other mailboxes go on. "
_WAITS_ZH: Final = "该邮箱的邮件等待，尝试次数不变；其他邮箱不受影响。"
_BY_ITSELF: Final = "It goes on by itself when the pause is over."
_BY_ITSELF_ZH: Final = "暂停结束后自动恢复。"
_MENDED: Final = "One letter is tried every minute, so what is mended goes on by itself."
_MENDED_ZH: Final = "每分钟试发一封，修复后自动恢复。"

PAUSE_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "throttled": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "other programs send from this mailbox as well, or pace.units_per_minute is above what Google allows",
                "另有程序使用该邮箱发送，或 pace.units_per_minute 高于 Google 的上限",
                "mailerd senders set @MAILERD_SENDER@ --per-minute 40",
            ),
        ),
    ),
    "daily_limit": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "Google's daily limit for this mailbox is reached: 2,000 letters for Workspace, 500 for gmail.com, those "
                "that its owner sends included",
                "该邮箱已达 Google 每日上限：Workspace 2,000 封，gmail.com 500 封，含本人手工发送的邮件",
                "mailerd senders set @MAILERD_SENDER@ --per-day 1500",
            ),
        ),
    ),
    "too_many_concurrent": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "other programs call Gmail for this mailbox at the same time; mailerd itself has lowered its own number",
                "另有程序同时调用该邮箱的 Gmail 接口；mailerd 已自行降低并发",
                "mailerd senders list",
            ),
        ),
    ),
    "token_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause("the sign-in was revoked, or the password was changed", "授权已被撤销或密码已更改", _LOGIN),
            LikelyCause(
                'the OAuth app is in "Testing", where a sign-in ends after 7 days: publish it, then sign in again',
                "OAuth 应用处于“测试”状态，登录 7 天后失效：请发布应用，再重新登录",
                "https://console.cloud.google.com/auth/audience",
            ),
            LikelyCause(
                "a service account has no delegation for this domain any more",
                "服务账号已不再拥有该域的全网域授权",
                "https://admin.google.com/ac/owl/domainwidedelegation",
            ),
        ),
    ),
    "client_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the OAuth client that the credential file names was deleted, or its secret was changed",
                "凭据文件所指的 OAuth 客户端已被删除，或其密钥已更改",
                "https://console.cloud.google.com/auth/clients",
            ),
            LikelyCause(
                "then sign in with the new client", "然后用新的客户端重新登录", f"{_LOGIN} --client client.json"
            ),
        ),
    ),
    "no_credentials": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the credential file is missing, broken, or others can read it (the message says which)",
                "凭据文件缺失、损坏，或他人可读（消息中有说明）",
                "ls -l /etc/mailerd/credentials",
            ),
            LikelyCause("this mailbox was never signed in", "该邮箱从未登录", _LOGIN),
        ),
    ),
    "wrong_mailbox": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the credential file opens another mailbox than its name says: the sign-in was done with another account",
                "凭据文件打开的不是其文件名所指的邮箱：登录时使用了另一个账号",
                _LOGIN,
            ),
        ),
    ),
    "scope_missing": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause("the sign-in lacks a scope that sending needs", "授权缺少发送所需的权限范围", _LOGIN),
            LikelyCause(
                "a service account's delegation lacks it",
                "服务账号的全网域授权缺少该权限范围",
                "https://admin.google.com/ac/owl/domainwidedelegation",
            ),
        ),
    ),
    "mailbox_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "Gmail is off for this account, or the account is suspended",
                "该账号未启用 Gmail，或已被停用",
                "https://admin.google.com/ac/users",
            ),
            _CHECK,
        ),
    ),
}
"""The runbooks of `sender_paused`, by its field `cause`."""

FULL_DAY: Final = Runbook(
    "The letters of this mailbox wait, with their attempts intact; they go as the letters of yesterday leave the count of "
    "24 hours.",
    "该邮箱的邮件等待，尝试次数不变；随着昨天的邮件退出 24 小时计数，邮件会继续发送。",
    (
        LikelyCause(
            "its limit is lower than Google's: 2,000 letters for Workspace, 500 for gmail.com, those that its owner sends "
            "included",
            "其限额低于 Google 的上限：Workspace 2,000 封，gmail.com 500 封，含本人手工发送的邮件",
            "mailerd senders set @MAILERD_SENDER@ --per-day 2000",
        ),
        LikelyCause("there is more to send than one mailbox may", "邮件多于单个邮箱的允许量", "mailerd senders list"),
    ),
)
"""The runbook of a mailbox that a limit of the operator's holds: that is no pause, and has no event."""
