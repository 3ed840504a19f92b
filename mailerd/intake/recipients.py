"""Every recipient of a request looked at, in one pass: what is good becomes a row, what is not gets its reasons."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from mailerd.core.variables import merge
from mailerd.intake.addresses import Addresses
from mailerd.intake.attaching import Luggage
from mailerd.intake.contract import LANGUAGE, LINE_AT_MOST, TROUBLES_AT_MOST, one_name
from mailerd.intake.parsing import encode, unwieldy
from mailerd.intake.problems import REASON_AT_MOST, Faults, ProblemError, cut
from mailerd.store.attachments import Attached
from mailerd.store.jobs import NewRecipient

CHECK_WITHIN: Final = 30.0
"""Seconds for all recipients of one job; a plain job of 100,000 takes one, a costly template may take for ever."""
EMAIL_COLUMN: Final = 320
_FIELDS: Final = frozenset({"email", "name", "variables", "language", "attachments"})


class Renders(Protocol):
    """What is asked of a compiled template."""

    def troubles(self, variables: Mapping[str, object]) -> Sequence[Exception]:
        """Why these variables will not render; nothing when they will."""


@dataclass(frozen=True)
class Rejection:
    """A recipient that gets no letter."""

    index: int
    email: str
    reason: str


@dataclass
class Checked:
    """All recipients of a request, in its order, with what is wrong with some of them."""

    rows: list[NewRecipient] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)
    """What single recipients get besides."""
    faults: Faults = field(default_factory=Faults)


def check(
    items: list[Any],
    *,
    template: Renders | None,
    variables: Mapping[str, object],
    luggage: Luggage,
    allow_duplicates: bool = False,
    keep: bool = False,
) -> Checked:
    """Check every recipient; `items` is emptied on the way, so that request and rows are never whole at once.

    `template` None means that it has faults of its own, and nobody can say what does not fit it. `keep`: bad recipients
    are kept as such; without it nobody looks on once there are enough faults to refuse the request.

    Raises:
        ProblemError: 422, the template is too costly for so many recipients.
    """
    until = time.monotonic() + CHECK_WITHIN
    found = Checked()
    checker = _Checker(template, variables, luggage, found.attached, allow_duplicates=allow_duplicates)
    for index, item in enumerate(items):
        items[index] = None
        if time.monotonic() > until:
            raise ProblemError(
                422,
                "too_costly",
                f"after {CHECK_WITHIN:g} s only {index:,} of {len(items):,} recipients were checked against the "
                "template: make it simpler or split the job; nothing was stored",
            )
        row, faults = checker.one(item, index)
        found.rows.append(row)
        if faults:
            found.rejected.append(Rejection(index, row.email, row.error or ""))
            for name, why in faults:
                found.faults.add(partial(_field, index, name), why)
            if not keep and found.faults.are_enough:
                break
    return found


def _field(index: int, name: str) -> str:
    return f"recipients[{index}].{name}" if name else f"recipients[{index}]"


_Faults = list[tuple[str, str]]
"""Field of a recipient ("" for the whole of it) and what is wrong with it."""


class _Checker:
    """Looks at one recipient after the other, and remembers the addresses."""

    def __init__(
        self,
        template: Renders | None,
        variables: Mapping[str, object],
        luggage: Luggage,
        attached: list[Attached],
        *,
        allow_duplicates: bool,
    ) -> None:
        self._template = template
        self._variables = variables
        self._luggage = luggage
        self._attached = attached
        self._allow_duplicates = allow_duplicates
        self._addresses = Addresses()
        self._seen: dict[str, int] = {}

    def one(self, item: object, index: int) -> tuple[NewRecipient, _Faults]:
        """Its row and what is wrong with it; a row with faults carries them as its error."""
        faults: _Faults = []
        if not isinstance(item, dict):
            return NewRecipient("", None, None, "must be an object"), [("", "must be an object")]
        if not item.keys() <= _FIELDS:
            unknown = [name for name in item if name not in _FIELDS]
            faults.extend((name, "unknown field") for name in unknown[:TROUBLES_AT_MOST])
            if len(unknown) > TROUBLES_AT_MOST:
                faults.append(("", f"has {len(unknown) - TROUBLES_AT_MOST:,} more unknown fields"))
        email = self._email(item.get("email"), faults)
        name = _name(item.get("name"), faults)
        own, stored = _own(_with_language(item, faults), faults)
        given = item.get("attachments")
        attached = [] if given is None else self._luggage.of_recipient(given, index, faults)
        if self._template is not None and not faults:
            troubles = self._template.troubles(merge(self._variables, own, email=email, name=name))
            if troubles:
                faults.append(("variables", _listed(troubles)))
        if faults:
            reasons = "; ".join(why if part in {"", "email"} else f"{part}: {why}" for part, why in faults)
            return NewRecipient(email, name, stored, cut(reasons)), faults
        self._seen[email] = index
        self._attached += attached
        return NewRecipient(email, name, stored), faults

    def _email(self, given: object, faults: _Faults) -> str:
        if not isinstance(given, str):
            faults.append(("email", "is required" if given is None else "must be a string"))
            return ""
        try:
            address = self._addresses.check(given)
        except ValueError as error:
            faults.append(("email", str(error)))
            return given[:EMAIL_COLUMN]
        first = None if self._allow_duplicates else self._seen.get(address)
        if first is not None:
            faults.append(("email", f"duplicate of recipients[{first}]"))
        return address


def _listed(troubles: Sequence[Exception]) -> str:
    """The first of them, as many as a reason has room for, and the number of the others."""
    said = [str(troubles[0])]
    for each in troubles[1:TROUBLES_AT_MOST]:
        if sum(map(len, said)) + 2 * len(said) + len(str(each)) > REASON_AT_MOST - len("; and 1000 more"):
            break
        said.append(str(each))
    more = len(troubles) - len(said)
    return "; ".join([*said, *([f"and {more} more"] if more else [])])


def _name(given: object, faults: _Faults) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        faults.append(("name", "must be a string"))
        return None
    name = given.strip(" ")
    if len(name) > LINE_AT_MOST:
        faults.append(("name", f"is longer than {LINE_AT_MOST} characters"))
        return None
    try:
        return one_name(name) or None  # an empty name is no name: "Dear ," is nobody's wish
    except ValueError as error:
        faults.append(("name", str(error)))
        return None


def _with_language(item: dict[str, Any], faults: _Faults) -> object:
    """A recipient's variables; its language is one of them, so that a template can also ask for it."""
    language, variables = item.get("language"), item.get("variables")
    if language is None:
        return variables
    if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
        faults.append(("language", "must be a language such as zh or zh-TW"))
        return variables
    if not isinstance(variables, dict):
        return {"language": language} if variables is None else variables
    if variables.get("language", language) != language:
        faults.append(("language", "is another one than variables.language"))
    return {**variables, "language": language}


def _own(given: object, faults: _Faults) -> tuple[dict[str, Any] | None, str | None]:
    """A recipient's own variables, and as they are stored."""
    if given is None or given == {}:
        return None, None
    if not isinstance(given, dict):
        faults.append(("variables", "must be an object"))
    elif why := unwieldy(given):
        faults.append(("variables", why))
    else:
        try:
            return given, encode(given)
        except ValueError as error:
            faults.append(("variables", str(error)))
    return None, None
