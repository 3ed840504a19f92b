"""Which language of a template a recipient gets; intake and worker must choose alike."""

from collections.abc import Collection


def choose(wanted: object, *, among: Collection[str]) -> str | None:
    """The nearest of `among`, all in lower case: zh-Hant-TW takes zh-hant-tw, zh-hant or zh; None means the default."""
    if not isinstance(wanted, str):
        return None
    tag = wanted.lower().replace("_", "-")
    while tag:
        if tag in among:
            return tag
        tag = tag.rpartition("-")[0]
    return None
