"""What the sandbox's pages in a browser say."""

from typing import Final

TEXTS: Final = {
    "mailerd sandbox": "mailerd 沙盒",
    ": nothing leaves this machine": "：一切都留在本机",
    "(no subject)": "（无主题）",
    "from {sender} to {to}": "从 {sender} 到 {to}",
    "The letter's HTML part": "邮件的 HTML 部分",
    "{size} bytes": "{size} 字节",
    "As Gmail does: it posts “List-Unsubscribe=One-Click” itself, without a cookie and without a look at the page.": "如同 Gmail：自行提交“List-Unsubscribe=One-Click”，不带 Cookie，也不查看页面。",
    "Not found": "未找到",
    "No such letter": "没有这封邮件",
    "It was never sent, or the sandbox has been reset or restarted since.": "它从未发送，或沙盒此后已重置或重启。",
    "Search by address": "按地址搜索",
    "{total} sent · {drafts} not sent": "已发送 {total} 封 · {drafts:text}未发送",
    "{found} with “{q}”": "{found} 封含“{q}”",
    "Sent more than once:": "多次发送：",
    "No letter to or from this address.": "没有发往或来自此地址的邮件。",
    "Nothing has been sent yet. Letters appear here as soon as mailerd sends them.": "尚未发送任何邮件。mailerd 发送后，邮件会立即显示在这里。",
    "page {page} of {pages}": "第 {page} 页，共 {pages} 页",
    "as JSON:": "JSON 形式：",
    "Nothing yet.": "暂无内容。",
    "Not unsubscribed": "未退订",
    "a letter of {sender}": "{sender} 的邮件",
    "every one": "全部",
    "no limit": "无限制",
    "units in the last minute": "最近一分钟的配额单位",
    "what goes wrong": "故障",
    "how often": "次数",
    "has struck": "已发生",
}
