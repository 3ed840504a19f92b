"""Reads `.env` in the working folder, when only its user or root can have written it (see `owned`)."""

from io import StringIO
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from mailerd.config import file_owner

PATH: Final = Path(".env")


def read_dotenv() -> dict[str, str]:
    """What `.env` sets; nothing where there is none.

    Raises:
        ConfigurationError: others could have written it, or it cannot be read.
    """
    text = file_owner.read(PATH) or ""
    return {key: value for key, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
