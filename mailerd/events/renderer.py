"""Events of the processes that run clients' templates."""

from mailerd.events.base import EventEmitter, event


class RendererEvents(EventEmitter):
    """The child processes that render templates: their ends, and that they do not start."""

    @event(
        "warning",
        en="renderer {renderer} ended while it worked on a template of {origin}: {cause}; another is started",
        zh="渲染进程 {renderer} 在处理 {origin} 的模板时结束：{cause}；将启动新的进程",
    )
    def renderer_ended(self, *, renderer: str, origin: str, cause: str) -> None: ...

    @event(
        "error",
        en="renderer {renderer} was ended {count} times within a minute, lastly over a template of {origin}: {cause}",
        zh="渲染进程 {renderer} 一分钟内结束了 {count} 次，最近一次在处理 {origin} 的模板时：{cause}",
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
