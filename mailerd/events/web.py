"""What is said of the console: who signs in, and what is changed there that no other event tells."""

from mailerd.events.base import EventEmitter, event


class WebEvents(EventEmitter):
    """Sessions, and changes that people make in the console."""

    @event(
        "info",
        en="console: {key} has signed in from {address} by {way}",
        zh="{key} 已从 {address} 登录控制台，方式：{way}",
    )
    def console_signed_in(self, *, key: str, address: str, way: str) -> None: ...

    @event(
        "info",
        en="console: {actor} has changed {what}: {change}",
        zh="{actor} 已更改 {what}：{change:label}",
    )
    def console_changed(self, *, actor: str, what: str, change: str) -> None: ...

    @event(
        "info",
        en="console refused a request from {address}: {reason}",
        zh="控制台请求被拒绝：{reason}，来自 {address}",
    )
    def console_refused(self, *, reason: str, address: str) -> None: ...

    @event(
        "info",
        en="{actor} asked to {action} job {job}: {letters:n letter} changed, the job is {status}",
        zh="{actor} 请求对任务 {job} 执行 {action:label}：变更 {letters} 封邮件，任务状态 {status:label}",
    )
    def console_job_asked(self, *, job: str, action: str, actor: str, letters: int, status: str) -> None: ...
