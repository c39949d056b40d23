"""Reading Cal.com's list of bookings while it changes: nothing of it is lost, whatever moves."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from services.verifier.answers import Bookings, Row
from services.verifier.ports import ListQuery
from services.verifier.rounds import paging
from services.verifier.rounds.paging import SHARED, TAKE_MAX, End, Paging
from tests.support.builders import z_ms

BEGIN: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
PAGES: Final = 60


class Listed(Struct):
    """Bookings as the list of Cal.com has them; its clock goes on by a second with every change."""

    rows: dict[str, Row]
    seconds: int = 0
    filters: bool = True
    sorts: bool = True

    def now(self) -> datetime:
        """Give the time of the next change."""
        return BEGIN + timedelta(seconds=self.seconds)

    def put(self, uid: str, **more: Any) -> None:
        """Make or change a booking."""
        self.seconds += 1
        before = self.rows.get(uid, {"uid": uid, "createdAt": z_ms(self.now()), "start": z_ms(self.now())})
        self.rows[uid] = before | {"updatedAt": z_ms(self.now())} | more

    def put_at_once(self, uids: list[str]) -> None:
        """Change many at one moment, as a series is called off."""
        self.seconds += 1
        for uid in uids:
            self.rows[uid] = self.rows.get(uid, {"uid": uid}) | {"updatedAt": z_ms(self.now())}

    def answer(self, asked: ListQuery) -> Bookings:
        """Answer a query as Cal.com does: both bounds included, equal ones in the order of their names."""
        by = "start" if asked.sort_start else "updatedAt"
        after = asked.after_start or asked.after_updated_at
        found = sorted(self.rows.values(), key=lambda row: str(row["uid"]))
        if self.filters and after is not None:
            found = [row for row in found if row[by] is not None and row[by] >= z_ms(after)]
        if self.sorts:
            backwards = "desc" in (asked.sort_start, asked.sort_updated_at)
            found.sort(key=lambda row: str(row[by] or "9"), reverse=backwards)
        page = found[asked.skip : asked.skip + asked.take]
        return Bookings(rows=tuple(page), has_more=asked.skip + len(page) < len(found))


def listed(count: int, **more: Any) -> Listed:
    made = Listed({}, **more)
    for number in range(count):
        made.put(f"b{number:05}")
    return made


def read(
    there: Listed, at: Paging, *, meanwhile: list[list[tuple[str, str]]] | None = None
) -> tuple[Paging, list[Row]]:
    """Read to the end; after each page the next of `meanwhile` happens."""
    told: list[Row] = []
    changes = iter(meanwhile or [])
    while at.end is None:
        assert at.pages < PAGES * 4, "reading comes to an end"
        page = there.answer(paging.query(at))
        at = paging.turn(at, page, ignored_pages_max=PAGES)
        told += paging.wanted(at, page.rows)
        for what, uid in next(changes, []):
            change(there, what, uid)
    return at, told


def change(there: Listed, what: str, uid: str) -> None:
    if what == "put":
        there.put(uid)
    elif what == "remove":
        there.rows.pop(uid, None)
    else:
        there.put_at_once([f"b{number:05}" for number in range(0, 200, 3)])


def lost(there: Listed, told: list[Row], since: datetime, until: datetime) -> list[str]:
    """Give what lies in the range at the end and was not told of in this state."""
    names = {paging.name(row) for row in told}
    wanted = [row for row in there.rows.values() if z_ms(since) <= str(row["updatedAt"]) <= z_ms(until)]
    return [str(row["uid"]) for row in wanted if paging.name(row) not in names]


uids = st.integers(0, 320).map(lambda number: f"b{number:05}")
happening = st.tuples(st.sampled_from(["put", "put", "remove", "series"]), uids)
meanwhiles = st.lists(st.lists(happening, max_size=12), max_size=12)


@given(count=st.integers(0, 260), take=st.integers(5, 40), meanwhile=meanwhiles, first=st.integers(0, 200))
def test_a_page_that_shifts_loses_nothing(
    count: int, take: int, meanwhile: list[list[tuple[str, str]]], first: int
) -> None:
    there = listed(count)
    since, until = BEGIN + timedelta(seconds=first), there.now()
    at, told = read(there, paging.begin("updatedAt", since, take=take), meanwhile=meanwhile)
    assert at.end is not None
    assert not at.ignored
    if at.end is End.COMPLETE:
        assert lost(there, told, since, until) == []


@given(count=st.integers(0, 700), first=st.integers(0, 400), meanwhile=meanwhiles)
def test_without_its_filter_the_list_is_read_all_the_same(
    count: int, first: int, meanwhile: list[list[tuple[str, str]]]
) -> None:
    there = listed(count, filters=False)
    since, until = BEGIN + timedelta(seconds=first), there.now()
    at, told = read(there, paging.begin("updatedAt", since, take=100), meanwhile=meanwhile)
    assert all(row["updatedAt"] >= z_ms(since) for row in told)
    if at.end is End.COMPLETE:
        assert lost(there, told, since, until) == []


def test_a_list_without_its_filter_is_read_newest_first_and_no_further_than_asked_for() -> None:
    there = listed(5000, filters=False)
    since = there.now() - timedelta(seconds=300)
    at, told = read(there, paging.begin("updatedAt", since, take=100))
    assert (at.ignored, at.end, at.pages) == (True, End.COMPLETE, 2)
    assert {row["uid"] for row in told} == {f"b{number:05}" for number in range(4699, 5000)}


def test_a_list_without_filter_and_order_is_read_to_its_end() -> None:
    there = listed(900, filters=False, sorts=False)
    there.put("b00003")
    there.put("b00444")
    since = there.now() - timedelta(seconds=1)
    at, told = read(there, paging.begin("updatedAt", since, take=100))
    assert (at.ignored, at.end) == (True, End.COMPLETE)
    assert {row["uid"] for row in told} == {"b00003", "b00444"}


def test_an_order_that_was_not_kept_once_is_not_trusted_to_end_the_reading() -> None:
    there = listed(0, filters=False, sorts=False)
    for number in reversed(range(2, 400)):  # as it lies, the list looks like one that is sorted, but for its end
        there.put(f"b{number:05}")
    there.put("b00400")
    there.put("b00001")
    there.put("b00000")
    since = there.now() - timedelta(seconds=2)
    at, told = read(there, paging.begin("updatedAt", since, take=100))
    assert (at.ignored, at.end) == (True, End.COMPLETE)
    assert {row["uid"] for row in told} == {"b00000", "b00001", "b00400"}


def test_a_list_that_ignores_skip_too_is_given_up() -> None:
    there = listed(0)
    there.put_at_once([f"b{number:05}" for number in range(2 * TAKE_MAX)])
    at = paging.begin("updatedAt", BEGIN, take=100)
    while at.end is None:
        asked = paging.query(at)
        at = paging.turn(at, there.answer(replace(asked, skip=0)), ignored_pages_max=PAGES)
    assert (at.end, at.pages < 12) == (End.UNSTEADY, True)


def test_what_is_too_much_to_be_read_without_a_filter_is_said_to_be() -> None:
    there = listed(PAGES * TAKE_MAX + 1, filters=False, sorts=False)
    there.put("b00001")
    at, _ = read(there, paging.begin("updatedAt", there.now(), take=100))
    assert at.end is End.TOO_MUCH


def test_more_rows_of_one_moment_than_a_page_holds_are_all_read() -> None:
    there = listed(0)
    many = [f"b{number:05}" for number in range(3 * TAKE_MAX)]
    there.put_at_once(many)
    there.put("last")
    at, told = read(there, paging.begin("updatedAt", BEGIN, take=100))
    assert at.end is End.COMPLETE
    assert {row["uid"] for row in told} == {*many, "last"}


def test_rows_of_one_moment_that_move_up_past_the_reader_are_read_again() -> None:
    there = listed(0)
    many = [f"b{number:05}" for number in range(3 * TAKE_MAX)]
    there.put_at_once(many)
    until = there.now()
    at = paging.begin("updatedAt", BEGIN, take=TAKE_MAX)
    moved = [("put", f"b{number:05}") for number in range(SHARED + 30)]
    at, told = read(there, at, meanwhile=[[], moved])
    assert at.end is End.COMPLETE
    assert lost(there, told, BEGIN, until) == []


def test_an_empty_page_in_the_middle_is_no_end() -> None:
    at = paging.begin("start", BEGIN, take=2)
    rows = ({"uid": "b1", "start": z_ms(BEGIN)}, {"uid": "b2", "start": z_ms(BEGIN + timedelta(hours=1))})
    at = paging.turn(at, Bookings(rows=rows, has_more=True), ignored_pages_max=PAGES)
    assert paging.turn(at, Bookings(rows=()), ignored_pages_max=PAGES).end is End.UNSTEADY
    first = paging.begin("start", BEGIN, take=2)
    assert paging.turn(first, Bookings(rows=()), ignored_pages_max=PAGES).end is End.COMPLETE


def test_the_next_page_begins_at_the_last_row_and_has_it_again() -> None:
    there = listed(12)
    at = paging.begin("updatedAt", BEGIN, take=10)
    page = there.answer(paging.query(at))
    at = paging.turn(at, page, ignored_pages_max=PAGES)
    assert paging.query(at).skip == 0
    assert there.answer(paging.query(at)).rows[0] == page.rows[-1]


def test_a_booking_that_was_never_updated_counts_by_when_it_was_made() -> None:
    made = {"uid": "b1", "updatedAt": None, "createdAt": z_ms(BEGIN)}
    assert paging.moment_of(made, "updatedAt") == BEGIN
    assert paging.name(made) == ("b1", z_ms(BEGIN))
    at = paging.begin("updatedAt", BEGIN + timedelta(seconds=1), take=10)
    assert paging.wanted(at, [made]) == []


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-11-24T09:00:00", "9999-12-31T23:59:59-23:59", 7, None, {}])
def test_what_is_no_instant_is_none(text: object) -> None:
    assert paging.instant(text) is None


def test_pages_are_asked_for_by_the_start_too() -> None:
    asked = paging.query(paging.begin("start", BEGIN, take=250))
    assert asked == ListQuery(after_start=BEGIN - timedelta(milliseconds=1), sort_start="asc", take=250)
