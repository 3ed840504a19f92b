"""`mailerd audit`: checks that counts and rows of every job agree."""

from typing import Final

import typer

from mailerd.cli.common import ConfigOption, open_database, run_async, settings, warnings_only
from mailerd.cli.failure import say_failed
from mailerd.config import Settings
from mailerd.core.plural import counted
from mailerd.errors import ConfigurationError, MailerdError
from mailerd.store import describe
from mailerd.store.audit import audit as look
from mailerd.store.audit import proofs
from mailerd.store.default_limits import default_limits
from mailerd.texts import tr

_NOT_EXAMINED: Final = 3
"""The exit code of an audit that could not read the tables: it is no finding."""


def audit(config: ConfigOption = None) -> None:
    """Check that the counts and rows of every job agree, one line per finding.

    The exit code is 0 when there are none, 1 when there are some, 3 when the tables could not be read.
    """
    try:
        findings = run_async(_audit(settings(config)))
    except ConfigurationError:
        raise
    except MailerdError as error:
        say_failed(error)
        raise typer.Exit(_NOT_EXAMINED) from error
    if findings:
        raise typer.Exit(1)


async def _audit(known: Settings) -> int:
    async with open_database(known, warnings_only(known).write) as database:
        jobs, findings = await look(database, defaults=default_limits(known))
        by_proof = await proofs(database)
    for finding in findings:
        print(f"{finding.where}: {finding.kind}: {finding.what}")
    if by_proof:
        print(tr(f"letters sent, by proof: {describe.by_proof(by_proof)}"))
    print(tr(f"{counted(jobs, 'job')} checked, {counted(len(findings), 'finding')}"))
    return len(findings)
