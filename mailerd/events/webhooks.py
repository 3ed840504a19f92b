"""What is said of webhooks."""

from mailerd.events.base import EventEmitter, event


class WebhookEvents(EventEmitter):
    """Deliveries of events to the endpoints of applications."""

    @event(
        "debug",
        en="event {uid} ({event_type}) delivered to webhook {webhook} in {ms} ms, attempt {number}",
        zh="事件 {uid}（{event_type}）已送达 webhook {webhook}，用时 {ms} 毫秒，第 {number} 次尝试",
    )
    def webhook_delivered(self, *, webhook: str, uid: str, event_type: str, number: int, ms: int) -> None: ...

    @event(
        "debug",
        en="event {uid} ({event_type}) not delivered to webhook {webhook}, attempt {number}: {cause}; again in {again_in:span}",
        zh="事件 {uid}（{event_type}）未送达 webhook {webhook}，第 {number} 次尝试：{cause}；{again_in:span}后重试",
    )
    def webhook_attempt_failed(
        self, *, webhook: str, uid: str, event_type: str, number: int, cause: str, again_in: float
    ) -> None: ...

    @event(
        "warning",
        en="webhook {webhook} fails: {failures} attempts in a row, the last one: {cause} ({url}). Its events are kept, and one "
        "attempt at a time looks whether it is back",
        zh="webhook {webhook} 连续 {failures} 次投递失败，最近一次：{cause}（{url}）。事件会保留，并逐次试探其是否恢复",
    )
    def webhook_failing(self, *, webhook: str, url: str, failures: int, cause: str) -> None: ...

    @event(
        "info",
        en="webhook {webhook} takes events again after {seconds:span}",
        zh="webhook {webhook} 在 {seconds:span} 后恢复接收事件",
    )
    def webhook_recovered(self, *, webhook: str, seconds: float) -> None: ...

    @event(
        "error",
        en="webhook {webhook} is paused: it has failed for {seconds:span}, the last time: {cause} ({url}). Mend it, then: mailerd "
        "webhooks resume {webhook}",
        zh="webhook {webhook} 已暂停：已持续失败 {seconds:span}，最近一次：{cause}（{url}）。修复后执行：mailerd webhooks resume {webhook}",
    )
    def webhook_paused(self, *, webhook: str, url: str, seconds: float, cause: str) -> None: ...

    @event(
        "warning",
        en="webhook {webhook} answered 410 and gets nothing more ({url}); remove it, or resume it if that was a mistake",
        zh="webhook {webhook} 返回 410，不再向其投递（{url}）；请将其删除，若是误答则恢复",
    )
    def webhook_gone(self, *, webhook: str, url: str) -> None: ...

    @event(
        "warning",
        en="event {uid} ({event_type}) was given up for webhook {webhook} after {number} attempts: {cause}. The endpoint took other events "
        "meanwhile; mailerd webhooks replay {webhook} --failed delivers it once more",
        zh="事件 {uid}（{event_type}）在 {number} 次尝试后放弃投递到 webhook {webhook}：{cause}。该端点同期接收了其他事件；mailerd webhooks "
        "replay {webhook} --failed 可再次投递",
    )
    def webhook_event_given_up(self, *, webhook: str, uid: str, event_type: str, number: int, cause: str) -> None: ...

    @event(
        "warning",
        en="{events} events that webhook {webhook} has not got were deleted with all events older than {days} days; the endpoint is "
        "paused",
        zh="webhook {webhook} 尚未收到的 {events} 个事件已随超过 {days} 天的事件一并删除；该端点处于暂停状态",
    )
    def webhook_events_expired(self, *, webhook: str, events: int, days: int) -> None: ...

    @event(
        "warning",
        en="{what} failed, again in {again_in:g} s: {cause}",
        zh="{what} 失败，{again_in:g} 秒后重试：{cause}",
    )
    def webhook_step_failed(self, *, what: str, again_in: float, cause: str) -> None: ...

    @event(
        "error",
        en="delivering event {uid} to webhook {webhook} met a bug in mailerd; it is tried again. Please report the stack",
        zh="向 webhook {webhook} 投递事件 {uid} 时触发了 mailerd 的缺陷；会重试。请报告堆栈",
    )
    def webhook_broke(self, *, webhook: str, uid: str, error: BaseException) -> None: ...
