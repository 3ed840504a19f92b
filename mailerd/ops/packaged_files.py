"""The files that come with mailerd: in an installation below `share` in the package, in a checkout
below its root.
"""

from pathlib import Path

import mailerd
from mailerd.core.i18n import t
from mailerd.errors import MailerdError


def packaged(name: str) -> Path:
    """A file or a folder of them.

    Raises:
        MailerdError: it was left out when mailerd was packaged.
    """
    package = Path(mailerd.__file__).parent
    for root in (package / "share", package.parent):
        if (found := root / name).exists():
            return found
    raise MailerdError(
        t("{name} is missing from this installation; the wheel and a checkout have it", name=name)
    )
