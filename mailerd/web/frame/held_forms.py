"""Forms that came after their session had ended: shown once more to the same key, and sent only by
its person.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mailerd.errors import MailerdError
from mailerd.web.frame.forms import read_form
from mailerd.web.frame.guards import session_of
from mailerd.web.frame.services import ConsoleRequest, Services

MAX_HELD_FORM: Final = 1024 * 1024
"""Bytes of a form that is held."""
MAX_HELD: Final = 64
"""Forms that are held at once; a further one is not."""
MAX_OF_KEY: Final = 4
"""Of one key, one for each session; of more, its oldest is forgotten."""
HELD_FOR: Final = 900.0
"""Seconds between the form and the sign-in, at most."""
MAX_READING: Final = 32
"""Forms that are read at once, MAX_OF_KEY of one key: one that comes slowly holds up its own key
alone.
"""


@dataclass(frozen=True)
class HeldForm:
    """What a person had entered."""

    key_id: int
    path: str
    fields: Sequence[tuple[str, str]]
    has_file: bool
    """It had one, which is not kept."""
    until: float


class HeldForms:
    """Holds them in memory, by the secret of the session that has ended, and after the sign-in by
    that of the new one.

    Only forms of our own pages come here: `guards` has refused the others. Only who shows a secret
    that was a session is heard: strangers fill no memory. And only the key of that session is shown
    the form: for another one it is gone.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._forms: dict[str, HeldForm] = {}
        self._reading = Counter[int]()

    async def hold(self, request: web.Request) -> bool:
        """Keep the form of a request whose session has ended; False: it cannot be kept."""
        secret = session_of(request)
        try:
            key_id = await self._services.sessions.ended(secret) if secret else None
            if (
                key_id is None
                or self._reading[key_id] >= MAX_OF_KEY
                or self._reading.total() >= MAX_READING
            ):
                return False
            self._reading[key_id] += 1
            try:
                form = await read_form(request, most=MAX_HELD_FORM)
            finally:
                self._reading[key_id] -= 1
        except MailerdError:
            return False
        files = {name for name, value in form.fields if isinstance(value, bytes)}
        gone = files | {f"{name}.name" for name in files}
        kept = [
            (name, value)
            for name, value in form.fields
            if isinstance(value, str) and name not in gone
        ]
        until = self._services.clock.monotonic() + HELD_FOR
        return self._keep(secret, HeldForm(key_id, request.raw_path, kept, bool(files), until))

    def _keep(self, secret: str, form: HeldForm) -> bool:
        self._forms.pop(secret, None)
        now = self._services.clock.monotonic()
        self._forms = {secret: each for secret, each in self._forms.items() if each.until > now}
        own = [secret for secret, each in self._forms.items() if each.key_id == form.key_id]
        if len(own) >= MAX_OF_KEY:
            del self._forms[own[0]]
        if is_room := len(self._forms) < MAX_HELD:
            self._forms[secret] = form
        return is_room

    def hand_over(self, request: web.Request, session: str) -> bool:
        """Whether who signs in now had a form, which is then that of the new session."""
        form = self._forms.pop(session_of(request), None)
        if form is not None:
            self._keep(session, form)
        return form is not None

    def forget(self, it: ConsoleRequest) -> None:
        """A form was sent: if it is the one that is held, it is done with."""
        form = self._forms.get(session_of(it.http))
        if form is not None and form.path == it.http.raw_path:
            del self._forms[session_of(it.http)]

    async def show(self, it: ConsoleRequest) -> web.Response:
        """The form, and the button that sends it."""
        form = self._forms.get(session_of(it.http))
        if form is None or form.key_id != it.key.id or form.until < it.services.clock.monotonic():
            self._forms.pop(session_of(it.http), None)
            return it.back("/")
        return it.page("again.html", active="", live=False, form=form)
