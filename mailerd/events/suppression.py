"""What is said of suppressions and of the public site of unsubscribe links."""

from mailerd.events.base import EventEmitter, event


class SuppressionEvents(EventEmitter):
    """Who has opted out, and what the public site met."""

    @event("info", en="public site listens on {where}", zh="退订站点已监听：{where}")
    def public_site_listening(self, *, where: str) -> None: ...

    @event(
        "info",
        en="suppression added: {address} gets no letters of {mailing_list} ({reason}, by {source})",
        zh="已加入禁发名单：{address}，范围：{mailing_list}（{reason:label}，来源 {source:label}）",
    )
    def suppression_added(self, *, address: str, mailing_list: str, reason: str, source: str) -> None: ...

    @event(
        "info",
        en="{added:n suppression} added: these addresses get no letters of {mailing_list} ({reason}, by {source})",
        zh="已将 {added} 个邮箱加入禁发名单：不再收到 {mailing_list} 的邮件（{reason:label}，来源 {source:label}）",
    )
    def suppressions_added(self, *, added: int, mailing_list: str, reason: str, source: str) -> None: ...

    @event(
        "info",
        en="suppression removed: {address} gets letters of {mailing_list} again (by {source})",
        zh="已移出禁发名单：{address} 恢复接收 {mailing_list} 的邮件（来源 {source:label}）",
    )
    def suppression_removed(self, *, address: str, mailing_list: str, source: str) -> None: ...

    @event(
        "info",
        en="{added:n suppression} of {mailing_list} added by {actor}",
        zh="{actor} 已添加 {added} 个禁发地址（{mailing_list}）",
    )
    def suppressions_added_by_command(self, *, added: int, mailing_list: str, actor: str) -> None: ...

    @event(
        "info",
        en="suppression of {mailing_list} removed by {actor}",
        zh="{actor} 已移除一个禁发地址（{mailing_list}）",
    )
    def suppression_removed_by_command(self, *, mailing_list: str, actor: str) -> None: ...

    @event(
        "warning",
        en="{method} to the public site could not be served and was answered with 503: {cause}",
        zh="退订站点的 {method} 请求无法处理，已应答 503：{cause}",
    )
    def unsubscribe_unserved(self, *, method: str, cause: str) -> None: ...

    @event(
        "error",
        en="public site met a bug in mailerd and answered 500; please report the stack",
        zh="退订站点触发了 mailerd 的缺陷，已应答 500；请报告堆栈",
    )
    def unsubscribe_failed(self, *, error: BaseException) -> None: ...
