"""One question to Cal.com: through chains and lists, by a gateway whose bookings and moods are the test's."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.observations import Check
from schemas.verification import Priority, Verdict
from services.verifier.answers import Answer, Bookings, NotThere, Reason, Row, Unauthorised, Unknown
from services.verifier.checks.asking import Asker, Outcome, Refused
from services.verifier.ports import Account, Call, GetBooking, ListQuery, NotNow, Observed
from tests.support.builders import NOW, STARTS_AT, api_booking, api_seat, z_ms
from tests.unit.test_verifier_verdict import CUID, asking

ACCOUNT = Account(company_id="acme", base_url="http://api.cal.test/v2", api_key="k", budget_id="b")
KIM = [{"name": "Kim", "email": "kim@example.org"}]
GONE = timedelta(seconds=31)


class Town:
    """A gateway over bookings in memory, with Cal.com's filters; each call takes a second."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.asked: list[Call] = []
        self.waits: list[float] = []
        self.instead: Callable[[Call], Answer | NotNow | None] = lambda _: None
        self.hears_email = self.hears_start = True
        self.now = NOW

    async def ask(
        self, account: Account, call: Call, *, priority: Priority, not_older_than: datetime | None = None,
        wait_seconds: float = 0.0,
    ) -> Observed | NotNow:  # fmt: skip
        assert (account, priority) == (ACCOUNT, Priority.DEADLINE)
        assert not_older_than is not None
        self.asked.append(call)
        self.waits.append(wait_seconds)
        self.now += timedelta(seconds=1)
        said = self.instead(call) or self._answer(call)
        return said if isinstance(said, NotNow) else Observed(said, self.now)

    def _answer(self, call: Call) -> Answer:
        if isinstance(call, GetBooking):
            found = tuple(row for row in self.rows if call.uid in (row["uid"], row.get("recurringBookingUid")))
            return Bookings(rows=found) if found else NotThere()
        assert isinstance(call, ListQuery)
        rows = [row for row in self.rows if self._passes(call, row)]
        if call.sort_start:
            rows.sort(key=lambda row: str(row["start"]), reverse=call.sort_start == "desc")
        page = rows[call.skip : call.skip + call.take]
        return Bookings(rows=tuple(page), has_more=len(rows) > call.skip + call.take)

    def _passes(self, call: ListQuery, row: Row) -> bool:
        if self.hears_start and call.after_start is not None and row["start"] < z_ms(call.after_start):
            return False
        emails = [person["email"] for person in row["attendees"]]
        return not self.hears_email or call.attendee_email is None or call.attendee_email in emails

    @property
    def emails(self) -> list[str]:
        return [call.attendee_email for call in self.asked if isinstance(call, ListQuery) and call.attendee_email]

    @property
    def uids(self) -> list[str]:
        return [call.uid for call in self.asked if isinstance(call, GetBooking)]

    async def hear(self, **question: Any) -> Outcome:
        return await Asker(self).ask(ACCOUNT, asking(**question), self.now)

    async def check(self, **question: Any) -> Check:
        outcome = await self.hear(**question)
        assert isinstance(outcome, Check)
        return outcome


def booking(uid: str, **over: Any) -> Row:
    """Give a booking that does not name its appointment."""
    given: dict[str, Any] = {"metadata": {}, "id": int.from_bytes(uid.encode()[-4:])} | over
    return api_booking(uid, **given)


def moved(uid: str, to: str, **over: Any) -> Row:
    return booking(uid, status="cancelled", rescheduledToUid=to, **over)


def others(count: int, **over: Any) -> list[Row]:
    """Give bookings of somebody else, an hour apart, the first at the appointment's start plus a day."""
    times = [STARTS_AT + timedelta(days=1, hours=n) for n in range(count)]
    return [booking(f"kim-{n}", attendees=KIM, start=z_ms(at), **over) for n, at in enumerate(times)]


# --- by uid


async def test_a_booking_is_asked_for_by_its_uid_alone() -> None:
    town = Town(booking("uid-1"))
    found = await town.check(uid="uid-1")
    assert (found.verdict, found.uid, found.bookings) == (Verdict.FOUND_EQUAL, "uid-1", town.rows)
    assert (found.id, found.number, found.subject) == (f"check-{found.record_id}-1", 1, "a:4711")
    assert (found.observed_at, town.asked, town.waits) == (town.now, [GetBooking("uid-1")], [0.0])


async def test_a_booking_that_is_not_there_is_absent_the_second_time() -> None:
    first = await Town().check(uid="uid-1")
    assert (first.verdict, first.reason, first.bookings) == (Verdict.ABSENT_ONCE, "not_found", [])
    second = await Town().check(uid="uid-1", absent_at=first.observed_at - GONE)
    assert second.verdict is Verdict.ABSENT


async def test_a_reschedule_is_followed_to_its_end() -> None:
    town = Town(moved("a", "b"), moved("b", "c"), booking("c", start=z_ms(STARTS_AT + GONE)))
    found = await town.check(uid="a")
    assert (found.verdict, found.bookings, town.uids) == (Verdict.MOVED, town.rows, ["a", "b", "c"])
    assert town.waits == [0.0, 5.0, 5.0], "in the middle of a chain a token is waited for"


async def test_a_chain_that_ends_cancelled_is_cancelled() -> None:
    town = Town(moved("a", "b"), booking("b", status="cancelled"))
    assert (await town.check(uid="a")).verdict is Verdict.CANCELLED


async def test_a_chain_that_bites_its_tail_is_unknown() -> None:
    town = Town(moved("a", "b"), moved("b", "a"))
    found = await town.check(uid="a")
    assert (found.verdict, found.reason, town.uids) == (Verdict.UNKNOWN, "loop", ["a", "b"])


async def test_a_chain_without_end_is_left_at_ten_hops() -> None:
    town = Town(*(moved(f"n{n}", f"n{n + 1}") for n in range(99)))
    found = await town.check(uid="n0")
    assert (found.reason, len(town.asked)) == ("loop", 11)


async def test_a_chain_that_leads_nowhere_is_unknown_and_not_absent() -> None:
    found = await Town(moved("a", "b")).check(uid="a", absent_at=NOW - GONE)
    assert (found.verdict, found.reason, len(found.bookings)) == (Verdict.UNKNOWN, "broken_chain", 1)


async def test_a_chain_that_breaks_off_tells_what_was_found() -> None:
    town = Town(moved("a", "b"), booking("b"))
    failed = Unknown(reason=Reason.TIMEOUT, detail="")
    town.instead = lambda call: failed if call == GetBooking("b") else None
    found = await town.check(uid="a")
    assert (found.verdict, found.reason, found.bookings) == (Verdict.UNKNOWN, "timeout", town.rows[:1])


async def test_the_uid_of_a_series_gives_the_occurrence_that_is_meant() -> None:
    weeks = [z_ms(STARTS_AT + timedelta(weeks=n)) for n in range(3)]
    town = Town(*(booking(f"w{n}", start=start, recurringBookingUid="series") for n, start in enumerate(weeks)))
    found = await town.check(uid="series")
    assert (found.verdict, len(found.bookings)) == (Verdict.FOUND_EQUAL, 3)
    lost = await town.check(uid="series", starts_at=NOW)
    assert (lost.verdict, lost.reason) == (Verdict.UNKNOWN, "no_occurrence")


async def test_a_seat_is_looked_for_in_the_booking() -> None:
    town = Town(booking("uid-1", attendees=[api_seat("s1", "nora.guest@example.org")]))
    assert (await town.check(uid="uid-1", seat="s1")).verdict is Verdict.FOUND_EQUAL
    assert (await town.check(uid="uid-1", seat="s2")).reason == "seat_not_listed"


# --- what says nothing of the record


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.LIMITED])
async def test_what_is_no_answer_is_unknown_by_its_reason(reason: Reason) -> None:
    town = Town()
    town.instead = lambda _: Unknown(reason=reason, detail="")
    for uid in ("uid-1", None):
        found = await town.check(uid=uid, absent_at=NOW - GONE)
        assert (found.verdict, found.reason) == (Verdict.UNKNOWN, reason.value)


async def test_a_refused_key_is_no_answer() -> None:
    town = Town()
    refusal = Unauthorised(status=401, detail="not valid")
    town.instead = lambda _: refusal
    assert await town.hear(uid="uid-1") == Refused(refusal)


async def test_too_many_requests_put_the_question_off() -> None:
    town = Town()
    town.instead = lambda _: Unknown(reason=Reason.LIMITED, detail="", retry_after_seconds=17)
    assert await town.hear(uid="uid-1") == NotNow(NOW + timedelta(seconds=17), "limited")


async def test_a_question_is_given_back_in_the_middle_of_a_chain() -> None:
    town = Town(moved("a", "b"))
    later = NotNow(NOW + GONE, "bucket")
    town.instead = lambda call: later if call == GetBooking("b") else None
    assert await town.hear(uid="a") == later


# --- without a uid


async def test_a_booking_is_found_by_who_comes_and_when() -> None:
    town = Town(*others(3), booking("uid-1"), booking("tomorrow", start=z_ms(STARTS_AT + timedelta(days=1))))
    found = await town.check()
    assert (found.verdict, found.uid, [row["uid"] for row in found.bookings]) == (Verdict.FOUND_EQUAL, None, ["uid-1"])
    assert len(town.asked) == 1


@pytest.mark.parametrize("uid", ["90011", "id:90011"])
async def test_a_number_is_no_uid(uid: str) -> None:
    town = Town(booking("uid-1", id=90011, start=z_ms(STARTS_AT + timedelta(days=3))))
    found = await town.check(uid=uid, booking_id=90011)
    assert (found.verdict, found.uid, town.uids) == (Verdict.FOUND_DIFFERENT, None, [])


async def test_a_booking_that_names_the_appointment_is_found_at_any_time() -> None:
    town = Town(api_booking(start=z_ms(STARTS_AT + timedelta(days=3))), booking("same time"))
    found = await town.check(match_by_attendee=False)
    assert (found.verdict, [row["uid"] for row in found.bookings]) == (Verdict.FOUND_DIFFERENT, ["uid-1"])


async def test_where_persons_do_not_count_the_same_person_is_nobody() -> None:
    found = await Town(booking("same time"), *others(1)).check(match_by_attendee=False, absent_at=NOW - GONE)
    assert (found.verdict, found.bookings) == (Verdict.ABSENT, [])


async def test_what_was_found_is_followed_when_it_was_moved() -> None:
    town = Town(moved("a", "b"), booking("b", start=z_ms(STARTS_AT + timedelta(days=1))))
    found = await town.check()
    assert (found.verdict, found.bookings, town.uids) == (Verdict.MOVED, town.rows, ["b"])


async def test_all_that_may_be_meant_is_told() -> None:
    found = await Town(booking("one"), booking("two")).check()
    assert (found.verdict, len(found.bookings)) == (Verdict.FOUND_EQUAL, 2)


async def test_an_email_is_asked_for_as_it_was_written_then_in_lower_case_then_by_phone() -> None:
    town = Town(*others(1))
    await town.check(appointment={"customer_email": " Nora.Guest@Example.org "})
    assert town.emails[:3] == ["Nora.Guest@Example.org", "nora.guest@example.org", "493055501234@sms.cal.com"]


async def test_a_person_without_email_is_found_by_the_address_that_cal_com_makes() -> None:
    town = Town(booking("uid-1", attendees=[{"email": "493055501234@sms.cal.com"}]))
    assert (await town.check(appointment={"customer_email": None})).verdict is Verdict.FOUND_EQUAL


async def test_a_managed_users_customer_is_found_by_the_address_that_cal_com_keeps() -> None:
    tagged = booking("tagged", attendees=[{"email": f"kim{CUID}@example.org", "displayEmail": "kim@example.org"}])
    town = Town(tagged, booking("uid-1", attendees=[{"email": f"nora.guest{CUID}@example.org"}]))
    assert (await town.check()).verdict is Verdict.FOUND_EQUAL


async def test_an_address_that_cal_com_spells_otherwise_is_found_by_the_start_before_it_is_called_absent() -> None:
    town = Town(*others(1), booking("uid-1", attendees=[{"email": "NORA.Guest@example.org"}]))
    assert (await town.check()).verdict is Verdict.ABSENT_ONCE
    assert (await town.check(absent_at=NOW - GONE)).verdict is Verdict.FOUND_EQUAL


async def test_a_proven_search_without_a_find_is_an_absence() -> None:
    town = Town(*others(3))
    assert (await town.check()).verdict is Verdict.ABSENT_ONCE
    assert (await town.check(absent_at=NOW - GONE)).verdict is Verdict.ABSENT


async def test_a_canary_counts_for_five_minutes() -> None:
    town = Town(*others(3))
    asker = Asker(town)
    counts = []
    for minutes in (0, 4, 6):
        town.asked.clear()
        await asker.ask(ACCOUNT, asking(), NOW + timedelta(minutes=minutes))
        counts.append(town.emails.count("kim@example.org"))
    assert counts == [1, 0, 1]


async def test_an_empty_list_of_an_account_without_bookings_proves_nothing() -> None:
    found = await Town().check(absent_at=NOW - GONE)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "empty_list")


async def test_an_empty_page_for_every_filter_proves_nothing() -> None:
    town = Town(*others(3), booking("uid-1"))
    filtered = ("attendee_email", "after_start")
    town.instead = lambda call: Bookings(rows=()) if any(getattr(call, name) for name in filtered) else None
    found = await town.check(absent_at=NOW - GONE)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "empty_list")


async def test_an_ignored_filter_hides_no_booking() -> None:
    town = Town(*others(450), booking("uid-1"))
    town.hears_email = False
    assert (await town.check()).verdict is Verdict.FOUND_EQUAL


async def test_where_every_filter_is_ignored_nothing_is_absent() -> None:
    """Some are before the appointment: rows that the filter by start would not have let through."""
    past = booking("past", attendees=KIM, start=z_ms(STARTS_AT - timedelta(days=9)))
    for rows in (others(5), others(2000)):
        town = Town(past, *rows)
        town.hears_email = town.hears_start = False
        found = await town.check(absent_at=NOW - GONE)
        assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "filter_ignored")
        assert len(town.asked) <= 25


async def test_where_the_email_is_ignored_the_start_may_prove_an_absence() -> None:
    town = Town(*others(2000))
    town.hears_email = False
    assert (await town.check(absent_at=NOW - GONE)).verdict is Verdict.ABSENT


async def test_a_booking_with_hidden_people_at_that_start_may_be_the_one() -> None:
    town = Town(*others(3), booking("hidden", attendees=[]))
    found = await town.check(absent_at=NOW - GONE)
    assert (found.verdict, found.reason, found.bookings) == (Verdict.UNKNOWN, "not_recognisable", [])


async def test_a_search_is_read_to_its_end_over_pages() -> None:
    times = [z_ms(STARTS_AT + timedelta(days=n)) for n in range(250)]
    town = Town(*others(1), *(booking(f"n{n}", start=start) for n, start in enumerate(times)))
    assert (await town.check()).bookings == [town.rows[1]]
    town.rows.pop(1)
    assert (await town.check(absent_at=NOW - GONE)).verdict is Verdict.ABSENT


NOBODY = {"customer_email": None, "customer_phone": None}


async def test_nobody_is_found_by_name_alone_but_an_empty_hour_is_empty() -> None:
    question: dict[str, Any] = {"appointment": NOBODY, "absent_at": NOW - GONE}
    assert (await Town(*others(3)).check(**question)).verdict is Verdict.ABSENT
    found = await Town(*others(3), booking("somebody")).check(**question)
    assert (found.verdict, found.reason, found.bookings) == (Verdict.UNKNOWN, "not_recognisable", [])
    taken = booking("taken", metadata={"appointment_id": "1"})
    assert (await Town(*others(3), taken).check(**question)).verdict is Verdict.ABSENT
    assert (await Town(api_booking()).check(**question)).verdict is Verdict.FOUND_EQUAL


async def test_an_hour_after_which_nothing_comes_is_empty_if_the_filter_works() -> None:
    question: dict[str, Any] = {"appointment": NOBODY, "absent_at": NOW - GONE}
    past = booking("past", attendees=KIM, start=z_ms(STARTS_AT - timedelta(days=9)))
    assert (await Town(past).check(**question)).verdict is Verdict.ABSENT
    assert (await Town().check(**question)).reason == "empty_list"


async def test_without_person_start_or_uid_there_is_nothing_to_search_by() -> None:
    question = asking(appointment=NOBODY, starts_at=None)
    found = await Asker(Town()).ask(ACCOUNT, question, NOW)
    assert isinstance(found, Check)
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "nothing_to_search_by")


async def test_an_account_that_cannot_be_reached_cancels_with_its_caller() -> None:
    class Stuck(Town):
        async def ask(self, *args: Any, **options: Any) -> Observed | NotNow:
            return await asyncio.Future()

    task = asyncio.ensure_future(Stuck().hear(uid="uid-1"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
