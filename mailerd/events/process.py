"""Events of the process as a whole, and of its database."""

from mailerd.events.base import EventEmitter, event

# Events of the database.


class StoreEvents(EventEmitter):
    """Connections, attempts, absence and return of the database."""

    @event(
        "warning",
        en="database {where}: attempt {attempt}/{attempts}: {cause}, again in {again_in:g} s",
        zh="数据库 {where}：第 {attempt}/{attempts} 次尝试：{cause}，{again_in:g} 秒后重试",
    )
    def database_attempt_failed(
        self, *, where: str, attempt: int, attempts: int, cause: str, again_in: float
    ) -> None: ...

    @event(
        "error",
        en="database {where}: attempt {attempts}/{attempts}: {cause}; giving up for now: {remedy}",
        zh="数据库 {where}：第 {attempts}/{attempts} 次尝试：{cause}；暂时放弃：{remedy}",
    )
    def database_unreachable(
        self, *, where: str, attempts: int, cause: str, remedy: str, error: BaseException
    ) -> None: ...

    @event(
        "info",
        en="database {where}: connected ({version})",
        zh="数据库 {where}：已连接（{version}）",
    )
    def database_connected(self, *, where: str, version: str) -> None: ...

    @event(
        "error",
        en="database {where} is away: {cause}; nothing is claimed until it is back",
        zh="数据库 {where} 不可用：{cause}；恢复之前不会领取任何邮件",
    )
    def database_away(self, *, where: str, cause: str) -> None: ...

    @event(
        "warning",
        en="database {where} is still away, for {seconds:.0f} s now: {cause}",
        zh="数据库 {where} 仍不可用，已持续 {seconds:.0f} 秒：{cause}",
    )
    def database_still_away(self, *, where: str, seconds: float, cause: str) -> None: ...

    @event(
        "warning",
        en="database {where}: a connection was cut ({cause}); a new one works, and goes on",
        zh="与数据库 {where} 的一个连接被切断（{cause}）；新连接可用，继续工作",
    )
    def connection_cut(self, *, where: str, cause: str) -> None: ...

    @event(
        "warning",
        en="database is another server now, or was started anew ({where}): {letters} letters that were sent in the last "
        "minute or are in flight were written to it again, and {forgotten} of them were missing there",
        zh="数据库已是另一台服务器，或已重新启动（{where}）：最近一分钟内已发送或处理中的 {letters} 封邮件已重新写入，其中 {forgotten} 封在其中缺失",
    )
    def database_told_again(self, *, where: str, letters: int, forgotten: int) -> None: ...

    @event(
        "warning",
        en="database: writes go to {where} now; they went to {before} ({cause})",
        zh="数据库的写入节点现为 {where}；此前是 {before}（{cause}）",
    )
    def writer_changed(self, *, where: str, before: str, cause: str) -> None: ...

    @event(
        "info",
        en="database {where} is back after {seconds:.1f} s",
        zh="数据库 {where} 已恢复，历时 {seconds:.1f} 秒",
    )
    def database_back(self, *, where: str, seconds: float) -> None: ...

    @event(
        "warning",
        en="database {where}: its clock went back by {seconds:.0f} s; the turns of all senders begin anew. Letters that waited for "
        "a later try, and pauses, last longer by that",
        zh="数据库 {where} 的时钟倒退了 {seconds:.0f} 秒；所有发件人的轮次重新开始。等待重试的邮件和暂停会相应延长",
    )
    def database_clock_back(self, *, where: str, seconds: float) -> None: ...

    @event(
        "warning",
        en="{what} is tried again in {again_in:.2f} s: {cause}",
        zh="{what} 将在 {again_in:.2f} 秒后重试：{cause}",
    )
    def transaction_repeated(self, *, what: str, again_in: float, cause: str) -> None: ...

    @event(
        "critical",
        en="database {where} full at {what}: nothing can be stored; free disk space on its server: {cause}",
        zh="数据库 {where} 已满（操作：{what}），无法存储：请在其服务器上释放磁盘空间：{cause}",
    )
    def database_full(self, *, where: str, what: str, cause: str) -> None: ...

    @event(
        "warning",
        en="connection {thread} was cut off and could not be killed: {cause}; its locks last until the server notices",
        zh="连接 {thread} 已断开但无法终止：{cause}；服务器检测到断开之前，其锁不会释放",
    )
    def kill_failed(self, *, thread: int, cause: str) -> None: ...

    @event("info", en="migration {number} applied: {name}", zh="已应用迁移 {number}：{name}")
    def migration_applied(self, *, number: int, name: str) -> None: ...

    @event("info", en="schema is up to date, at migration {number}", zh="数据库结构已是最新：{number}")
    def schema_current(self, *, number: int) -> None: ...


class ProcessEvents(EventEmitter):
    """The process: its start and end, its settings, its own log, and loops that make no progress."""

    @event("critical", en="mailerd cannot run: {cause} ({file})", zh="mailerd 无法运行：{cause}（{file}）")
    def process_refused(self, *, cause: str, file: str) -> None: ...

    @event(
        "critical",
        en="mailerd ends: a part met an unforeseen error; the stack says where. Please report it",
        zh="mailerd 退出：某个部分遇到意外错误；堆栈信息指明位置。请报告此问题",
    )
    def process_died(self, *, error: BaseException) -> None: ...

    @event(
        "info",
        en="settings are also taken from {file}: {names}",
        zh="还从 {file} 读取了设置：{names}",
    )
    def dotenv_used(self, *, file: str, names: str) -> None: ...

    @event(
        "info",
        en="settings read again from {file}: {what}",
        zh="已重新读取设置 {file}：{what}",
    )
    def settings_reloaded(self, *, file: str, what: str) -> None: ...

    @event(
        "error",
        en="settings not read again, the old ones stay in force: {cause}",
        zh="未能重新读取设置，原设置继续有效：{cause}",
    )
    def settings_refused(self, *, cause: str) -> None: ...

    @event(
        "error",
        en="settings not read again: that met a bug in mailerd, which goes on; please report the stack",
        zh="重新读取设置时触发了 mailerd 的缺陷，服务继续运行；请报告堆栈",
    )
    def reload_failed(self, *, error: BaseException) -> None: ...

    @event(
        "error",
        en="{lost} records of this log were lost: journald did not read for so long that the memory for them was full",
        zh="本日志丢失了 {lost} 条记录：journald 长时间未读取，缓存已满",
    )
    def log_records_lost(self, *, lost: int) -> None: ...

    @event(
        "critical",
        en="loop {loop!r} has made no progress for {seconds:.0f} s while {doing}; please report this. All tasks:\n{stacks}",
        zh="循环 {loop!r} 停在“{doing}”步骤，已 {seconds:.0f} 秒无进展；请报告此问题。所有任务：\n{stacks}",
    )
    def loop_stalled(self, *, loop: str, doing: str, seconds: float, stacks: str) -> None: ...

    @event(
        "critical",
        en="event loop has not run for {seconds:.0f} s: something blocks it; please report this. It stands here:\n{stacks}",
        zh="事件循环已 {seconds:.0f} 秒没有运转：有代码将其阻塞；请报告此问题。当前位置：\n{stacks}",
    )
    def loop_blocked(self, *, seconds: float, stacks: str) -> None: ...

    @event(
        "warning",
        en="clock of this machine is {seconds:.0f} s {direction} the database's; due times and pace go by the database's",
        zh="本机时钟与数据库时钟相差 {seconds:.0f} 秒（{direction}）；发送时间和速率以数据库时钟为准",
    )
    def clock_off(self, *, seconds: float, direction: str) -> None: ...

    @event(
        "warning",
        en="tables could not be read for metrics and status: {cause}",
        zh="无法读取数据表以生成指标和状态：{cause}",
    )
    def stats_failed(self, *, cause: str) -> None: ...

    @event(
        "error",
        en="reading the tables for metrics and status met a bug in mailerd; letters are sent all the same; "
        "please report the stack",
        zh="为指标和状态读取数据表时触发了 mailerd 的缺陷；邮件发送不受影响；请报告堆栈",
    )
    def stats_crashed(self, *, error: BaseException) -> None: ...

    @event("warning", en="alert could not be sent: {cause}", zh="无法发送告警：{cause}")
    def alert_failed(self, *, cause: str) -> None: ...

    @event("info", en="alert sent: {subject}", zh="已发送告警：{subject}")
    def alert_sent(self, *, subject: str) -> None: ...

    @event(
        "info",
        en="{actor} asked to {action} job {job}: {letters:n letter} changed",
        zh="{actor} 要求对任务 {job} 执行 {action:label}：{letters} 封邮件发生变化",
    )
    def job_action_by_command(self, *, job: str, action: str, actor: str, letters: int) -> None: ...

    @event(
        "info",
        en="{actor} asked to {action} sender {sender}",
        zh="{actor} 要求对发件人 {sender} 执行 {action:label}",
    )
    def sender_action_by_command(self, *, sender: str, action: str, actor: str) -> None: ...

    @event(
        "info",
        en="sender {sender} is paused by hand {until}: {reason}",
        zh="发件人 {sender} 已被人工暂停（{until}）：{reason}",
    )
    def sender_paused_manually(self, *, sender: str, until: str, reason: str) -> None: ...

    @event(
        "info",
        en="sender {sender} is no longer paused by hand",
        zh="发件人 {sender} 的人工暂停已结束",
    )
    def sender_resumed_manually(self, *, sender: str) -> None: ...
