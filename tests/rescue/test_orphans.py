"""The search for orphan drafts: a draft that is not ours is looked at once, however many there are."""

from mailerd.store.database import Database
from tests.rescue.place import Place
from tests.support.heard import Heard

ME = "me@example.com"


async def looks(place: Place) -> int:
    """How many drafts a search looks at."""
    place.google.asked.clear()
    await place.orphans.sweep(ME, progress=lambda: None)
    return sum(what != ME for what in place.google.asked)


async def test_ten_thousand_foreign_drafts_and_more_are_looked_at_once(database: Database, heard: Heard) -> None:
    place = Place(database, heard)
    place.google.drafts = [f"f{number}" for number in range(10_100)]
    assert await looks(place) == 10_100
    assert await looks(place) == 0
    place.google.drafts[5] = "new"
    assert await looks(place) == 1


async def test_only_the_newest_list_is_remembered(database: Database, heard: Heard) -> None:
    place = Place(database, heard)
    place.google.drafts = ["f1", "f2"]
    assert await looks(place) == 2
    place.google.drafts = ["f2"]
    assert await looks(place) == 0
    place.google.drafts = ["f1", "f2"]
    assert await looks(place) == 1
    place.orphans.forget_all_but(set())
    assert await looks(place) == 2
