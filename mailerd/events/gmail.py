"""Events of the Gmail client."""

from mailerd.events.base import EventEmitter, event


class GmailEvents(EventEmitter):
    """Sign-ins, tokens, credential files and failed calls; never a secret."""

    @event(
        "info",
        en="{sender} is signed in at Google: {mode} mode, scopes: {scopes}",
        zh="{sender} 已登录 Google，方式：{mode:label}，权限范围：{scopes}",
    )
    def sender_authenticated(self, *, sender: str, mode: str, scopes: str) -> None: ...

    @event(
        "error",
        en="{sender}: {file} opens the mailbox {address}, not the sender's own: nothing is sent with it, and its letters wait. "
        "Put the right file there (`mailerd auth login --sender {sender}`), or name an alias in gmail.aliases",
        zh="{sender}：{file} 打开的是另一个邮箱 {address}：不会用它发送任何邮件，邮件等待中。"
        "请放入正确的文件（`mailerd auth login --sender {sender}`），或在 gmail.aliases 中声明别名",
    )
    def mailbox_wrong(self, *, sender: str, address: str, file: str) -> None: ...

    @event(
        "info",
        en="{sender}: whose mailbox the sign-in opens cannot be checked with the scope gmail.send alone; gmail.compose can",
        zh="{sender}：仅有 gmail.send 权限时，无法核实授权对应哪个邮箱；gmail.compose 可以",
    )
    def mailbox_unverified(self, *, sender: str) -> None: ...

    @event(
        "debug",
        en="{sender}: new access token after {seconds:.3f} s, good for {good_for:.0f} s",
        zh="{sender}：{seconds:.3f} 秒后取得新的访问令牌，有效期 {good_for:.0f} 秒",
    )
    def token_refreshed(self, *, sender: str, seconds: float, good_for: float) -> None: ...

    @event(
        "info",
        en="{sender}: the credential file has changed ({file}); the next call signs in anew",
        zh="{sender}：凭据文件已变化（{file}）；下一次调用将重新登录",
    )
    def credentials_changed(self, *, sender: str, file: str) -> None: ...

    @event(
        "debug",
        en="{sender}: {call} succeeded after {seconds:.3f} s",
        zh="{sender}：{call} 在 {seconds:.3f} 秒后成功",
    )
    def google_call_succeeded(self, *, sender: str, call: str, seconds: float) -> None: ...

    @event(
        "debug",
        en="{sender}: {call} failed after {seconds:.3f} s: {outcome}: {excerpt}",
        zh="{sender}：{call} 在 {seconds:.3f} 秒后失败：{outcome}：{excerpt}",
    )
    def google_call_failed(self, *, sender: str, call: str, outcome: str, excerpt: str, seconds: float) -> None: ...

    @event(
        "error",
        en="{sender}: {call} ended in an unforeseen exception ({error!r}); this is a bug in mailerd or in a "
        "library. The letter is treated as the last certain fact allows: {outcome}",
        zh="{sender}：{call} 以意料之外的异常结束（{error!r}）；这是 mailerd 或某个库的缺陷。邮件按最后可确定的事实处理：{outcome}",
    )
    def google_call_crashed(self, *, sender: str, call: str, outcome: str, error: BaseException) -> None: ...
