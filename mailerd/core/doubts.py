"""What a draft that is gone means, where the sign-in may not read the sent mail."""

from mailerd.core.states import Transition


def draft_gone(*, unanswered: bool, discarding: bool) -> Transition | None:
    """What became of a letter whose draft is gone; None: a person has to find out.

    `unanswered`: a send of that draft had no answer. `discarding`: its worker was deleting it and crashed, or had
    no answer. A draft goes by being sent, or by being deleted: by us, or by the mailbox's owner. One of
    the two explanations that we know of must be the only one, or nothing is decided.
    """
    match unanswered, discarding:
        case True, False:
            return Transition.FOUND  # it was on its way; an owner who deleted it would have left the same
        case False, True:
            return Transition.MISSING  # Google has refused every send, and we have asked for the deletion ourselves
        case _:
            return None


def needs_person_reason(*, unanswered: bool) -> str:
    """Why only a person can tell what became of a letter whose draft is gone, of which `draft_gone` decides nothing."""
    if unanswered:
        return (
            "its draft is gone, and may have been sent by a request that had no answer, or deleted by us after another "
            "was refused; this sign-in may not look: settle it"
        )
    return (
        "its draft is gone, though Google took none of its sends: it was deleted, or sent by hand, and this "
        "sign-in may not look: settle it"
    )
