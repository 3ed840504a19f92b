"""Events of the process as a whole."""

from mailerd.events.base import EventEmitter, event


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
