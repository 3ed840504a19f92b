"""What a server's own words make of it: a writer, a replica, or one that its group would not stand behind."""

import pytest

from mailerd.store.db.writer import GroupMember, ServerRole, WriterTerm, choose, trouble, without_former

GROUP = {"group_replication_group_name": "g", "server_uuid": "a"}


def members(*states: str, role: str = "PRIMARY") -> tuple[GroupMember, ...]:
    """A group of a, b, c …; a has the role."""
    return tuple(
        GroupMember(id=chr(ord("a") + n), state=state, role=role if n == 0 else "SECONDARY")
        for n, state in enumerate(states)
    )


@pytest.mark.parametrize("off", ["OFF", "0"])
def test_a_server_that_is_not_read_only_takes_writes(off: str) -> None:
    assert trouble({"read_only": off, "super_read_only": off, "innodb_read_only": off}, ()) == ""


@pytest.mark.parametrize("name", ["read_only", "super_read_only", "innodb_read_only"])
@pytest.mark.parametrize("on", ["ON", "1", "NO_LOCK"])  # the last: MariaDB 12
def test_a_read_only_server_takes_none(name: str, on: str) -> None:
    assert trouble({name: on}, ()) == f"read-only ({name})"


@pytest.mark.parametrize(
    "group, said",
    [
        (members("ONLINE", "ONLINE", "ONLINE"), ""),
        (members("ONLINE", "ONLINE", "UNREACHABLE"), ""),
        (members("ONLINE"), ""),
        (members("ONLINE", "UNREACHABLE", "UNREACHABLE"), "cut off from its group (sees 1 of 3 members)"),
        (members("ONLINE", "UNREACHABLE"), "cut off from its group (sees 1 of 2 members)"),
        (members("ONLINE", "ONLINE", "ONLINE", role="SECONDARY"), "secondary in its group"),
        (members("RECOVERING", "ONLINE", "ONLINE"), "not in its group (RECOVERING)"),
        (members("ERROR"), "not in its group (ERROR)"),
        ((), "not in its group (OFFLINE)"),
        (None, ""),  # hidden from this user: its variables are all that is known
    ],
)
def test_a_member_writes_only_with_its_group_behind_it(group: tuple[GroupMember, ...] | None, said: str) -> None:
    assert trouble(GROUP, group) == said


def test_two_addresses_of_one_server_are_one() -> None:
    assert [one.where for one in choose([ServerRole("a", server="x"), ServerRole("b", server="x")])] == ["b"]


def test_of_two_primaries_of_a_group_the_one_in_the_newer_view_is_right() -> None:
    old, new = ServerRole("old", view=("v", 4)), ServerRole("new", view=("v", 5))
    assert choose([old, new]) == [new]
    assert len(choose([old, ServerRole("of another group", view=("w", 9))])) == 2


def test_a_primary_whose_commits_wait_for_replicas_that_are_not_there_is_not_the_one() -> None:
    old, new = ServerRole("old", replicas=0), ServerRole("new", replicas=1)
    assert choose([old, new]) == [new]
    assert choose([old]) == [old]  # alone it is used, and waits
    assert len(choose([ServerRole("a"), ServerRole("b")])) == 2
    assert len(choose([ServerRole("a", replicas=0), ServerRole("waits for none")])) == 2
    assert choose([ServerRole("a", trouble="read-only")]) == []


def of_term(where: str, term: int | None, trouble: str = "") -> ServerRole:
    return ServerRole(where, trouble=trouble, term=None if term is None else WriterTerm(term, "x"))


@pytest.mark.parametrize(
    "term, others, known, own, former",
    [
        (5, 5, 5, {}, False),
        (5, 6, 0, {}, True),  # a replica knows of a move
        (5, 6, 6, {"it": 6}, True),
        (5, 5, 6, {}, True),  # this daemon does
        (5, 5, 6, {"it": 5}, True),
        (5, 5, 6, {"it": 6}, False),  # it was used last: a backup was restored into it and its replicas
        (5, None, 5, {}, False),  # the other one is silent
        (None, 6, 6, {}, False),  # it has no table of terms: nothing is known
    ],
)
def test_a_server_with_a_lower_term_than_is_known_is_a_former_primary(
    term: int | None, others: int | None, known: int, own: dict[str, int], *, former: bool
) -> None:
    roles = {"it": of_term("it", term), "replica": of_term("replica", others, "read-only")}
    judged = without_former(roles, known=known, own=own)
    assert judged["it"].former == former == (not judged["it"].writes)
    assert judged["replica"] == roles["replica"]
    assert ("a former primary" in judged["it"].trouble) == former
