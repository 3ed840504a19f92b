"""The storms of the inbox reader, small: whatever dies, every result is right and none is written twice."""

from pathlib import Path

import pytest

from tests.inbox.storm import person_storm, resent_storm, results_storm


@pytest.mark.slow
async def test_every_result_is_right_though_the_readers_are_killed(tmp_path: Path) -> None:
    seen = await results_storm(200, kills=6, limits=20, forged=20, folder=tmp_path)
    assert seen.wrong == {}
    assert (seen.twice, seen.suppressed_wrongly, seen.undone) == (0, [], 20)
    assert seen.notes["about the owner's own"] == 10
    assert seen.notes["not believed"] in range(20, 31), (
        "one whose message was sent again meanwhile is in no thread of ours"
    )


@pytest.mark.slow
async def test_what_google_gives_back_arrives_once(tmp_path: Path) -> None:
    seen = await resent_storm(100, dropped=40, kills=3, folder=tmp_path)
    assert (seen.missing, seen.duplicates, seen.undone, seen.notes["given back"]) == ([], 0, 40, 40)


@pytest.mark.slow
async def test_a_person_beside_a_daemon_is_never_refused(tmp_path: Path) -> None:
    seen = await person_storm(200, reserve=4, folder=tmp_path)
    assert (seen.notes["by hand, refused"], seen.notes["refused"], seen.notes["given back"]) == (0, {}, 0)
    assert float(str(seen.notes["of the day, before the person's rest"])) >= 0.98
    assert seen.notes["of the day"] == 1.0
    assert seen.notes["known"] == seen.notes["by hand"]
