"""How many of what, and causes of pauses in a word: the status line of systemd, the first line of `mailerd top`."""

from typing import Final

TEXTS: Final = {
    "{waiting} waiting": "{waiting:number} 封等待",
    "{sending} sending": "{sending:number} 封发送中",
    "{unsure} unsure": "{unsure:number} 封结果未定",
    "{sent} sent": "{sent:number} 封已发送",
    "{failed} failed": "{failed:number} 封失败",
    "{cancelled} cancelled": "{cancelled:number} 封已取消",
    "{pace} a minute": "每分钟 {pace:number} 封",
    " {sent} in 1 h": " 1 小时 {sent:number} 封",
    "{number} endpoint": "{number:number} 个端点",
    "{number} endpoints": "{number:number} 个端点",
    "{number} event": "{number:number} 个事件",
    "{number} events": "{number:number} 个事件",
    "running": "运行中",
    "away": "不可用",
    "read-only": "只读",
    "daily limit": "每日限额",
    "throttled": "被限流",
    "too many concurrent": "并发请求过多",
    "project limit": "云项目限额",
    "token refused": "登录被拒绝",
    "client refused": "OAuth 客户端被拒绝",
    "no credentials": "没有凭据",
    "wrong mailbox": "邮箱不符",
    "scope missing": "缺少权限范围",
    "mailbox refused": "邮箱被拒绝",
    "google unreachable": "无法连接 Google",
    "manual": "人工",
    "blocked": "被拦截",
}
