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
        "A client showed no API key, or one that is unknown or revoked, and was answered 401. An address that does so 60 "
        "times in a minute gets 429 for a while.",
        "有请求未出示 API 密钥，或密钥未知、已吊销，得到 401。同一地址一分钟内达 60 次后，暂时得到 429。",
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
    "answers_not_forgotten": Runbook(
        "Old answers to idempotency keys could not be deleted; they do no harm, and it is tried again.",
        "未能删除过期的幂等键应答；它们不碍事，稍后会重试。",
        _DATABASE[:2],
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
