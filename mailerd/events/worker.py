"""Events of the runner, the recorder and the recovery, of Gmail and of the renderer."""

from mailerd.events.base import EventEmitter, event

# Events of the Gmail client.


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


# Events of the processes that run clients' templates.


class RendererEvents(EventEmitter):
    """The child processes that render templates: their ends, and that they do not start."""

    @event(
        "warning",
        en="renderer {renderer} ended while it worked for {origin}: {cause}; another is started",
        zh="渲染进程 {renderer} 在为 {origin} 工作时结束：{cause}；将启动新的进程",
    )
    def renderer_ended(self, *, renderer: str, origin: str, cause: str) -> None: ...

    @event(
        "error",
        en="renderer {renderer} was ended {count} times within a minute, lastly while it worked for {origin}: {cause}",
        zh="渲染进程 {renderer} 一分钟内结束了 {count} 次，最近一次在为 {origin} 工作时：{cause}",
    )
    def renderer_ends_often(self, *, renderer: str, origin: str, count: int, cause: str) -> None: ...

    @event(
        "error",
        en="renderer {renderer} does not start, no template can be rendered: {cause}; next try in {again_in:.0f} s",
        zh="渲染进程 {renderer} 无法启动，模板无法渲染：{cause}；{again_in:.0f} 秒后重试",
    )
    def renderer_not_started(self, *, renderer: str, cause: str, again_in: float) -> None: ...

    @event(
        "error",
        en="renderer {renderer} met a bug in mailerd over a template of {origin}; its letters wait. Please report the stack",
        zh="渲染进程 {renderer} 在处理 {origin} 的模板时触发了 mailerd 的缺陷；其邮件等待处理。请报告堆栈",
    )
    def renderer_broke(self, *, renderer: str, origin: str, error: BaseException) -> None: ...


class RunnerEvents(EventEmitter):
    """What happens to a letter, in order."""

    @event(
        "info",
        en="runner started, polling every {poll_interval:g} s, {concurrency} letters at once, daemon {daemon}",
        zh="发送器已启动，每 {poll_interval:g} 秒轮询一次，同时处理 {concurrency} 封，守护进程 {daemon}",
    )
    def runner_started(self, *, poll_interval: float, concurrency: int, daemon: str) -> None: ...

    @event("warning", en="runner is already running in this process", zh="本进程中的发送器已在运行")
    def runner_already_running(self) -> None: ...

    @event(
        "debug",
        en="heartbeat: {polls} polls, {idle} idle since the last letter, {in_flight:n letter} in flight",
        zh="心跳：已轮询 {polls} 次，自上一封邮件以来空闲 {idle} 次，处理中 {in_flight} 封",
    )
    def heartbeat(self, *, polls: int, idle: int, in_flight: int) -> None: ...

    @event(
        "info",
        en="alive: {polls} polls, {sent} sent and {failed} failed by this daemon so far, {in_flight:n letter} in flight",
        zh="运行正常：已轮询 {polls} 次，本守护进程已发送 {sent} 封、失败 {failed} 封，处理中 {in_flight} 封",
    )
    def alive(self, *, polls: int, sent: int, failed: int, in_flight: int) -> None: ...

    @event(
        "info",
        en="job {job} found: type {type}, sender {sender}, {total:n recipient}",
        zh="发现任务 {job}：类型 {type}，发件人 {sender}，共 {total} 位收件人",
    )
    def job_found(
        self,
        *,
        job: str,
        type: str,  # noqa: A002 - the table's word
        sender: str,
        total: int,
        age: float,
    ) -> None: ...

    @event("info", en="claimed {letters:n letter} of {jobs:n job}", zh="已领取 {jobs} 个任务的 {letters} 封邮件")
    def claimed(self, *, letters: int, jobs: int, token: str) -> None: ...

    @event(
        "info",
        en="job {job} [{number}/{total}]: letter to {to} (recipient {recipient}) started, attempt {attempt}",
        zh="任务 {job} [{number}/{total}]：开始发送给 {to}（收件人 {recipient}），第 {attempt} 次尝试",
    )
    def letter_started(
        self, *, job: str, recipient: int, to: str, sender: str, number: int, total: int, attempt: int
    ) -> None: ...

    @event(
        "success",
        en="job {job} [{done}/{total}]: sent to {to} (recipient {recipient}), message_id {message_id}",
        zh="任务 {job} [{done}/{total}]：已发送给 {to}（收件人 {recipient}），message_id {message_id}",
    )
    def letter_sent(
        self, *, job: str, recipient: int, to: str, sender: str, done: int, total: int, message_id: str
    ) -> None: ...

    @event(
        "error",
        en="job {job} [{done}/{total}]: {to} (recipient {recipient}) failed: {cause}",
        zh="任务 {job} [{done}/{total}]：发送给 {to}（收件人 {recipient}）失败：{cause}",
    )
    def letter_failed(
        self, *, job: str, recipient: int, to: str, sender: str, done: int, total: int, cause: str
    ) -> None: ...

    @event(
        "warning",
        en="job {job}: {to} (recipient {recipient}) is tried again in {again_in:span}, attempt {attempt} did not work: {cause}",
        zh="任务 {job}：{to}（收件人 {recipient}）将在 {again_in:span}后重试，第 {attempt} 次尝试未成功：{cause}",
    )
    def letter_deferred(
        self, *, job: str, recipient: int, to: str, sender: str, attempt: int, again_in: float, cause: str
    ) -> None: ...

    @event(
        "info",
        en="job {job}: {to} (recipient {recipient}) waits again, this attempt is not counted: {cause}",
        zh="任务 {job}：{to}（收件人 {recipient}）继续等待，不计入尝试次数：{cause}",
    )
    def letter_released(self, *, job: str, recipient: int, to: str, sender: str, cause: str) -> None: ...

    @event(
        "info",
        en="job {job}: draft {draft} of {to} (recipient {recipient}) deleted, another try makes a new one: {cause}",
        zh="任务 {job}：已删除给 {to}（收件人 {recipient}）的草稿 {draft}，重试时将新建：{cause}",
    )
    def draft_discarded(self, *, job: str, recipient: int, to: str, sender: str, draft: str, cause: str) -> None: ...

    @event(
        "warning",
        en="job {job}: it is not known whether {to} (recipient {recipient}) was sent: {cause}; checked in {look_in:span}",
        zh="任务 {job}：无法确定是否已发送给 {to}（收件人 {recipient}）：{cause}；{look_in:span}后查证",
    )
    def letter_unsure(self, *, job: str, recipient: int, to: str, sender: str, cause: str, look_in: float) -> None: ...

    @event(
        "info",
        en="job {job}: {to} (recipient {recipient}) was unsure and was found: it is sent ({proof})",
        zh="任务 {job}：已查证存疑的 {to}（收件人 {recipient}）：已发送（{proof}）",
    )
    def letter_found(self, *, job: str, recipient: int, to: str, sender: str, proof: str) -> None: ...

    @event(
        "info",
        en="job {job}: {to} (recipient {recipient}) came back unsent and is cancelled with its job: {cause}",
        zh="任务 {job}：{to}（收件人 {recipient}）未发送即退回，已随任务取消：{cause}",
    )
    def letter_cancelled(self, *, job: str, recipient: int, to: str, sender: str, cause: str) -> None: ...

    @event(
        "info",
        en="job {job}: {to} (recipient {recipient}) is cancelled before it is sent: {cause}",
        zh="任务 {job}：{to}（收件人 {recipient}）在发送前取消：{cause}",
    )
    def letter_suppressed(self, *, job: str, recipient: int, to: str, sender: str, cause: str) -> None: ...

    @event(
        "warning",
        en="job {job}: {to} (recipient {recipient}): this daemon's claim had ended, {change} is kept in the table attempts alone",
        zh="任务 {job}：{to}（收件人 {recipient}）：本守护进程的领取已失效，{change} 仅保留在表 attempts 中",
    )
    def letter_claim_lost(self, *, job: str, recipient: int, to: str, change: str) -> None: ...

    @event(
        "warning",
        en="job {job}: {to} (recipient {recipient}): this daemon's claim had ended, the next request to Google is not made",
        zh="任务 {job}：{to}（收件人 {recipient}）：本守护进程的领取已失效，不再向 Google 发出下一个请求",
    )
    def letter_handover_lost(self, *, job: str, recipient: int, to: str) -> None: ...

    @event(
        "critical",
        en="job {job}: {to} (recipient {recipient}): an unforeseen error, {then}; please report the stack: {error!r}",
        zh="任务 {job}：{to}（收件人 {recipient}）：发生意外错误，{then}；请报告堆栈信息：{error!r}",
    )
    def letter_broke(self, *, job: str, recipient: int, to: str, then: str, error: BaseException) -> None: ...

    @event(
        "success",
        en="job {job} finished in {seconds:.1f} s: {sent} sent, {failed} failed, {cancelled} cancelled",
        zh="任务 {job} 已完成，用时 {seconds:.1f} 秒：成功 {sent}，失败 {failed}，取消 {cancelled}",
    )
    def job_finished(self, *, job: str, sent: int, failed: int, cancelled: int, seconds: float) -> None: ...

    @event(
        "error",
        by="cause",
        en="sender {sender} is paused for {seconds:span} ({cause}): {reason}",
        zh="发件人 {sender} 暂停 {seconds:span}（{cause:label}）：{reason}",
    )
    def sender_paused(self, *, sender: str, seconds: float, cause: str, reason: str) -> None: ...

    @event(
        "critical",
        en="quota of the Cloud project is used up: {sender} and every other sender of the project are paused for "
        "{seconds:span} ({cause}): {reason}. Please look into its quotas in the Cloud console, or run `mailerd senders resume` to try sooner",
        zh="云项目配额已用尽：{sender} 及该项目的所有其他发件人暂停 {seconds:span}（{cause:label}）：{reason}。"
        "请在云控制台查看配额；`mailerd senders resume` 可提前重试",
    )
    def project_paused(self, *, sender: str, seconds: float, cause: str, reason: str) -> None: ...

    @event(
        "info",
        en="sender {sender} sends again, {seconds:span} after it was paused ({cause})",
        zh="发件人 {sender} 恢复发送，共暂停 {seconds:span}（{cause:label}）",
    )
    def sender_resumed(self, *, sender: str, seconds: float, cause: str) -> None: ...

    @event(
        "error",
        en="Google is out of reach, nothing is claimed for {seconds:span}: {cause}",
        zh="无法连接 Google，{seconds:span}内不领取邮件：{cause}",
    )
    def google_unreachable(self, *, seconds: float, cause: str) -> None: ...

    @event(
        "warning",
        en="Google is still out of reach, for {seconds:span} now: {cause}",
        zh="仍无法连接 Google，已持续 {seconds:span}：{cause}",
    )
    def google_still_away(self, *, seconds: float, cause: str) -> None: ...

    @event("info", en="Google is back after {seconds:.1f} s", zh="已恢复与 Google 的连接，历时 {seconds:.1f} 秒")
    def google_back(self, *, seconds: float) -> None: ...

    @event(
        "warning",
        en="recipient {recipient} of job {job} ({to}) was in flight when {after} daemons crashed: it is now tried alone",
        zh="任务 {job} 的收件人 {recipient}（{to}）在 {after} 次守护进程崩溃时都在处理中：现在单独重试",
    )
    def letter_tried_alone(self, *, job: str, recipient: int, to: str, after: int) -> None: ...

    @event(
        "warning",
        en="sender {sender} has no access token: its letters wait {seconds:span}, those of others go on: {cause}",
        zh="发件人 {sender} 无法取得访问令牌：其邮件暂停 {seconds:span}，其他发件人不受影响：{cause}",
    )
    def sender_out_of_reach(self, *, sender: str, seconds: float, cause: str) -> None: ...

    @event(
        "info",
        en="sender {sender} has an access token again, after {seconds:.1f} s",
        zh="发件人 {sender} 已重新取得访问令牌，历时 {seconds:.1f} 秒",
    )
    def sender_in_reach(self, *, sender: str, seconds: float) -> None: ...

    @event(
        "warning",
        en="leases could not be renewed: {cause}; no letter is handed to Google whose lease could end before its answer",
        zh="租约无法续期：{cause}；租约可能先于应答到期的邮件不会交给 Google",
    )
    def leases_not_renewed(self, *, letters: int, cause: str) -> None: ...

    @event(
        "info",
        en="draining: nothing more is claimed, {in_flight:n letter} in flight get {timeout:g} s",
        zh="正在收尾：不再领取邮件，处理中的 {in_flight} 封最多等待 {timeout:g} 秒",
    )
    def draining(self, *, in_flight: int, timeout: float) -> None: ...

    @event(
        "warning",
        en="drained only in part: {in_flight:n letter} cut off after {timeout:g} s; the recovery finds out what became of them",
        zh="收尾未完成：{timeout:g} 秒后中断了 {in_flight} 封邮件，将由恢复流程查证",
    )
    def drain_cut_off(self, *, in_flight: int, timeout: float) -> None: ...

    @event(
        "warning",
        en="jobs whose last letters went out during the stop could not be completed: {cause}; the daemon that runs next does it",
        zh="停止期间发完的任务未能结束：{cause}；由之后运行的守护进程完成",
    )
    def jobs_left_open(self, *, cause: str) -> None: ...

    @event(
        "info",
        en="stopped: {sent} sent, {failed} failed by this daemon",
        zh="已停止：本守护进程共发送 {sent} 封，失败 {failed} 封",
    )
    def stopped(self, *, sent: int, failed: int) -> None: ...

    @event(
        "warning",
        en="{what} did not work and is tried again in {again_in:g} s: {error}",
        zh="{what} 未成功，{again_in:g} 秒后重试：{error}",
    )
    def step_failed(self, *, what: str, again_in: float, error: BaseException) -> None: ...


class RecoveryEvents(EventEmitter):
    """What the recovery found and corrected."""

    @event(
        "warning",
        en="job {job}: the lease on {to} (recipient {recipient}) ran out at daemon {owner}, attempt {attempt}: {then}",
        zh="任务 {job}：{to}（收件人 {recipient}）在守护进程 {owner} 上的租约已到期，第 {attempt} 次尝试：{then}",
    )
    def lease_lapsed(
        self, *, job: str, recipient: int, to: str, sender: str, attempt: int, owner: str, then: str
    ) -> None: ...

    @event(
        "info",
        en="job {job}: {to} (recipient {recipient}) was checked: Google does not have it, it waits for its next attempt",
        zh="任务 {job}：已查证 {to}（收件人 {recipient}）：Google 并未收到，等待下一次尝试",
    )
    def letter_missing(self, *, job: str, recipient: int, to: str, sender: str) -> None: ...

    @event(
        "warning",
        en="job {job}: {to} (recipient {recipient}) is still unsure after check {checks}: {cause}; next check in {again_in:span}",
        zh="任务 {job}：第 {checks} 次查证后仍无法确定 {to}（收件人 {recipient}）：{cause}；{again_in:span}后再查",
    )
    def letter_still_unsure(
        self, *, job: str, recipient: int, to: str, sender: str, checks: int, cause: str, again_in: float
    ) -> None: ...

    @event(
        "critical",
        en="job {job}: it cannot be determined whether {to} (recipient {recipient}) was sent: look into the mailbox {sender} and run "
        "`mailerd settle {recipient} --sent` or `--not-sent`",
        zh="任务 {job}：无法判定 {to}（收件人 {recipient}）是否已发送：请查看邮箱 {sender}，并运行 "
        "`mailerd settle {recipient} --sent` 或 `--not-sent`",
    )
    def letter_needs_a_person(self, *, job: str, recipient: int, to: str, sender: str) -> None: ...

    @event(
        "warning",
        en="job {job}: {to} (recipient {recipient}) was recorded as sent because its draft was gone, but draft {draft} of {sender} "
        "is there: it was not sent; {then}",
        zh="任务 {job}：{to}（收件人 {recipient}）曾因草稿不在而视为已发送，但 {sender} 的草稿 {draft} 仍在：并未发送；{then}",
    )
    def letter_undone(self, *, job: str, recipient: int, to: str, sender: str, draft: str, then: str) -> None: ...

    @event(
        "warning",
        en="job {job} was stuck: letters of it waited, and no claim would have taken them; it can be claimed again",
        zh="任务 {job} 未被调度（异常）：其中有邮件等待发送；已重新加入队列",
    )
    def job_stuck(self, *, job: str) -> None: ...

    @event(
        "info",
        en="orphan draft {draft} of {sender} deleted (its letter {key} has another draft or is settled)",
        zh="已删除 {sender} 的孤立草稿 {draft}（邮件 {key} 已另有草稿或已结束）",
    )
    def orphan_deleted(self, *, sender: str, draft: str, key: str) -> None: ...

    @event(
        "warning",
        en="orphan drafts of {sender} could not be looked for: {cause}",
        zh="无法查找 {sender} 的孤立草稿：{cause}",
    )
    def orphans_not_searched(self, *, sender: str, cause: str) -> None: ...
