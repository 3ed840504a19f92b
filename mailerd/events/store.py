"""Events of the database."""

from mailerd.events.base import EventEmitter, event


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
        en="database {where}: attempt {attempts}/{attempts}: {cause}; giving up for now. Check that the server runs, "
        "that a firewall lets {where} through, and the user and password in database.url",
        zh="数据库 {where}：第 {attempts}/{attempts} 次尝试：{cause}；暂时放弃。请检查服务器是否运行、防火墙是否放行 {where}、"
        "以及 database.url 中的用户名和密码",
    )
    def database_unreachable(self, *, where: str, attempts: int, cause: str, error: BaseException) -> None: ...

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
        "error",
        en="database: {servers} take writes at once; mailerd writes to none of them until only one does. Set read_only = ON on the "
        "server that is not the primary; it has to answer",
        zh="{servers} 同时接受写入：在只剩一台之前，mailerd 不会写入其中任何一台。请在非主服务器上设置 read_only = ON，"
        "并让它能够应答",
    )
    def several_writers(self, *, servers: str) -> None: ...

    @event(
        "error",
        en="database {where} takes writes, but is {cause}: mailerd does not use it. Set read_only = ON there, and let it "
        "follow the primary",
        zh="数据库 {where} 接受写入，但它是旧的主服务器（{cause}）：mailerd 不会使用它。请在其上设置 read_only = ON，"
        "并让它跟随主服务器",
    )
    def former_primary(self, *, where: str, cause: str) -> None: ...

    @event(
        "error",
        en="database: checking the servers of database.url met a bug in mailerd; it is repeated soon. Please report the stack",
        zh="查看 database.url 中各服务器时遇到程序缺陷，稍后会重试。请连同堆栈一并报告",
    )
    def look_failed(self, *, error: BaseException) -> None: ...

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
        en="database: its disk or a table is full (errno {errno}) at {what}: free some space; until then nothing is stored",
        zh="数据库磁盘或表已满（错误号 {errno}，操作：{what}）：请释放空间；在此之前无法存储任何内容",
    )
    def database_full(self, *, what: str, errno: int) -> None: ...

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
