"""What Google's answers mean: the causes in the log, in the rows and in the answers of the API."""

from typing import Final

TEXTS: Final = {
    "Google answered {said}": "Google 应答 {said}",
    "no answer from Google: {cause}": "Google 没有应答：{cause:text}",
    "Google answered {status} without what {call} promises: {excerpt}": "Google 应答 {status}，但缺少 {call} 应有的内容：{excerpt}",
    "the draft is gone: it was sent, or somebody deleted it": "草稿已不存在：已经发出，或被人删除",
    "Google refuses this letter ({said}), and takes others from its mailbox": "Google 拒收这封邮件（{said}），但接受同一邮箱的其他邮件",
    "no access token could be had: {cause}": "无法取得访问令牌：{cause:text}",
    "Google cannot be reached: {cause}": "无法连接 Google：{cause:text}",
    "Google's token endpoint cannot serve us now ({said})": "Google 的令牌端点暂时不可用（{said}）",
    "Google no longer honours the sign-in ({said}): run `mailerd auth login`": "Google 不再承认此登录（{said}）：请运行 `mailerd auth login`",
    "Google refused the OAuth client or service account ({said}): see its file": "Google 拒绝了 OAuth 客户端或服务账号（{said}）：请检查其文件",
    "Google refused a fresh token ({said}): `mailerd auth login`": "Google 拒绝了刚取得的令牌（{said}）：请运行 `mailerd auth login`",
    "the letter is too large for Google ({said})": "邮件超过 Google 的大小限制（{said}）",
    "this mailbox cannot send ({said}): is Gmail enabled for it, does the service account have a subject?": "此邮箱无法发送（{said}）：是否已为它启用 Gmail，服务账号是否设置了 subject？",
    "Google rejected the letter ({said})": "Google 拒收这封邮件（{said}）",
    "the Cloud project's own quota is used up ({said})": "云项目自身的配额已用完（{said}）",
    "the sign-in lacks the scope {needed} ({said}): run `mailerd auth login` again, or delegate it": "登录缺少权限范围 {needed}（{said}）：请重新运行 `mailerd auth login`，或在域中委派该权限",
    "Google refuses this mailbox ({said}): ask the domain's administrator to allow Gmail and the app": "Google 拒绝此邮箱（{said}）：请域管理员允许使用 Gmail 和此应用",
}
