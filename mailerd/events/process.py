"""What the process as a whole says."""

from mailerd.events.speech import Speech, event


class ProcessEvents(Speech):
    """The end that nobody wished for."""

    @event("critical", en="mailerd cannot run: {cause}", zh="mailerd 无法运行：{cause}")
    def process_refused(self, *, cause: str) -> None: ...

    @event(
        "critical",
        en="mailerd ends: a part met an error that nobody foresaw; the stack says where. Please report it",
        zh="mailerd 退出：某个部分遇到意外错误；堆栈信息指明位置。请报告此问题",
    )
    def process_died(self, *, error: BaseException) -> None: ...
