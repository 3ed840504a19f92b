"""Events of the HTTP API, the console and the unsubscribe pages."""

from mailerd.events.base import EventEmitter, event

# What is said of suppressions and of the public site of unsubscribe links.


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


# What is said of the console: who signs in, and what is changed there that no other event tells.


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


class IntakeEvents(EventEmitter):
    """Requests, what was accepted of them, and what could not be answered."""

    @event("info", en="intake listens on {where}", zh="正在监听 {where}")
    def intake_listening(self, *, where: str) -> None: ...

    @event("info", en="intake has stopped; open requests were answered", zh="接收端口已停止；未完成的请求均已应答")
    def intake_stopped(self) -> None: ...

    @event(
        "info",
        en="job {job} accepted: {accepted} of {total:n letter} from {sender}, due {due}, in {ms:.0f} ms",
        zh="已接收任务 {job}：{sender} 的 {total} 封邮件中接受 {accepted} 封，发送时间 {due}，用时 {ms:.0f} 毫秒",
    )
    def job_accepted(
        self, *, job: str, sender: str, total: int, accepted: int, due: str, ms: float, key: str, request: str
    ) -> None: ...

    @event(
        "info",
        en="key {key} overrides suppressions in job {job}: it goes also to {overridden:n recipient} who opted out",
        zh="密钥 {key} 在任务 {job} 中越过禁发名单：也发送给 {overridden} 个已退订的收件人",
    )
    def suppressions_overridden(self, *, job: str, overridden: int, key: str, request: str) -> None: ...

    @event(
        "info",
        en="request {request} refused with {status} {code}: {reason}",
        zh="请求 {request} 被拒绝，状态 {status} {code}：{reason}",
    )
    def request_refused(self, *, request: str, status: int, code: str, reason: str) -> None: ...

    @event(
        "warning",
        en="request {request} could not be served: {cause}",
        zh="请求 {request} 无法处理：{cause}",
    )
    def request_unserved(self, *, request: str, cause: str) -> None: ...

    @event(
        "error",
        en="job {job} may or may not be stored: COMMIT was sent, no answer came, and looking for the job failed too: {cause}",
        zh="任务 {job} 是否已存储不确定：COMMIT 已发出但无应答，回查也失败：{cause}",
    )
    def job_in_doubt(self, *, job: str, cause: str) -> None: ...

    @event(
        "error",
        en="request {request} ({method} {path}) met a bug in mailerd and was answered with 500; please report the stack",
        zh="请求 {request}（{method} {path}）触发了 mailerd 的缺陷，已应答 500；请报告堆栈",
    )
    def request_failed(self, *, request: str, method: str, path: str, error: BaseException) -> None: ...

    @event(
        "info",
        en="{method} {path}: {status} in {ms:.1f} ms, {size} bytes, for {caller} at {address} (request {request})",
        zh="{method} {path}：{status}，用时 {ms:.1f} 毫秒，{size} 字节，调用者 {caller}，来自 {address}（请求 {request}）",
    )
    def request_answered(
        self, *, method: str, path: str, status: int, ms: float, size: int, caller: str, address: str, request: str
    ) -> None: ...

    @event(
        "debug",
        en="{method} {path}: {status} in {ms:.1f} ms (request {request})",
        zh="{method} {path}：{status}，用时 {ms:.1f} 毫秒（请求 {request}）",
    )
    def probe_answered(self, *, method: str, path: str, status: int, ms: float, request: str) -> None: ...

    @event(
        "debug",
        en="{method} {path}: {status} in {ms:.1f} ms, without a key, from {address}, one of many (request {request})",
        zh="{method} {path}：{status}，用时 {ms:.1f} 毫秒，调用者不明，来自 {address}，众多请求之一（请求 {request}）",
    )
    def stranger_answered(
        self, *, method: str, path: str, status: int, ms: float, address: str, request: str
    ) -> None: ...

    @event(
        "warning",
        en="{count:n request} without a good API key, from {addresses:n address}, not logged one by one: {most} of them from {address}",
        zh="来自 {addresses} 个地址的 {count} 个无有效 API 密钥的请求未逐条记录：其中 {most} 个来自 {address}",
    )
    def requests_not_logged(self, *, count: int, addresses: int, address: str, most: int) -> None: ...

    @event(
        "warning",
        en="key refused: {address} showed no good API key for {method} {path}",
        zh="{address} 未出示有效的 API 密钥：{method} {path}",
    )
    def key_refused(self, *, address: str, method: str, path: str) -> None: ...

    @event(
        "info",
        en="{actor} asked to {action} job {job}: {letters:n letter} changed, the job is {status}",
        zh="{actor} 请求对任务 {job} 执行 {action:label}：变更 {letters} 封邮件，任务状态 {status:label}",
    )
    def job_asked(self, *, job: str, action: str, actor: str, letters: int, status: str) -> None: ...

    @event(
        "info",
        en="idempotency key of {key} met again: answered with job {job}, nothing new is stored",
        zh="{key} 的幂等键重复：以任务 {job} 作答，未存储新任务",
    )
    def job_repeated(self, *, job: str, key: str, request: str) -> None: ...

    @event(
        "info",
        en="request from {address} is no HTTP and was answered with 400: {reason}",
        zh="{address} 发来的不是 HTTP，已应答 400：{reason}",
    )
    def request_malformed(self, *, address: str, reason: str) -> None: ...

    @event(
        "error",
        en="connection met a bug and was closed: {what}; please report the stack",
        zh="一个连接触发缺陷，已关闭：{what}；请报告堆栈",
    )
    def connection_failed(self, *, what: str, error: BaseException) -> None: ...

    @event(
        "warning",
        en="connection from {address} was closed: {reason}",
        zh="来自 {address} 的连接已关闭：{reason}",
    )
    def connection_too_slow(self, *, address: str, reason: str) -> None: ...

    @event(
        "warning",
        en="job {job} has no forecast: {cause}; the answer was given without it",
        zh="无法预测任务 {job}：{cause}；应答不含预测",
    )
    def forecast_failed(self, *, job: str, cause: str) -> None: ...

    @event(
        "error",
        en="the forecast of job {job} met a bug in mailerd; the answer was given without it; please report the stack",
        zh="任务 {job} 的预测触发了 mailerd 的缺陷；应答不含预测；请报告堆栈",
    )
    def forecast_broke(self, *, job: str, error: BaseException) -> None: ...

    @event(
        "warning",
        en="last_used_at of {keys} API key(s) was not written: {cause}",
        zh="{keys} 个 API 密钥的 last_used_at 未写入：{cause}",
    )
    def key_use_unwritten(self, *, keys: int, cause: str) -> None: ...
