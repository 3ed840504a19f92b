"""What to do about each event at warning or above: what happened, the likely causes in their order, and what cures each.

It becomes the catalogues behind `journalctl -x` and docs/events.md; a test refuses such an event without an entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class LikelyCause:
    """One likely cause, and the command (or the key of the configuration) that shows or cures it."""

    en: str
    zh: str
    command: str


@dataclass(frozen=True)
class Runbook:
    """For one event."""

    en: str
    """What it means, in one or two sentences."""
    zh: str
    causes: tuple[LikelyCause, ...]


_SERVER_DOWN: Final = LikelyCause(
    "the database server does not run", "数据库服务器未运行", "systemctl status mariadb mysql; systemctl start mariadb"
)
_FIREWALL: Final = LikelyCause(
    "a firewall drops the packets, or host and port in database.url are wrong (the message says: no answer, timed out)",
    "防火墙丢弃了数据包，或 database.url 中的主机、端口有误（消息显示：无应答、超时）",
    "timeout 5 bash -c '</dev/tcp/HOST/3306' && echo open",
)
_PASSWORD: Final = LikelyCause(
    "user, password or database name in database.url is wrong (the message says: Access denied, Unknown database)",
    "database.url 中的用户、密码或数据库名有误（消息显示：Access denied、Unknown database）",
    "mariadb --host HOST --user USER --password mailerd",
)
_CONNECTIONS: Final = LikelyCause(
    "the server takes no more connections (the message says: Too many connections)",
    "服务器连接数已满（消息显示：Too many connections）",
    "mariadb -e \"SHOW GLOBAL STATUS LIKE 'Threads_connected'\"; lower database.pool_size or raise max_connections",
)
_SLOW: Final = LikelyCause(
    "the server is overloaded, or its disk is slow", "服务器过载或磁盘缓慢", "mariadb -e 'SHOW FULL PROCESSLIST'"
)
_READ_ONLY: Final = LikelyCause(
    "the server is read-only", "服务器只读", "mariadb -e \"SHOW VARIABLES LIKE '%read_only'\""
)
_NOT_PROVEN: Final = LikelyCause(
    "the server asks for the password itself, and has not shown that it is the right one (TLS, or a unix socket)",
    "服务器要求直接发送密码，而未证明自己的身份（TLS 或 Unix 套接字）",
    "mailerd check",
)
_DATABASE: Final = (_SERVER_DOWN, _FIREWALL, _PASSWORD, _NOT_PROVEN, _CONNECTIONS)
LOG: Final = LikelyCause(
    "the lines before this one name the reason", "此前的日志行说明了原因", "journalctl -u mailerd -p warning -n 50"
)
BUG: Final = LikelyCause(
    "a bug in mailerd or in a library: the stack says where; report it",
    "mailerd 或某个库的缺陷：堆栈指明位置；请报告",
    "journalctl -u mailerd -p err -n 100 -o cat",
)
OWN_BUG: Final = LikelyCause(
    "a bug in mailerd: the stack says where; report it", "mailerd 的缺陷：堆栈指明位置；请报告", BUG.command
)
_NETWORK: Final = LikelyCause(
    "no way out to the Internet, or DNS does not work",
    "无法访问互联网，或 DNS 失效",
    "getent hosts gmail.googleapis.com; curl -sI https://gmail.googleapis.com/",
)
_GOOGLE: Final = LikelyCause(
    "trouble at Google itself", "Google 自身故障", "see https://www.google.com/appsstatus/dashboard/"
)
_EXPLAIN: Final = LikelyCause(
    "the letter's own story says more", "该邮件的完整经过有更多说明", "mailerd explain @MAILERD_RECIPIENT@"
)
_SIGN_IN: Final = LikelyCause(
    "the sign-in was revoked, or the password was changed (token_refused)",
    "授权已被撤销或密码已更改（token_refused）",
    "mailerd auth login --sender @MAILERD_SENDER@",
)

RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "database_attempt_failed": Runbook(
        "One try at reaching the database failed; mailerd tries again by itself. A single line means nothing yet.",
        "一次连接数据库的尝试失败；mailerd 会自动重试。单独一行尚不说明问题。",
        _DATABASE,
    ),
    "database_unreachable": Runbook(
        "The database cannot be reached. mailerd goes on trying; until then new jobs are answered 503, nothing is sent, "
        "nothing is lost.",
        "无法连接数据库。mailerd 会继续尝试；在此之前新任务得到 503，不发送邮件，也不丢失任何内容。",
        _DATABASE,
    ),
    "database_away": Runbook(
        "The database was there and is not any more, or takes no writes. New jobs are answered 503; letters in flight "
        "are finished, and recorded when it is back.",
        "数据库连接中断，或不接受写入。新任务得到 503；处理中的邮件会完成，并在数据库恢复后记录结果。",
        (*_DATABASE, _READ_ONLY, _SLOW),
    ),
    "database_still_away": Runbook(
        "The database is still away. Nothing is sent meanwhile, and nothing is lost.",
        "数据库仍不可用。期间不发送邮件，也不丢失任何内容。",
        (*_DATABASE, _READ_ONLY),
    ),
    "database_full": Runbook(
        "The database could not write since a disk or a table is full. Nothing is accepted or sent until there is room.",
        "磁盘或表已满，数据库无法写入。腾出空间之前不接收也不发送。",
        (
            LikelyCause("the disk of the database is full", "数据库所在磁盘已满", "df -h /var/lib/mysql"),
            LikelyCause("binary logs have piled up", "二进制日志堆积", "mariadb -e 'SHOW BINARY LOGS'"),
            LikelyCause("a quota or max size of the table space", "表空间配额或大小上限", "mariadb -e 'SHOW TABLE STATUS'"),
        ),
    ),
    "transaction_repeated": Runbook(
        "A transaction failed for a passing reason (a deadlock, a lock, a restart) and is repeated. Now and then is normal.",
        "事务因暂时原因（死锁、锁等待、重启）失败并重试。偶尔出现属正常。",
        (_SLOW, LikelyCause("another program holds locks", "其他程序持有锁", "mariadb -e 'SHOW ENGINE INNODB STATUS\\G'")),
    ),
    "kill_failed": Runbook(
        "A statement was given up and its connection could not be ended on the server; its locks last until the server "
        "notices.",
        "已放弃的语句未能在服务器上终止；服务器检测到断开之前，其锁不会释放。",
        (LikelyCause("the server did not answer", "服务器无应答", "mariadb -e 'SHOW FULL PROCESSLIST'"), *_DATABASE[:2]),
    ),
    "request_unserved": Runbook(
        "A request was answered 503 since the database was away or busy. Nothing was stored; the client may repeat it.",
        "因数据库不可用或繁忙，请求得到 503。未存储任何内容；客户端可重试。",
        _DATABASE,
    ),
    "job_in_doubt": Runbook(
        "The connection was cut while a job was being committed. The client got a 503 and should repeat the request with "
        "the same Idempotency-Key; look whether the job is there.",
        "提交任务时连接中断。客户端得到 503，应以同一 Idempotency-Key 重试；请查看任务是否存在。",
        (
            LikelyCause("whether it is there", "任务是否存在", "mailerd jobs show @MAILERD_JOB@"),
            *_DATABASE[:2],
        ),
    ),
    "request_failed": Runbook("A request met a bug and was answered 500.", "请求触发缺陷，已应答 500。", (BUG,)),
    "connection_failed": Runbook("A connection met a bug and was closed.", "连接触发缺陷，已关闭。", (BUG,)),
    "forecast_failed": Runbook(
        "It could not be forecast when a job will be sent; the answer was given without it. The letters go as usual.",
        "无法预测任务的发送时间；应答不含预测。邮件照常发送。",
        (_SLOW, *_DATABASE[:1]),
    ),
    "forecast_broke": Runbook("A forecast met a bug; the letters go as usual.", "预测触发缺陷；邮件照常发送。", (BUG,)),
    "key_use_unwritten": Runbook(
        "When an API key was last used could not be written. Nothing else is touched by it.",
        "未能写入 API 密钥的最近使用时间，其他不受影响。",
        _DATABASE[:2],
    ),
    "key_refused": Runbook(
        "A client showed no API key, or one that is unknown or revoked, and was answered 401. An address that shows 60 "
        "bad ones in a minute gets 429 for a while.",
        "有请求未出示 API 密钥，或密钥未知、已吊销，得到 401。同一地址一分钟内出示 60 个错误密钥后，再出示错误的暂时得到 429。",
        (
            LikelyCause("a program still uses a revoked or rotated key", "某程序仍在使用已吊销或已轮换的密钥", "mailerd keys list"),
            LikelyCause("a client guesses keys", "有人在猜测密钥", "journalctl -u mailerd MAILERD_EVENT=key_refused"),
            LikelyCause("the address is a proxy's: name it", "该地址属于代理：请加入 intake.trusted_proxies", "intake.trusted_proxies"),
        ),
    ),
    "requests_not_logged": Runbook(
        "More requests without a good API key came than are logged one by one. All were answered, and the metrics count them.",
        "无有效 API 密钥的请求过多，未逐条记录。均已应答，并计入指标。",
        (LikelyCause("a client guesses keys, or looks for weaknesses", "有人在猜测密钥或探测漏洞", "journalctl -u mailerd MAILERD_EVENT=requests_not_logged"),),
    ),
    "connection_too_slow": Runbook(
        "A client did not send its request, or did not read its answer, in time, or asked nothing while more than 1,000 "
        "connections were open; its connection was closed.",
        "客户端未及时发送请求或读取应答，或在连接数超过 1,000 时没有发出请求，连接已关闭。",
        (
            LikelyCause("a client on a bad network", "客户端网络不佳", "journalctl -u mailerd MAILERD_EVENT=connection_too_slow"),
            LikelyCause("a client opens connections to wear mailerd out", "有人以大量连接耗尽资源", "ss -tn | grep :5000"),
        ),
    ),
    "google_call_crashed": Runbook(
        "A call to Google ended in an unforeseen error; the letter is kept safe.",
        "对 Google 的调用出现意外错误；邮件状态安全。",
        (BUG,),
    ),
    "google_unreachable": Runbook(
        "Google cannot be reached from this machine. Letters wait, no attempt is lost, and mailerd tries by itself.",
        "本机无法连接 Google。邮件等待，不消耗尝试次数，mailerd 会自动重试。",
        (_NETWORK, LikelyCause("a firewall in between; where only a proxy leads out, name it in gmail.proxy", "中间有防火墙；若只能经代理访问外网，请设置 gmail.proxy", "curl -v https://oauth2.googleapis.com/"), _GOOGLE),
    ),
    "google_still_away": Runbook(
        "Google is still out of reach. Letters wait.", "仍无法连接 Google。邮件等待中。", (_NETWORK, _GOOGLE)
    ),
    "sender_paused": Runbook(
        "Google does not take letters from this mailbox now; its other letters wait, other mailboxes go on. A broken "
        "sign-in is tried again every minute, so a repaired one goes on by itself.",
        "Google 暂不接受此邮箱的邮件；其余邮件等待，其他邮箱不受影响。授权失效时每分钟重试一次，修复后自动恢复。",
        (
            LikelyCause(
                "Google's daily limit for this mailbox is reached (daily_limit); mailerd goes on by itself",
                "该邮箱已达 Google 每日上限（daily_limit）；mailerd 会自行恢复",
                "mailerd top",
            ),
            LikelyCause("too fast (throttled); mailerd goes on by itself", "发送过快（throttled）；自动恢复", "lower pace.per_minute"),
            _SIGN_IN,
            LikelyCause(
                "the credential file is missing, unreadable or broken (no_credentials, client_refused)",
                "凭据文件缺失、不可读或已损坏（no_credentials、client_refused）",
                "ls -l /etc/mailerd/credentials",
            ),
            LikelyCause(
                "the sign-in lacks a scope, or Gmail is off for this mailbox (scope_missing, mailbox_refused)",
                "授权缺少权限范围，或该邮箱未启用 Gmail（scope_missing、mailbox_refused）",
                "mailerd auth login --sender @MAILERD_SENDER@",
            ),
            LikelyCause("the Cloud project's quota (project_limit)", "Cloud 项目配额（project_limit）", "https://console.cloud.google.com/iam-admin/quotas"),
        ),
    ),
    "project_paused": Runbook(
        "The quota of the whole Cloud project is used up: every sender of this project waits, with attempts intact, and "
        "goes on by itself when the pause is over.",
        "整个 Cloud 项目的配额已用尽：该项目的所有发件人等待，尝试次数不变，暂停结束后自动恢复。",
        (
            LikelyCause(
                "another program uses the same Cloud project, or its quota was lowered",
                "其他程序使用同一 Cloud 项目，或其配额被调低",
                "https://console.cloud.google.com/iam-admin/quotas",
            ),
            LikelyCause(
                "pace.project_units_per_minute is above what the project has",
                "pace.project_units_per_minute 高于项目的实际配额",
                "mailerd senders list",
            ),
            LikelyCause("it is over and should be tried sooner", "已恢复，希望立即重试", "mailerd senders resume @MAILERD_SENDER@"),
        ),
    ),
    "letter_failed": Runbook(
        "This letter will not be sent; the message says why. Other letters of the job go on.",
        "此邮件不会发送；消息说明了原因。该任务的其他邮件继续。",
        (
            LikelyCause("the address does not exist or is malformed", "地址不存在或格式有误", "mailerd explain @MAILERD_RECIPIENT@"),
            LikelyCause(
                "the template asks for a variable that this recipient does not have, or fails with its value",
                "模板所需变量缺失，或其值导致模板失败",
                "mailerd explain @MAILERD_RECIPIENT@",
            ),
            LikelyCause("passing trouble that lasted for all attempts", "暂时故障持续到尝试次数用尽", "mailerd jobs show @MAILERD_JOB@"),
        ),
    ),
    "letter_deferred": Runbook(
        "An attempt did not work for a passing reason; it is tried again.",
        "一次尝试因暂时原因未成功，将重试。",
        (_GOOGLE, _NETWORK, _EXPLAIN),
    ),
    "letter_unsure": Runbook(
        "The answer to a send was lost. mailerd does not send again: it looks at Google for the letter, and then knows.",
        "发送的应答丢失。mailerd 不会重发，而是到 Google 查证后再决定。",
        (LikelyCause("the network broke during the send", "发送时网络中断", "mailerd explain @MAILERD_RECIPIENT@"), _GOOGLE),
    ),
    "letter_claim_lost": Runbook(
        "This daemon came too late with a record: another one had taken the letter over. The record stays in the log of "
        "attempts, and the letter is safe.",
        "本守护进程记录过迟，邮件已由他人接管。记录留在尝试日志中，邮件安全。",
        (
            LikelyCause("the machine or the database stood still for longer than runner.lease", "机器或数据库停顿超过 runner.lease", "raise runner.lease"),
            _SLOW,
        ),
    ),
    "letter_broke": Runbook(
        "A bug was met with this one letter, which is failed or looked for; the others go on.",
        "处理此邮件时遇到缺陷，该邮件失败或待查证；其他邮件继续。",
        (BUG, _EXPLAIN),
    ),
    "letter_still_unsure": Runbook(
        "Google was asked for a letter in doubt and gave no clear answer; it is asked again later.",
        "向 Google 查证存疑邮件未得到明确应答，稍后再查。",
        (_NETWORK, _SIGN_IN, _EXPLAIN),
    ),
    "leases_not_renewed": Runbook(
        "The database did not take the renewal of leases. No letter is sent whose lease could end before its answer.",
        "数据库未接受租约续期。租约可能先于应答到期的邮件不会发送。",
        _DATABASE,
    ),
    "job_stuck": Runbook(
        "A job had letters to send and no turn, which never happens unless mailerd has a bug or the tables were "
        "changed by hand. It is repaired: the job goes on.",
        "任务有待发邮件却没有轮次，只有 mailerd 存在缺陷或有人手动改表才会如此。已修复：任务继续。",
        (LikelyCause("a bug in mailerd: report it", "mailerd 的缺陷：请报告", "mailerd explain @MAILERD_JOB@"),),
    ),
    "lease_lapsed": Runbook(
        "A daemon claimed a letter and sent no heartbeat any more. The letter is safe: it is sent again, or looked for first.",
        "某守护进程领取邮件后失去联系。邮件安全：将重新发送，或先行查证。",
        (
            LikelyCause("that daemon was killed or lost its power", "该守护进程被终止或断电", "journalctl -u mailerd -b -1 -n 50"),
            LikelyCause("it lost the database for longer than runner.lease", "其数据库连接中断超过 runner.lease", "journalctl -u mailerd --grep 'away|back'"),
        ),
    ),
    "drain_cut_off": Runbook(
        "The stop took longer than runner.drain_timeout; letters that were cut off are settled at the next start.",
        "停止耗时超过 runner.drain_timeout；被中断的邮件在下次启动时处理。",
        (
            LikelyCause("Google was slow to answer", "Google 应答缓慢", "raise runner.drain_timeout, and TimeoutStopSec= with it"),
            LikelyCause("the database was away", "数据库不可用", "systemctl status mariadb"),
        ),
    ),
    "step_failed": Runbook(
        "A step of one of the loops failed and is repeated; the error says which and why.",
        "某个循环的一步失败并将重试；错误信息说明原因。",
        (_SLOW, *_DATABASE[:2], BUG),
    ),
    "orphans_not_searched": Runbook(
        "Drafts that are no longer needed could not be searched for in this mailbox. Nothing else is touched by it.",
        "未能在此邮箱查找无用草稿，其他不受影响。",
        (_NETWORK, _SIGN_IN),
    ),
    "runner_already_running": Runbook(
        "A second runner was started in one process and ended at once. This is a bug; nothing was sent twice.",
        "同一进程中启动了第二个发送器并立即结束。这是缺陷；没有重复发送。",
        (BUG,),
    ),
    "process_refused": Runbook(
        "mailerd cannot run as it is configured; the message names the reason.",
        "mailerd 无法按当前配置运行；消息说明了原因。",
        (
            LikelyCause("a mistake in the configuration", "配置有误", "mailerd config --config /etc/mailerd/mailerd.toml"),
            LikelyCause("the port is taken by another program", "端口被其他程序占用", "ss -ltnp | grep :5000"),
            LikelyCause("the schema is newer than this version", "数据库结构比此版本新", "mailerd version"),
            _PASSWORD,
        ),
    ),
    "process_died": Runbook(
        "A part of mailerd met an unforeseen error, so the whole process ended; systemd starts it again, and the "
        "recovery finds out what became of the letters in flight.",
        "mailerd 的某个部分遇到意外错误，整个进程退出；systemd 会重新启动，救援流程处理未完成的邮件。",
        (BUG,),
    ),
    "settings_refused": Runbook(
        "A reload found a configuration that cannot be used. Everything goes on with the old settings.",
        "重新加载时发现配置不可用。原设置继续有效。",
        (LikelyCause("a mistake in the file", "文件有误", "mailerd config --config /etc/mailerd/mailerd.toml"),),
    ),
    "reload_failed": Runbook(
        "A reload met an unforeseen error. Sending goes on; which settings were taken up by then is not sure, so "
        "restart mailerd when it suits.",
        "重新加载时遇到意外错误。发送继续；哪些设置已生效并不确定，请在合适时重启 mailerd。",
        (BUG, LikelyCause("the settings as they would be read", "将要读取的设置", "mailerd config --config /etc/mailerd/mailerd.toml")),
    ),
    "log_records_lost": Runbook(
        "journald did not read for so long that lines of this log were given up. Letters were sent all the same; the "
        "tables have everything.",
        "journald 长时间未读取，部分日志行被丢弃。邮件照常发送；数据表保有全部信息。",
        (
            LikelyCause("journald stands still or was stopped", "journald 停顿或被停止", "systemctl status systemd-journald"),
            LikelyCause("the disk of the journal is full or slow", "日志磁盘已满或缓慢", "df -h /var/log/journal; journalctl --disk-usage"),
        ),
    ),
    "loop_stalled": Runbook(
        "A part of mailerd made no progress for too long; systemd's watchdog ends and restarts the process, and the "
        "recovery finds out what became of the letters in flight. All stacks are in this record.",
        "mailerd 的某个部分长时间没有进展；systemd 看门狗会终止并重启进程，救援流程处理未完成的邮件。本记录含全部堆栈。",
        (BUG,),
    ),
    "loop_blocked": Runbook(
        "The event loop stood still: something blocked it. If it does not turn again, systemd's watchdog restarts the "
        "process. The stack of the thread MainThread says where.",
        "事件循环停止运转：有代码将其阻塞。若未恢复，systemd 看门狗会重启进程。MainThread 的堆栈指明位置。",
        (
            LikelyCause("the machine was suspended, or has no CPU or memory left", "机器曾挂起，或 CPU、内存耗尽", "uptime; free -h; vmstat 1 5"),
            BUG,
        ),
    ),
    "clock_off": Runbook(
        "The clocks of this machine and of the database's differ. Leases, pace and due times go by the database's and stay "
        "right; sign-ins of service accounts fail when this machine's clock is far off.",
        "本机与数据库的时钟不一致。租约、速率和发送时间以数据库为准，仍然正确；本机时钟偏差过大时服务账号登录会失败。",
        (
            LikelyCause("time is not synchronised here", "本机未同步时间", "timedatectl status; systemctl enable --now systemd-timesyncd"),
            LikelyCause("nor on the database's machine", "数据库机器未同步时间", "timedatectl status"),
        ),
    ),
    "stats_failed": Runbook(
        "The tables could not be looked at for metrics and the status line; sending is not touched by it.",
        "无法读取数据表以生成指标和状态行，发送不受影响。",
        (_SLOW, *_DATABASE[:1]),
    ),
    "alert_failed": Runbook(
        "An alert could not be delivered. What it told stands in this log, and comes again with the next alert unless another "
        "way took it; sending is not touched by it.",
        "告警未能送达，其内容见本日志；若其他途径也未送达，将随下一条告警再次发送；邮件发送不受影响。",
        (
            LikelyCause("the address or its token is wrong", "地址或令牌有误", "look at alerts.webhook and alerts.urls in /etc/mailerd/mailerd.toml"),
            _NETWORK,
            LOG,
        ),
    ),
}  # fmt: skip


# What to do about what the inbox reader says.

INBOX_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "inbox_unreadable": Runbook(
        "Google did not let mailerd read this inbox. Letters go on; what became of them is learnt later, and nothing is lost.",
        "Google 未允许 mailerd 读取该收件箱。邮件照常发送；其结果稍后才会得知，不会丢失。",
        (
            LikelyCause("the sign-in was revoked or lost a scope", "授权已被撤销或缺少权限范围", "mailerd check"),
            LikelyCause("Google cannot be reached, or throttles the mailbox: it goes on by itself", "无法连接 Google 或该邮箱被限流：会自行恢复", "journalctl -u mailerd -p warning -n 50"),
        ),
    ),
    "letter_given_back": Runbook(
        "Google had answered that it took this letter, and wrote later that it did not send it, since the mailbox had reached "
        "its limit. The letter waits again, lost no attempt, and goes once the sender's day has room.",
        "Google 曾应答已接收该邮件，随后通知因邮箱达到限额而未发出。该邮件重新等待，不消耗尝试次数，待发件人当日额度恢复后发送。",
        (
            LikelyCause("the mailbox may send less than pace.per_day says (a trial account, a new one)", "该邮箱的实际额度低于 pace.per_day（试用或新账户）", "mailerd senders set SENDER --per-day N"),
            LikelyCause("the person or another program sends from the same mailbox: leave them a reserve", "本人或其他程序也在使用该邮箱发送邮件：请预留额度", "mailerd senders set SENDER --reserve N"),
        ),
    ),
    "sender_rests": Runbook(
        "What came back to the mailbox says that it should not send for a while: a limit was reached, or receiving servers "
        "block its letters as unwanted.",
        "收件箱内容表明该邮箱应暂停发送：已达限额，或收件服务器将其邮件视为不受欢迎而拦截。",
        (
            LikelyCause("daily_limit: Google's limit; it ends by itself", "daily_limit：达到 Google 限额；会自行结束", "mailerd senders list"),
            LikelyCause("blocked: read the reasons, mend list or content, then resume the sender", "blocked：查看原因，整理名单或内容后恢复发件人", "mailerd bounces --sender SENDER"),
            LikelyCause("bounces: many addresses do not exist; cancel the jobs with bad lists, then resume the sender", "bounces：大量地址不存在；取消名单有问题的任务后恢复发件人", "mailerd bounces --sender SENDER"),
        ),
    ),
    "job_paused_for_bounces": Runbook(
        "Too many addresses of this job do not exist, so it was paused: to go on would cost the mailbox its reputation. Nothing "
        "is lost; its other messages wait. After a person's resume only what is sent from then on counts.",
        "该任务中不存在的地址过多，已暂停：继续发送会损害该邮箱的信誉。不会丢失任何邮件，其余邮件等待。人工恢复后，仅统计此后发送的邮件。",
        (
            LikelyCause("an old or bought list: look at what came back, cancel the job and post the rest from a clean list", "名单陈旧或为购买所得：查看退信，取消任务，再用清理后的名单提交其余收件人", "mailerd bounces --job @MAILERD_JOB@"),
            LikelyCause("the list is right after all: let it go on", "名单其实无误：让它继续", "mailerd jobs resume @MAILERD_JOB@"),
        ),
    ),
    "job_bounces": Runbook(
        "Half of what pauses this job has come back, since the addresses do not exist. It goes on.",
        "因地址不存在的退信已达到暂停该任务所需数量的一半。任务继续发送。",
        (
            LikelyCause("an old or bought list", "名单陈旧或为购买所得", "mailerd bounces --job @MAILERD_JOB@"),
        ),
    ),
    "notice_not_believed": Runbook(
        "A message claims to be a notice about a letter, and Google does not vouch for it, or it names another address or "
        "another message. It changed nothing.",
        "有邮件自称是关于某封邮件的通知，但 Google 未予认证，或其中的地址或邮件不符。未作任何改动。",
        (
            LikelyCause("it is about a message that the owner of the mailbox wrote in the same thread, or about an earlier sending", "通知关于邮箱主人在同一会话中所写的邮件，或关于此前的一次发送", "look at the message in the mailbox"),
            LikelyCause("a third party forges notices", "有人伪造通知", "look at the message in the mailbox"),
            LikelyCause("another mail system's notice under gmail.metadata, where its body cannot be read", "在 gmail.metadata 权限下无法读取正文的其他邮件系统通知", "mailerd auth login --sender SENDER --readonly"),
        ),
    ),
    "notice_passed_over": Runbook(
        "This message could not be read three times. It is passed over, so that it holds up nothing behind it; what it says "
        "about a letter is not known.",
        "该邮件三次读取失败，已跳过，以免阻塞后续邮件；其内容未知。",
        (
            LikelyCause("it is too large or broken: look at it in the mailbox", "邮件过大或损坏：请在邮箱中查看", "mailerd bounces --sender SENDER"),
            LikelyCause("a limit notice about a letter that is still unsure: settle that", "关于状态未定邮件的限额通知：请先处理该邮件", "mailerd explain RECIPIENT"),
        ),
    ),
    "history_forgotten": Runbook(
        "Google keeps a mailbox's history for about a week, sometimes for hours. mailerd walks the inbox back to what it knows, "
        "and finds the same notices there.",
        "Google 约保留邮箱历史一周，有时仅数小时。mailerd 会将收件箱回溯至已知位置，并找到相同的通知。",
        (
            LikelyCause("no daemon ran for days, or the inbox could not be read: nothing is to be done", "数日无守护进程运行或无法读取收件箱：无需处理", "mailerd check"),
        ),
    ),
    "notice_crashed": Runbook(
        "A message met an error that mailerd does not know. It is tried twice more, and then passed over by name.",
        "处理该邮件时遇到未知错误。将再试两次，然后跳过并记录。",
        (OWN_BUG,),
    ),
    "inbox_crashed": Runbook(
        "Reading inboxes met an error that mailerd does not know. Letters are sent all the same; the reader tries again from "
        "its last commit.",
        "读取收件箱时遇到未知错误。邮件照常发送；读取将从上次提交处重试。",
        (OWN_BUG,),
    ),
    "inbox_step_failed": Runbook(
        "The database refused a step of reading inboxes. Nothing of it was written; it is read again.",
        "数据库拒绝了读取收件箱的某个步骤。未写入任何内容；将重新读取。",
        (
            LikelyCause("the database's own error stands in the line", "该行中有数据库自身的错误", "mailerd check"),
        ),
    ),
}  # fmt: skip


# What to do about the processes that render templates, and about the public site of unsubscribe links.

INTAKE_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "renderer_ended": Runbook(
        "The process that renders templates ended over one of them, or was killed; another was started within a tenth of a "
        "second. Letters beside it were made all the same; the one at fault fails with this reason, or its post is refused. Where "
        "it was killed or got no CPU no letter is at fault: it waits, and its post is answered 503.",
        "渲染模板的进程因某个模板而结束，或被终止；十分之一秒内已启动新的进程。其他邮件照常生成；出错的邮件以此原因失败，或其请求被拒绝。若进程被外部终止或得不到 CPU，则不归咎于任何邮件：邮件等待，请求得到 503。",
        (
            LikelyCause("a template takes more than a second of CPU or 320 MB for one letter", "某个模板处理一封邮件需要一秒以上的 CPU 时间或 320 MB 以上内存", "mailerd jobs list"),
            LikelyCause("a person or the kernel killed the process, as when memory is short", "进程被人或内核终止，例如内存不足", "journalctl -k -g 'out of memory' -n 20"),
        ),
    ),
    "renderer_ends_often": Runbook(
        "The renderer ends again and again: over templates of a client, or since this machine kills it or gives it no CPU. "
        "Other letters go on; each end costs about a second, and ten where there is no CPU.",
        "渲染进程反复结束：因某个客户端的模板，或因本机将其终止、不给它 CPU。其他邮件继续发送；每次结束约耗时一秒，得不到 CPU 时为十秒。",
        (
            LikelyCause("a client posts templates that are too costly, by mistake or on purpose: the line names its key or sender", "客户端有意或无意提交了开销过大的模板：日志行给出其密钥或发件人", "mailerd keys list"),
            LikelyCause("it was killed or got no CPU, as the line says: memory or CPU are short", "如日志行所述，进程被终止或得不到 CPU：内存或 CPU 不足", "journalctl -k -g 'out of memory' -n 20; cat /proc/pressure/cpu /proc/pressure/memory"),
            LOG,
        ),
    ),
    "renderer_not_started": Runbook(
        "No template can be rendered: posts are answered 503, letters wait and lose no attempt. It is tried again by itself.",
        "模板无法渲染：请求得到 503，邮件等待且不计尝试次数。会自动重试。",
        (
            LikelyCause("memory or processes of the service are used up", "服务的内存或进程数已用尽", "systemctl show mailerd -p MemoryCurrent,MemoryMax,TasksCurrent,TasksMax"),
            LikelyCause("the installation is incomplete, as in the midst of an upgrade", "安装不完整，例如正在升级", "/opt/mailerd/bin/python -I -m mailerd.mail.render_child 1 335544320 $$ </dev/null"),
        ),
    ),
    "renderer_broke": Runbook(
        "The part of mailerd that asks the renderer met an error that it does not know. The letters wait and lose no attempt.",
        "mailerd 中调用渲染进程的部分遇到未知错误。邮件等待，且不计尝试次数。",
        (OWN_BUG,),
    ),
    "unsubscribe_unserved": Runbook(
        "The database did not answer a request to the public site: POST wanted to unsubscribe, GET only opened a link, as "
        "`mailerd check` does. Mail programs try again by themselves; a person sees a page that asks to try again.",
        "数据库没有应答退订站点的一个请求：POST 是请求退订，GET 只是打开链接，`mailerd check` 也会这样做。邮件程序会自动重试；个人会看到请稍后重试的页面。",
        (
            LikelyCause("the database is away: the lines of the database say since when", "数据库不可用：数据库相关日志说明自何时起", "mailerd check"),
            LikelyCause("the database takes no writes (read-only, disk full)", "数据库拒绝写入（只读或磁盘已满）", "journalctl -u mariadb -u mysql -p warning -n 30"),
        ),
    ),
    "unsubscribe_failed": Runbook(
        "The public site met an error that it does not know and answered 500. Nothing was changed by that request.",
        "退订站点遇到未知错误，已应答 500。该请求未改变任何数据。",
        (OWN_BUG,),
    ),
}  # fmt: skip


# What to do about a sender's pause, by its cause: each has a MESSAGE_ID of its own, so `journalctl -x` names that one.

_LOGIN: Final = "mailerd auth login --sender @MAILERD_SENDER@"
_CHECK: Final = LikelyCause("which part of it is wrong", "具体哪一部分有误", "mailerd check --sender @MAILERD_SENDER@")
_WAITS: Final = "The letters of this mailbox wait, with their attempts intact; other mailboxes go on. "
_WAITS_ZH: Final = "该邮箱的邮件等待，尝试次数不变；其他邮箱不受影响。"
_BY_ITSELF: Final = "It goes on by itself when the pause is over."
_BY_ITSELF_ZH: Final = "暂停结束后自动恢复。"
_MENDED: Final = "One letter is tried every minute, so what is mended goes on by itself."
_MENDED_ZH: Final = "每分钟试发一封，修复后自动恢复。"

REST_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "bounces": Runbook(
        "Too many addresses that this mailbox wrote to do not exist, so it rests for a day: to go on would cost it its "
        "reputation. Nothing is lost. After a person's resume only what is sent from then on counts.",
        "该邮箱发往的地址中不存在的过多，暂停一天：继续发送会损害其信誉。不会丢失任何邮件。人工恢复后，仅统计此后发送的邮件。",
        (
            LikelyCause("old or bought lists: see which jobs they are in", "名单陈旧或为购买所得：查看涉及哪些任务", "mailerd bounces --sender @MAILERD_SENDER@"),
            LikelyCause("cancel each of these jobs; post the rest from a clean list", "逐个取消这些任务，再用清理后的名单提交其余收件人", "mailerd jobs cancel @MAILERD_JOB@"),
            LikelyCause("then let the mailbox go on", "然后恢复该邮箱", "mailerd senders resume @MAILERD_SENDER@"),
        ),
    ),
    "blocked": Runbook(
        "Receiving servers block what this mailbox sends as unwanted, so it rests for a day.",
        "收件服务器将该邮箱的邮件视为不受欢迎而拦截，暂停一天。",
        (
            LikelyCause("read the reasons, and mend list or content", "查看原因，整理名单或内容", "mailerd bounces --sender @MAILERD_SENDER@"),
            LikelyCause("then let the mailbox go on", "然后恢复该邮箱", "mailerd senders resume @MAILERD_SENDER@"),
        ),
    ),
}  # fmt: skip
"""What to do about a pause for what came back to the mailbox, by its cause; the console shows it."""

_API_OFF: Final = LikelyCause("the Gmail API is not enabled in the Cloud project, or was switched off there", "Cloud 项目中未启用 Gmail API，或已被停用", "https://console.cloud.google.com/apis/library/gmail.googleapis.com")  # fmt: skip
_NOT_ALLOWED: Final = LikelyCause("the domain's administrator does not allow this app, or no app, to use Gmail", "网域管理员不允许此应用（或任何应用）使用 Gmail", "https://admin.google.com/ac/owl")  # fmt: skip

PAUSE_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "throttled": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "other programs send from this mailbox as well, or pace.units_per_minute is above what Google allows",
                "另有程序使用该邮箱发送，或 pace.units_per_minute 高于 Google 的上限",
                "mailerd senders set @MAILERD_SENDER@ --per-minute 40",
            ),
        ),
    ),
    "daily_limit": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "Google's daily limit for this mailbox is reached: 2,000 letters for Workspace, 500 for gmail.com, those "
                "that its owner sends included",
                "该邮箱已达 Google 每日上限：Workspace 2,000 封，gmail.com 500 封，含本人手工发送的邮件",
                "mailerd senders set @MAILERD_SENDER@ --per-day 1500",
            ),
        ),
    ),
    "too_many_concurrent": Runbook(
        _WAITS + _BY_ITSELF,
        _WAITS_ZH + _BY_ITSELF_ZH,
        (
            LikelyCause(
                "other programs call Gmail for this mailbox at the same time; mailerd itself has lowered its own number",
                "另有程序同时调用该邮箱的 Gmail 接口；mailerd 已自行降低并发",
                "mailerd senders list",
            ),
        ),
    ),
    "token_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause("the sign-in was revoked, or the password was changed", "授权已被撤销或密码已更改", _LOGIN),
            LikelyCause(
                'the OAuth app is in "Testing", where a sign-in ends after 7 days: publish it, then sign in again',
                "OAuth 应用处于“测试”状态，登录 7 天后失效：请发布应用，再重新登录",
                "https://console.cloud.google.com/auth/audience",
            ),
            LikelyCause(
                "a service account has no delegation for this domain any more",
                "服务账号已不再拥有该域的全网域授权",
                "https://admin.google.com/ac/owl/domainwidedelegation",
            ),
        ),
    ),
    "client_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the OAuth client that the credential file names was deleted, or its secret was changed",
                "凭据文件所指的 OAuth 客户端已被删除，或其密钥已更改",
                "https://console.cloud.google.com/auth/clients",
            ),
            LikelyCause(
                "then sign in with the new client", "然后用新的客户端重新登录", f"{_LOGIN} --client client.json"
            ),
        ),
    ),
    "no_credentials": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the credential file is missing, broken, or others can read it (the message says which)",
                "凭据文件缺失、损坏，或他人可读（消息中有说明）",
                "ls -l /etc/mailerd/credentials",
            ),
            LikelyCause("this mailbox was never signed in", "该邮箱从未登录", _LOGIN),
        ),
    ),
    "wrong_mailbox": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "the credential file opens another mailbox than its name says: the sign-in was done with another account",
                "凭据文件打开的不是其文件名所指的邮箱：登录时使用了另一个账号",
                _LOGIN,
            ),
        ),
    ),
    "scope_missing": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause("the sign-in lacks a scope that sending needs", "授权缺少发送所需的权限范围", _LOGIN),
            LikelyCause(
                "a service account's delegation lacks it",
                "服务账号的全网域授权缺少该权限范围",
                "https://admin.google.com/ac/owl/domainwidedelegation",
            ),
        ),
    ),
    "mailbox_refused": Runbook(
        _WAITS + _MENDED,
        _WAITS_ZH + _MENDED_ZH,
        (
            LikelyCause(
                "Gmail is off for this account, or the account is suspended",
                "该账号未启用 Gmail，或已被停用",
                "https://admin.google.com/ac/users",
            ),
            _CHECK,
        ),
    ),
    "api_disabled": Runbook(_WAITS + _MENDED, _WAITS_ZH + _MENDED_ZH, (_API_OFF,)),
    "domain_policy": Runbook(_WAITS + _MENDED, _WAITS_ZH + _MENDED_ZH, (_NOT_ALLOWED,)),
}
"""The runbooks of `sender_paused`, by its field `cause`."""

FULL_DAY: Final = Runbook(
    "The letters of this mailbox wait, with their attempts intact; they go as the letters of yesterday leave the count of "
    "24 hours.",
    "该邮箱的邮件等待，尝试次数不变；随着昨天的邮件退出 24 小时计数，邮件会继续发送。",
    (
        LikelyCause(
            "its limit is lower than Google's: 2,000 letters for Workspace, 500 for gmail.com, those that its owner sends "
            "included",
            "其限额低于 Google 的上限：Workspace 2,000 封，gmail.com 500 封，含本人手工发送的邮件",
            "mailerd senders set @MAILERD_SENDER@ --per-day 2000",
        ),
        LikelyCause("there is more to send than one mailbox may", "邮件多于单个邮箱的允许量", "mailerd senders list"),
    ),
)
"""The runbook of a mailbox that a limit of the operator's holds: that is no pause, and has no event."""


# What to do about webhooks.

_DELIVERIES: Final = LikelyCause(
    "what each attempt was answered stands in the list of deliveries",
    "每次尝试的应答见投递列表",
    "mailerd webhooks show @MAILERD_WEBHOOK@",
)
_TEST: Final = LikelyCause(
    "the endpoint is down, slow (15 s at most) or answers with an error or a redirect",
    "端点停机、过慢（最多 15 秒）、返回错误或重定向",
    "mailerd webhooks test @MAILERD_WEBHOOK@",
)
_NOT_PUBLIC: Final = LikelyCause(
    "its address is not public and not in webhooks.allow_networks (the message says: not a public address)",
    "其地址不是公网地址，也不在 webhooks.allow_networks 中（消息显示：not a public address）",
    "mailerd check",
)
_DATABASE_BUSY: Final = LikelyCause(
    "the database is away or busy: its own lines say more",
    "数据库不可用或繁忙：数据库相关日志有更多说明",
    "mailerd check",
)

WEBHOOK_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "webhook_failing": Runbook(
        "An application's endpoint does not take its events. They wait in the database, and all go out when it is back; letters "
        "are not affected. After webhooks.pause_after (5 days) it is paused.",
        "某应用的端点不接收事件。事件保留在数据库中，端点恢复后全部投递；邮件不受影响。超过 webhooks.pause_after（5 天）后将暂停。",
        (_TEST, _NOT_PUBLIC, _DELIVERIES),
    ),
    "webhook_paused": Runbook(
        "An endpoint failed for days and gets nothing more until a person resumes it. Its events are kept as long as any "
        "(retention.events), and are delivered when it is resumed.",
        "端点已连续失败数日，恢复之前不再投递。其事件按 retention.events 保留，恢复后继续投递。",
        (
            _TEST,
            LikelyCause("the application is mended", "应用已修复", "mailerd webhooks resume @MAILERD_WEBHOOK@"),
            LikelyCause("it is no longer needed", "不再需要该端点", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_gone": Runbook(
        "An endpoint said by the status 410 that it wants no more events. It gets none until a person resumes it.",
        "端点以状态码 410 表示不再需要事件。恢复之前不再投递。",
        (
            LikelyCause("the application was taken down", "应用已下线", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
            LikelyCause("it was a mistake, as of a proxy", "误答，例如来自代理", "mailerd webhooks resume @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_event_given_up": Runbook(
        "One event was refused at every attempt over days, while the endpoint took others. It is kept as failed.",
        "某个事件数日内每次尝试均被拒绝，而端点接收了其他事件。该事件以失败状态保留。",
        (
            LikelyCause("the application fails over this one event: its own log says why", "应用处理该事件出错：其自身日志说明原因", "mailerd webhooks show @MAILERD_WEBHOOK@"),
            LikelyCause("once the application is mended", "应用修复之后", "mailerd webhooks replay @MAILERD_WEBHOOK@ --failed"),
        ),
    ),
    "webhook_events_expired": Runbook(
        "Events are deleted when they are older than retention.events. An endpoint that is on holds them up; a paused one does not.",
        "早于 retention.events 的事件会被删除。处于启用状态的端点会推迟删除；已暂停的端点不会。",
        (
            LikelyCause("the endpoint was paused for too long: the application reads its state from the API", "端点暂停过久：应用应通过 API 重新读取状态", "mailerd webhooks show @MAILERD_WEBHOOK@"),
            LikelyCause("it is no longer needed", "不再需要该端点", "mailerd webhooks remove @MAILERD_WEBHOOK@"),
        ),
    ),
    "webhook_step_failed": Runbook(
        "The part that delivers events could not use the database. It goes on by itself, and no event is lost.",
        "投递事件的部分无法使用数据库。会自动继续，不会丢失事件。",
        (_DATABASE_BUSY,),
    ),
    "webhook_broke": Runbook(
        "An attempt met an error that mailerd does not know. The event is free again when its lease is over.",
        "某次尝试遇到 mailerd 未知的错误。租约到期后该事件会再次投递。",
        (OWN_BUG,),
    ),
}  # fmt: skip


def pause_runbook(cause: str) -> Runbook:
    """What the console shows about a sender's pause of this cause."""
    return REST_RUNBOOKS.get(cause) or PAUSE_RUNBOOKS.get(cause, RUNBOOKS["sender_paused"])
