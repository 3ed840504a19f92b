"""What a letter sees of its job and its recipient: variables and language; intake and worker must choose alike."""

from collections.abc import Collection, Mapping


def merge(
    job: Mapping[str, object],
    own: Mapping[str, object] | None,
    *,
    email: str,
    name: str | None,
    unsubscribe_url: str = "",
) -> dict[str, object]:
    """The variables of one letter: the recipient's own win over the job's, and both over the address and the name.

    So `{{ email }}`, `{{ name }}` and `{{ unsubscribe_url }}` are there unless variables of these names were given.
    Without a name there is no `name` at all: the template has to handle a recipient without one. `unsubscribe_url` is
    empty where the job has no list.
    """
    merged: dict[str, object] = {"email": email, "unsubscribe_url": unsubscribe_url}
    if name is not None:
        merged["name"] = name
    merged.update(job)
    if own:
        merged.update(own)
    return merged


def choose_language(wanted: object, *, among: Collection[str]) -> str | None:
    """The nearest of `among`, all in lower case: zh-Hant-TW takes zh-hant-tw, zh-hant or zh; None means the default."""
    if not isinstance(wanted, str):
        return None
    tag = wanted.lower().replace("_", "-")
    while tag:
        if tag in among:
            return tag
        tag = tag.rpartition("-")[0]
    return None
