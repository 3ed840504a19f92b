"""Who asked for what, and how: the log of actions and the story of a letter that a person has settled."""

from typing import Final

TEXTS: Final = {
    "settled by hand: sent": "人工裁定：已发送",
    "settled by hand: not sent": "人工裁定：未发送",
    "settled by hand: sent, by {actor}": "人工裁定：已发送，操作者 {actor:text}",
    "settled by hand: not sent, by {actor}": "人工裁定：未发送，操作者 {actor:text}",
    "{status}, recipient {recipient}": "{status:text}，收件人编号 {recipient}",
    "key:{name} via console": "密钥 {name}（控制台）",
    "command, {person}": "命令行，{person}",
    "{reason} (key:{name} via console)": "{reason:text}（密钥 {name}，控制台）",
    "soft": "软退信",
    "hard": "硬退信",
    "unknown": "原因不明",
    "failed": "失败",
    "unsure": "存疑",
    "sent": "已发送",
    "waiting": "等待",
}
