"""What to do about letters in doubt, and where something was exchanged: a credential file, a token, a database."""

from collections.abc import Mapping
from typing import Final

from mailerd.events.runbook import OWN_BUG, LikelyCause, Runbook

WORKER_RUNBOOKS: Final[Mapping[str, Runbook]] = {
    "letter_tried_alone": Runbook(
        "Several daemons died while they had this letter in flight. It is tried with nothing beside it; if three daemons "
        "in a row die of that too, the letter is failed, and no other is.",
        "多个守护进程在处理该邮件时崩溃。现在单独重试；若又有三个守护进程接连因此崩溃，则只有该邮件失败，其他邮件不受影响。",
        (
            LikelyCause(
                "the daemons were killed: out of memory, a signal, a power cut",
                "守护进程被终止：内存不足、信号或断电",
                "journalctl -k | grep -i 'out of memory'; journalctl -u mailerd -p warning",
            ),
            LikelyCause(
                "what the letter carries crashes a library",
                "邮件内容导致某个库崩溃",
                "mailerd explain @MAILERD_RECIPIENT@",
            ),
        ),
    ),
    "sender_out_of_reach": Runbook(
        "Google's token endpoint gave no token for this mailbox. Its letters wait here, no attempt is lost, and mailerd "
        "tries by itself; senders whose token is fresh go on.",
        "Google 的令牌端点没有为该邮箱签发令牌。其邮件在此等待，不消耗尝试次数，mailerd 会自动重试；令牌有效的发件人不受影响。",
        (
            LikelyCause(
                "the token endpoint cannot be reached, or is slow",
                "令牌端点无法访问或响应缓慢",
                "curl -v https://oauth2.googleapis.com/token",
            ),
            LikelyCause(
                "the proxy that gmail.proxy names is away, or refuses us",
                "gmail.proxy 指定的代理不可用或拒绝访问",
                "mailerd check",
            ),
        ),
    ),
    "mailbox_wrong": Runbook(
        "The credential file that bears a sender's name opens another mailbox. Nothing is sent with it, nothing is looked "
        "up with it, and the sender's letters wait until the right file is there; it is taken up by itself.",
        "以该发件人命名的凭据文件打开的是另一个邮箱。不会用它发送或查询任何内容，邮件会等待正确的文件；放入后自动启用。",
        (
            LikelyCause(
                "the file was exchanged for another mailbox's, or signed in with another account in the browser",
                "文件被换成了其他邮箱的，或在浏览器中登录了其他帐号",
                "mailerd auth login --sender SENDER",
            ),
            LikelyCause(
                "the sender is an alias of that mailbox",
                "该发件人是那个邮箱的别名",
                "gmail.aliases in the configuration",
            ),
            LikelyCause(
                "the mailbox was renamed at Google",
                "邮箱在 Google 端已改名",
                "mailerd check",
            ),
        ),
    ),
    "jobs_left_open": Runbook(
        "The last letters of a job went out during a stop, and the database did not take in time that the job is over. "
        "Its letters are recorded; the daemon that runs next completes it, and its event comes then.",
        "任务的最后几封邮件在停止期间发出，而数据库未能及时记下任务已结束。邮件均有记录；之后运行的守护进程会结束该任务，其事件届时发出。",
        (LikelyCause("the database is away or slow", "数据库不可用或缓慢", "systemctl status mariadb"),),
    ),
    "letter_handover_lost": Runbook(
        "This daemon came too late to go on with a letter: its claim had ended. It asks Google for nothing more, and the "
        "letter is safe: the next claim goes on with it.",
        "本守护进程来不及继续处理此邮件：领取已失效。不再向 Google 发出请求，邮件安全，由下一次领取继续。",
        (
            LikelyCause(
                "the machine or the database stood still for longer than runner.lease",
                "机器或数据库停顿超过 runner.lease",
                "raise runner.lease",
            ),
            LikelyCause(
                "the server is overloaded, or its disk is slow",
                "服务器过载或磁盘缓慢",
                "mariadb -e 'SHOW FULL PROCESSLIST'",
            ),
        ),
    ),
    "database_told_again": Runbook(
        "The database was started anew or replaced by another one, and might have forgotten its last commits. What this "
        "daemon has sent in the last minute was written again before anything was claimed, so it does not go out twice.",
        "数据库重新启动或被另一台替换，可能遗忘了最后的提交。本守护进程已在领取任何邮件之前重新写入最近一分钟的发送结果，因此不会重复发送。",
        (
            LikelyCause(
                "a failover, a restart or a restored backup; what had been forgotten is counted in the message",
                "故障切换、重启或恢复备份；被遗忘的数量见消息",
                "mailerd audit",
            ),
        ),
    ),
    "writer_changed": Runbook(
        "Another of the servers in database.url takes the writes now. mailerd has dropped its connections to the one "
        "before and goes on at the new one; what it had sent in the last minute is written there again.",
        "database.url 中的另一台服务器现在接受写入。mailerd 已断开与前一台的连接，并在新服务器上继续；最近一分钟内已发送的结果会重新写入。",
        (
            LikelyCause(
                "a failover: the server before has ended, hangs, or was cut off from its replicas",
                "故障切换：前一台服务器已停止、无响应或与其副本断开",
                "journalctl -u mysql -u mariadb -n 50",
            ),
            LikelyCause(
                "an operator has moved the writes, for maintenance",
                "有人为维护而切换了写入节点",
                "mailerd check",
            ),
        ),
    ),
    "connection_cut": Runbook(
        "A connection to the database ended in the midst of its use; a new one was made and works, so nothing waits.",
        "与数据库的一个连接在使用中断开；已建立新连接且可用，无需等待。",
        (
            LikelyCause(
                "the server was restarted or replaced, or its connections were killed",
                "服务器被重启或替换，或有人终止了连接",
                "journalctl -u mariadb -u mysql -n 50",
            ),
            LikelyCause(
                "a firewall or a router between here and the server drops connections",
                "中间的防火墙或路由设备断开了连接",
                "journalctl -u mailerd --grep 'was cut'",
            ),
            LikelyCause(
                "a statement took longer than its caller waits (no answer within the time-out): large tables, a locked row",
                "某条语句超出了调用者的等待时间（no answer within the time-out）：表很大，或有行被锁定",
                "mariadb -e 'SHOW FULL PROCESSLIST'",
            ),
        ),
    ),
    "letter_undone": Runbook(
        "The answer to a send was lost, and Google said that the draft was gone, which it is not: the letter was not sent. "
        "The row is put right and the letter goes out by that very draft; a job that was completed is open again.",
        "发送的应答丢失，Google 又称草稿不在，而草稿其实仍在：邮件并未发送。记录已更正，邮件将用该草稿发出；已完成的任务会重新打开。",
        (
            LikelyCause(
                "Google answered from a copy of the mailbox that lagged; with gmail.metadata the sent mail is looked at instead",
                "Google 的应答来自滞后的邮箱副本；有 gmail.metadata 权限时会改查“已发送”",
                "mailerd auth login --sender @MAILERD_SENDER@ --metadata",
            ),
        ),
    ),
    "letter_needs_a_person": Runbook(
        "Only a look into the mailbox can tell whether this letter was sent; without the scope gmail.metadata mailerd may "
        "not look itself. Either it went directly and no answer came, or its draft is gone although Google had refused "
        "every send of it. Look into Sent and say what you found.",
        "只有查看邮箱才能判断此邮件是否已发送；没有 gmail.metadata 权限时 mailerd 无法自行查看。"
        "要么是直接发送后没有应答，要么是 Google 拒绝了每次发送而草稿却已不在。请查看“已发送”并告知结果。",
        (
            LikelyCause("it stands in Sent", "已在“已发送”中", "mailerd settle @MAILERD_RECIPIENT@ --sent"),
            LikelyCause("it does not", "不在“已发送”中", "mailerd settle @MAILERD_RECIPIENT@ --not-sent"),
        ),
    ),
    "database_clock_back": Runbook(
        "The database's clock was ahead and went back. What waited for a moment of it would have stood still until then: turns, "
        "pace and the reading of inboxes begin anew. A pause that was made meanwhile lasts longer; end it by hand.",
        "数据库的时钟曾经超前，现已倒退。等待该时刻的工作本会停顿：轮次、速率和收件箱读取已重新开始。其间产生的暂停会延长，请手动结束。",
        (
            LikelyCause(
                "the database's machine started with a wrong clock, or it was set",
                "数据库机器启动时时钟有误，或时钟被调整",
                "timedatectl status",
            ),
            LikelyCause(
                "the writes moved to a server whose clock is behind",
                "写入节点切换到了时钟落后的服务器",
                "timedatectl status",
            ),
            LikelyCause(
                "a sender is paused for too long",
                "发件人暂停过久",
                "mailerd senders list",
            ),
        ),
    ),
    "stats_crashed": Runbook(
        "The counts for metrics, console and status line met an error that mailerd does not know, such as a row with a value that "
        "a person wrote there by hand. Letters are sent all the same; the tables are read again every ten seconds.",
        "为指标、控制台和状态行统计时遇到未知错误，例如某行中有人工写入的值。邮件照常发送；每十秒重新读取数据表。",
        (
            LikelyCause(
                "a person wrote a status that mailerd does not know: correct that row",
                "有人写入了 mailerd 不认识的状态：请更正该行",
                "mariadb mailerd -e 'SELECT status, COUNT(*) FROM job_recipients GROUP BY status'",
            ),
            OWN_BUG,
        ),
    ),
}
