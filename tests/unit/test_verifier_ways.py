"""Who is asked for at the moment: pure."""

from datetime import timedelta

from services.verifier.checks.ways import Ways
from tests.support.builders import NOW

LATER = NOW + timedelta(seconds=10)
NOBODY: tuple[list[str], list[str], None] = ([], [], None)


def ways(**keys: str) -> Ways:
    return Ways(4, keys.get)


def test_at_first_all_ways_are_open() -> None:
    assert ways(acme="k").look(NOW) == NOBODY


def test_a_way_is_closed_until_its_moment() -> None:
    made = ways(acme="k")
    made.close("acme", "k", LATER, humans=True)
    assert made.look(NOW) == (["acme"], [], LATER)
    assert made.look(LATER) == NOBODY


def test_a_way_may_stay_open_for_humans() -> None:
    made = ways(acme="k")
    made.close("acme", "k", LATER, humans=False)
    assert made.look(NOW) == ([], ["acme"], LATER)


def test_another_key_opens_the_way_at_once() -> None:
    keys: dict[str, str] = {}
    made = Ways(4, keys.get)
    made.close("acme", None, LATER, humans=True)
    assert made.look(NOW)[0] == ["acme"]
    keys["acme"] = "k"
    assert made.look(NOW) == NOBODY


def test_what_opens_first_is_said() -> None:
    made = ways(acme="k", other="k")
    made.close("other", "k", LATER + timedelta(seconds=1), humans=True)
    made.close("acme", "k", LATER, humans=True)
    assert made.look(NOW)[2] == LATER


def test_a_company_has_so_many_under_way_at_most() -> None:
    made = ways(acme="k")
    for _ in range(4):
        assert made.look(NOW) == NOBODY
        made.began("acme")
    assert made.look(NOW) == ([], ["acme"], None)
    made.ended("acme")
    assert made.look(NOW) == NOBODY


def test_a_key_that_is_short_halves_that_and_every_answer_gives_one_back() -> None:
    made = ways(acme="k")
    made.began("acme")
    for _ in range(9):
        made.short("acme")
    assert made.look(NOW)[1] == ["acme"], "one is always allowed, and under way"
    made.answered("acme")
    assert made.look(NOW) == NOBODY
    for _ in range(9):
        made.answered("acme")
    for _ in range(3):
        made.began("acme")
    assert made.look(NOW)[1] == ["acme"]
