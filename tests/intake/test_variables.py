"""Merging: what one message sees."""

from hypothesis import given
from hypothesis import strategies as st

from mailerd.mail.templates import merge_variables

VARIABLES = st.dictionaries(st.sampled_from(["name", "email", "product", "code"]), st.text(max_size=3))


@given(job=VARIABLES, own=VARIABLES | st.none(), name=st.text(max_size=3) | st.none())
def test_the_recipients_own_win_over_the_jobs_and_both_over_address_and_name(
    job: dict[str, object], own: dict[str, object] | None, name: str | None
) -> None:
    merged = merge_variables(job, own, email="a@example.com", name=name)

    for variable in ("name", "email", "product", "code"):
        offered = {"email": "a@example.com"} | ({} if name is None else {"name": name})
        candidates = [source[variable] for source in (own or {}, job, offered) if variable in source]
        assert merged.get(variable) == (candidates[0] if candidates else None)
        assert (variable in merged) == bool(candidates)


def test_merging_changes_nothing_that_it_was_given() -> None:
    job: dict[str, object] = {"product": "X"}

    merge_variables(job, {"product": "Y"}, email="a@example.com", name="Ada")

    assert job == {"product": "X"}
