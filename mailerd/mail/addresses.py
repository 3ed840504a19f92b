"""Checks email addresses: email-validator decides, and plain addresses of a domain that it knows are accepted here."""

import re
from typing import Final

from email_validator import EmailNotValidError, validate_email

MAX_ADDRESS: Final = 254
"""The most characters of an address (RFC 3696, erratum 1690)."""
MAX_LOCAL_PART: Final = 64
"""The most octets before the @ (RFC 5321, section 4.5.3.1.1)."""
_MAX_DOMAINS: Final = 50_000

# The dot-atom of RFC 5322, section 3.2.3, which email-validator accepts as it stands.
_PLAIN_LOCAL: Final = re.compile(r"[\w!#$%&'*+\-/=?^`{|}~]+(?:\.[\w!#$%&'*+\-/=?^`{|}~]+)*", re.ASCII)


class Addresses:
    """Checks many addresses fast: each plain domain is validated once."""

    def __init__(self) -> None:
        self._good: set[str] = set()

    def check(self, given: str) -> str:
        """The address without surrounding spaces and with its domain in lower case, in ASCII: as a header takes it.

        Raises:
            ValueError: it is not an address; the text says why.
        """
        address = given.strip()
        if (over := len(address) - MAX_ADDRESS) > 0:  # email-validator looks at each character before it counts them
            raise ValueError(f"The email address is too long ({over} characters too many).")
        local, at, domain = address.rpartition("@")
        domain = domain.lower()
        address = f"{local}{at}{domain}"
        if len(local) <= MAX_LOCAL_PART and _PLAIN_LOCAL.fullmatch(local):
            if domain in self._good:
                return address
            _validate(f"x@{domain}")
            # A domain that is not plain ASCII may be longer in its ASCII form, so it is validated each time.
            if domain.isascii() and "xn--" not in domain and len(self._good) < _MAX_DOMAINS:
                self._good.add(domain)
                return address
        ascii_domain = _validate(address)
        return f"{local}{at}{ascii_domain}"


def _validate(address: str) -> str:
    """The domain as DNS and headers have it (RFC 5891)."""
    try:
        # Without SMTPUTF8: a mailbox name outside ASCII could not be written into a header.
        return validate_email(address, check_deliverability=False, allow_smtputf8=False, strict=True).ascii_domain
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None


def mailbox(given: str) -> str:
    """A sender's address in lower case: to Google, Me@ and me@ are one mailbox, and limits are per mailbox.

    Raises:
        ValueError: it is not an address.
    """
    return Addresses().check(given).lower()


def unsubscribe_mailbox(mailbox: str) -> str:
    """Where a letter that unsubscribes goes: the mailbox that is read, with a tag by which a filter can find it.

    It is never an alias of it, and it has no tag where its name would become too long.
    """
    local, _, domain = mailbox.rpartition("@")
    tagged = f"{local}+unsub"
    return f"{tagged if len(tagged) <= MAX_LOCAL_PART else local}@{domain}"
