"""What is said of inboxes: which are read, and what was found in them."""

from mailerd.events.base import EventEmitter, event


class InboxEvents(EventEmitter):
    """What the inbox reader met."""

    @event("info", en="inbox of {sender} is read, with {scope}", zh="开始读取 {sender} 的收件箱（权限 {scope}）")
    def inbox_opened(self, *, sender: str, scope: str) -> None: ...

    @event(
        "info",
        en="inbox of {sender} is not read, since its sign-in allows neither gmail.readonly nor gmail.metadata: bounces and "
        "replies stay unknown",
        zh="未读取 {sender} 的收件箱：其授权不含 gmail.readonly 或 gmail.metadata，退信与回复将无从得知",
    )
    def inbox_not_allowed(self, *, sender: str) -> None: ...

    @event(
        "warning",
        en="inbox of {sender} could not be read: {cause}; again in {again_in:span}",
        zh="无法读取 {sender} 的收件箱：{cause}；{again_in:span}后重试",
    )
    def inbox_unreadable(self, *, sender: str, cause: str, again_in: float) -> None: ...

    @event("info", en="inbox of {sender} is read again", zh="已恢复读取 {sender} 的收件箱")
    def inbox_readable_again(self, *, sender: str) -> None: ...

    @event(
        "info",
        en="job {job}: letter to {to} (recipient {recipient}) bounced: {kind} {code} {reason}",
        zh="任务 {job}：发给 {to} 的邮件（收件人 {recipient}）被退回：{kind:label} {code} {reason}",
    )
    def letter_bounced(self, *, job: str, recipient: int, to: str, kind: str, code: str, reason: str) -> None: ...

    @event(
        "info",
        en="job {job}: letter to {to} (recipient {recipient}) was answered: {fate}, by {by}",
        zh="任务 {job}：发给 {to} 的邮件（收件人 {recipient}）得到回应：{fate:label}，来自 {by}",
    )
    def letter_answered(self, *, job: str, recipient: int, to: str, fate: str, by: str) -> None: ...

    @event(
        "warning",
        en="job {job}: letter to {to} (recipient {recipient}) was not sent after all: Google's limit notice gave it back; "
        "{fate}",
        zh="任务 {job}：发给 {to} 的邮件（收件人 {recipient}）实际上未发出：Google 的限额通知已将其退还；{fate}",
    )
    def letter_given_back(self, *, job: str, recipient: int, to: str, sender: str, fate: str) -> None: ...

    @event(
        "warning",
        en="{sender} rests for {seconds:span}, by what its inbox says ({pause}): {reason}",
        zh="{sender} 根据收件箱内容暂停 {seconds:span}（{pause:label}）：{reason}",
    )
    def sender_rests(self, *, sender: str, pause: str, reason: str, seconds: float) -> None: ...

    @event("warning", en="job {job} is paused: {reason}", zh="任务 {job} 已暂停：{reason}")
    def job_paused_for_bounces(self, *, job: str, sender: str, reason: str) -> None: ...

    @event("warning", en="job {job}: {reason}", zh="任务 {job}：{reason}")
    def job_bounces(self, *, job: str, sender: str, reason: str) -> None: ...

    @event(
        "info",
        en="job {job} waits for {seconds:span} at most: {messages} messages came back to {sender}, and are read first",
        zh="任务 {job} 最多等待 {seconds:span}：{sender} 收到 {messages} 封回信，先行读取",
    )
    def job_braked(self, *, job: str, sender: str, messages: int, seconds: float) -> None: ...

    @event(
        "warning",
        en="message {gmail_id} in the inbox of {sender} claims to be a {kind} notice about the letter to {to}, and its proof is "
        "missing: nothing was changed",
        zh="{sender} 收件箱中的邮件 {gmail_id} 自称是关于发给 {to} 的邮件的 {kind:label} 通知，但缺少证明：未作任何改动",
    )
    def notice_not_believed(self, *, sender: str, gmail_id: str, kind: str, to: str) -> None: ...

    @event(
        "warning",
        en="message {gmail_id} in the inbox of {sender} could not be read three times and is passed over: {cause}",
        zh="{sender} 收件箱中的邮件 {gmail_id} 三次读取失败，已跳过：{cause}",
    )
    def notice_passed_over(self, *, sender: str, gmail_id: str, cause: str) -> None: ...

    @event(
        "warning",
        en="Google has forgotten the history of {sender}: its inbox is walked back to {since}",
        zh="Google 已丢弃 {sender} 的历史记录：将收件箱回溯至 {since}",
    )
    def history_forgotten(self, *, sender: str, since: str) -> None: ...

    @event(
        "error",
        en="message {gmail_id} in the inbox of {sender} met a bug in mailerd; please report the stack",
        zh="{sender} 收件箱中的邮件 {gmail_id} 触发了 mailerd 的缺陷；请报告堆栈",
    )
    def notice_crashed(self, *, sender: str, gmail_id: str, error: BaseException) -> None: ...

    @event(
        "error",
        en="{what} met a bug in mailerd; letters are sent all the same; again in {again_in:span}; please report the stack",
        zh="{what}触发了 mailerd 的缺陷；邮件发送不受影响；{again_in:span}后重试；请报告堆栈",
    )
    def inbox_crashed(self, *, what: str, again_in: float, error: BaseException) -> None: ...

    @event("warning", en="{what} failed; again in {again_in:span}", zh="{what}失败；{again_in:span}后重试")
    def inbox_step_failed(self, *, what: str, again_in: float, error: BaseException) -> None: ...
