"""Cal.com is asked before anybody is accused: reconciler, verifiers and a Cal.com over real HTTP, on Apache Kafka.

Scenarios 63 to 69b, 40 and 71. Time is 25 times as fast as on the wall, where nothing else is said.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
from msgspec.structs import replace

from schemas.flags import FlagType, Kind
from schemas.verification import ABSENT_APART_SECONDS, Verdict
from services.embedded.calcom import pranks
from services.embedded.calcom.pranks import Prank
from services.plumbing.clock import WallClock
from services.verifier.checks import worker
from services.verifier.gate.budget import Limits
from tests.support.calcom import KIM
from tests.support.fast_clock import FastClock
from tests.support.telephone import Telephone, key_of, telephone
from tests.support.wait import until

pytestmark = pytest.mark.kafka

NOWHERE: Final = "uidThatNobodyHas000000"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a verifier look as often as a fast clock demands: it waits by the wall's."""
    monkeypatch.setattr(worker, "_LOOK_SECONDS", 0.1)


@pytest.fixture
async def line(apache_kafka: str, dsn: str) -> AsyncIterator[Telephone]:
    """Give a reconciler, a verifier and a Cal.com, on a fast clock."""
    async with telephone(apache_kafka, dsn) as made:
        yield made


async def verdicts(line: Telephone) -> list[Verdict]:
    return [one.verdict for one in await line.checks()]


# --- what Cal.com says of a record ------------------------------------------------------------------------------


async def test_what_cal_com_does_not_have_is_asked_for_twice_and_then_flagged(line: Telephone) -> None:
    """Scenario 63."""
    await line.practice()
    await line.told(NOWHERE)
    row = await line.becomes("orphaned_local")
    first, second = await line.checks()
    assert [first.verdict, second.verdict] == [Verdict.ABSENT_ONCE, Verdict.ABSENT]
    assert second.observed_at - first.observed_at >= timedelta(seconds=ABSENT_APART_SECONDS)
    assert len(line.asked_for(NOWHERE)) == 2
    assert row["sync_attempt_count"] == 2
    assert row["last_sync_attempt_at"] == second.observed_at
    assert row["sync_error_code"] == Kind.ORPHANED_LOCAL
    assert row["requires_manual_review"]
    await line.check()
    (flag,) = await line.flags()
    assert (flag.kind, flag.verdict) == (Kind.ORPHANED_LOCAL, "absent")


async def test_a_booking_whose_webhook_was_lost_heals_its_record_without_a_flag(line: Telephone) -> None:
    """Scenario 64."""
    booking = await line.booked(await line.practice())
    await line.told(booking.uid)
    row = await line.becomes("synced")
    assert row["sync_verified_at"] is not None
    assert row["sync_attempt_count"] == 1
    assert "webhook_lost" in await line.notes()
    await line.check()
    assert await line.flags() == []


async def test_a_booking_whose_uid_nobody_knows_is_found_by_who_comes_and_when(line: Telephone) -> None:
    await line.booked(await line.practice())
    await line.told(None)
    await line.becomes("synced")
    await line.check()
    assert await line.flags() == []


async def test_what_was_not_there_yet_and_is_there_half_a_minute_later_heals(line: Telephone) -> None:
    """Scenario 68: the API reads a replica."""
    booking = await line.booked(await line.practice(), seen_from=line.clock.now() + timedelta(days=1))
    await line.told(booking.uid)
    await line.comes("SELECT true FROM records WHERE sync_attempt_count = 1")
    line.calcom.store.hide(booking.uid, line.clock.now())
    await line.becomes("synced")
    assert await verdicts(line) == [Verdict.ABSENT_ONCE, Verdict.FOUND_EQUAL]
    await line.check()
    assert await line.flags() == []


async def test_a_booking_at_another_time_is_a_mismatch_that_says_what_cal_com_has(line: Telephone) -> None:
    booking = await line.booked(await line.practice())
    await line.told(booking.uid, starts_at=line.starts() + timedelta(hours=1))
    row = await line.becomes("failed")
    assert row["sync_error_code"] == Kind.DATA_MISMATCH
    await line.check()
    (flag,) = await line.flags()
    assert flag.verdict == "found_different"
    assert flag.booking is not None
    assert flag.booking.starts_at == booking.start


async def test_a_move_whose_webhook_was_lost_is_followed_to_the_new_booking(line: Telephone) -> None:
    """Two hops: the first new booking was moved again."""
    account = await line.practice()
    booking = await line.booked(account, send=True)
    await line.told(booking.uid)
    await line.becomes("synced")
    later = booking.start + timedelta(days=1)
    middle = await line.calcom.move(booking.uid, later, send=False)
    last = await line.calcom.move(middle.uid, later + timedelta(hours=1), send=False)
    await line.told(booking.uid, kind="rescheduled", starts_at=last.start)
    await line.comes("SELECT true FROM records WHERE booking_uid = $1", last.uid)
    await line.becomes("synced")
    assert await verdicts(line) == [Verdict.MOVED]
    await line.check()
    assert await line.flags() == []


async def test_a_cancel_whose_webhook_was_lost_heals_what_the_app_cancelled_too(line: Telephone) -> None:
    booking = await line.booked(await line.practice(), send=True)
    await line.told(booking.uid)
    await line.becomes("synced")
    await line.calcom.cancel(booking.uid, send=False)
    await line.told(booking.uid, kind="cancelled")
    await line.comes("SELECT true FROM records WHERE sync_attempt_count = 1")
    await line.becomes("synced")
    assert await verdicts(line) == [Verdict.CANCELLED]
    await line.check()
    assert await line.flags() == []


async def test_what_is_cancelled_at_cal_com_and_not_in_the_app_is_a_mismatch(line: Telephone) -> None:
    booking = await line.booked(await line.practice())
    await line.calcom.cancel(booking.uid, send=False)
    await line.told(booking.uid)
    await line.becomes("failed")
    await line.check()
    (flag,) = await line.flags()
    assert (flag.kind, flag.verdict) == (Kind.DATA_MISMATCH, "cancelled")


# --- what says nothing of a record ------------------------------------------------------------------------------

#: What a company's address or key may be like, and the incident that comes of it.
BAD: Final[dict[str, tuple[Prank, str]]] = {
    "refused-401": (pranks.unauthorised(401), "calcom_unauthorised"),
    "refused-403": (pranks.unauthorised(403), "calcom_unauthorised"),
    "expired-498": (pranks.unauthorised(498), "calcom_unauthorised"),
    "html-404": (pranks.html(404, "Not Found"), "calcom_wrong_address"),
    "other-json-404": (pranks.other_json(404), "calcom_wrong_address"),
    "redirect": (pranks.redirect("https://login.example.org/"), "calcom_wrong_address"),
    "old-version": (pranks.OldVersion(), "calcom_wrong_answer"),
    "body-of-50-mb": (pranks.Huge(megabytes=50), "calcom_wrong_answer"),
}


async def test_a_bad_answer_is_an_incident_of_its_company_and_never_a_verdict(line: Telephone) -> None:
    """Scenarios 65 and 69b, and every bad input: one company each, at the same time."""
    accounts = {}
    for company_id, (prank, _) in BAD.items():
        line.calcom.mischief.play(prank, key=key_of(company_id))
        accounts[company_id] = await line.practice(company_id)
        booking = await line.booked(accounts[company_id])
        await line.told(booking.uid, company_id=company_id)
    for company_id, (_, kind) in BAD.items():
        await line.trouble(kind, company_id)
        await line.waits(company_id=company_id)
    assert {one.verdict for one in await line.checks()} <= {Verdict.UNKNOWN}
    assert await line.flags() == []
    line.calcom.mischief.stop()
    await line.pass_seconds(600)
    for company_id in BAD:
        await line.give_key(company_id, f"{key_of(company_id)}_new")
        line.calcom.set_key(accounts[company_id], f"{key_of(company_id)}_new")
        await line.becomes("synced", company_id=company_id)
    await line.check()
    assert await line.flags() == []


async def test_a_wrong_base_url_is_an_incident_even_where_a_server_answers_as_cal_com_does(line: Telephone) -> None:
    """Without `/v2` Cal.com itself answers 404 in its documented shape, of an address and not of a booking."""
    await line.practice(calcom_base_url=line.base_url.removesuffix("/v2"))
    await line.told(NOWHERE)
    assert "no API of Cal.com" in await line.trouble("calcom_wrong_address")
    await line.waits()
    assert {one.verdict for one in await line.checks()} <= {Verdict.UNKNOWN}
    await line.move_api("acme", line.base_url)
    await line.becomes("orphaned_local")
    await line.check()


async def test_a_private_address_is_not_asked_unless_the_configuration_allows_it(apache_kafka: str, dsn: str) -> None:
    async with telephone(apache_kafka, dsn, calcom_private_addresses="refuse") as line:
        booking = await line.booked(await line.practice())
        await line.told(booking.uid)
        assert "private" in await line.trouble("calcom_wrong_address")
        await line.waits()
        assert not line.calcom.requests.requests
        await line.verifiers.pop().stop()
        line.verify(calcom_private_addresses="allow")
        await line.becomes("synced")
        await line.check()


async def test_a_refused_key_is_one_incident_and_its_records_wait_for_a_new_key(line: Telephone) -> None:
    """Scenario 65."""
    account = await line.practice()
    line.calcom.set_key(account, key_of("acme"), "revoked")
    booking = await line.booked(account)
    await line.told(booking.uid, 1)
    for number in range(2, 8):
        await line.told(NOWHERE, number, customer={"name": "Kim", "email": f"kim{number}@example.org", "phone": None})
    for number in range(1, 8):
        await line.waits(number)
    await line.trouble("calcom_unauthorised")
    assert await line.troubles() == [("acme", "calcom_unauthorised")]
    assert await line.checks() == []
    assert await line.flags() == []
    assert await line.value("SELECT sum(sync_attempt_count) FROM records") == 0
    line.calcom.set_key(account, "cal_test_new")
    await line.give_key("acme", "cal_test_new")
    await line.becomes("synced", 1)
    for number in range(2, 8):
        await line.becomes("orphaned_local", number)
    assert await line.troubles() == []
    await line.check()
    assert {flag.verdict for flag in await line.flags()} == {"absent"}


async def test_an_empty_or_unfiltered_list_proves_no_absence(line: Telephone) -> None:
    """Scenario 69b: a page without rows, and one with everybody's."""
    for company_id, prank in (("empty", pranks.EmptyLists()), ("ignored", pranks.IgnoredFilters())):
        account = await line.practice(company_id)
        await line.booked(account, line.starts(50), KIM)
        line.calcom.mischief.play(prank, key=key_of(company_id))
        await line.told(None, company_id=company_id)
    await line.comes("SELECT count(*) = 2 FROM records WHERE sync_attempt_count >= 1")
    assert await line.flags() == []
    assert {(one.verdict, one.reason) for one in await line.checks()} == {
        (Verdict.UNKNOWN, "empty_list"),
        (Verdict.UNKNOWN, "filter_ignored"),
    }
    line.calcom.mischief.stop()
    for company_id in ("empty", "ignored"):
        await line.becomes("orphaned_local", company_id=company_id)
    await line.check()


async def test_while_cal_com_is_down_nobody_is_flagged_and_afterwards_all_is_decided(line: Telephone) -> None:
    """Scenario 67: the breaker opens, one probe at a time goes out."""
    account = await line.practice()
    down = line.calcom.mischief.play(pranks.broken(503))
    there = [await line.booked(account, line.starts(24 + number)) for number in range(8)]
    for number, booking in enumerate(there):
        await line.told(booking.uid, number, starts_at=booking.start)
    for number in range(8, 12):
        await line.told(NOWHERE + f"{number}", number, starts_at=line.starts(24 + number), customer=_guest(number))
    await line.trouble("calcom_unreachable")
    for number in range(12):
        await line.waits(number)
    before = down.played
    await line.pass_seconds(61)
    await until(lambda: _more(down, before), 10)
    assert await line.flags() == []
    down.stop()
    await line.pass_seconds(61)
    for number in range(12):
        await line.becomes("synced" if number < 8 else "orphaned_local", number)
    assert ("acme", "calcom_unreachable") not in await line.troubles()
    await line.check()
    assert {flag.verdict for flag in await line.flags()} == {"absent"}


async def _more(playing: object, before: int) -> bool:
    return getattr(playing, "played", 0) > before


def _guest(number: int) -> dict[str, str | None]:
    return {"name": f"Guest {number}", "email": f"guest{number}@example.org", "phone": None}


async def test_a_record_waits_for_cal_com_no_longer_than_its_company_allows(line: Telephone) -> None:
    """Scenario 67: then it is flagged, and the flag says that nobody was asked."""
    await line.practice(verification_wait_seconds=60.0)
    line.calcom.mischief.play(pranks.broken(500))
    await line.told(NOWHERE)
    await line.becomes("orphaned_local")
    await line.check()
    (flag,) = await line.flags()
    assert (flag.kind, flag.verdict) == (Kind.ORPHANED_LOCAL, "not_verified")
    assert flag.deadline_at is not None
    assert flag.decided_at - flag.deadline_at >= timedelta(seconds=60)


async def test_four_answers_that_say_nothing_are_an_error_for_review(apache_kafka: str, dsn: str) -> None:
    """After 60, 300 and 900 s; the clock is 250 times as fast here."""
    async with telephone(apache_kafka, dsn, clock=FastClock(250)) as line:
        await line.practice(window_seconds=60.0)
        line.calcom.mischief.play(pranks.broken(500), under="/v2/bookings/")
        await line.told(NOWHERE)
        row = await line.becomes("failed")
        assert (row["sync_error_code"], row["sync_attempt_count"]) == (Kind.VERIFICATION_ERROR, 4)
        assert row["requires_manual_review"]
        given = [one.observed_at for one in await line.checks()]
        apart = [(later - before).total_seconds() for before, later in pairwise(given)]
        assert all(seconds >= wanted for seconds, wanted in zip(apart, (60, 300, 900), strict=True)), apart
        await line.check()
        (flag,) = await line.flags()
        assert flag.verdict == "unknown"


# --- keys -------------------------------------------------------------------------------------------------------


async def test_a_company_without_a_key_is_flagged_at_once_and_cal_com_is_not_asked(line: Telephone) -> None:
    """Scenario 71."""
    booking = await line.booked(await line.practice(key=False))
    await line.told(booking.uid)
    row = await line.becomes("orphaned_local")
    assert row["sync_attempt_count"] == 0
    await line.check()
    (flag,) = await line.flags()
    assert flag.verdict == "not_verified"
    assert not line.calcom.requests.requests


async def test_when_its_key_is_taken_away_a_waiting_record_is_flagged(line: Telephone) -> None:
    """Scenario 71."""
    await line.practice()
    line.calcom.mischief.play(pranks.unauthorised(401))
    await line.told(NOWHERE)
    await line.trouble("calcom_unauthorised")
    await line.waits()
    await line.take_key("acme")
    await line.becomes("orphaned_local")
    await line.check()
    (flag,) = await line.flags()
    assert flag.verdict == "not_verified"


# --- beside the questions -----------------------------------------------------------------------------------------


async def test_a_webhook_that_is_switched_off_is_one_flag_of_its_company_until_it_is_on_again(line: Telephone) -> None:
    """Scenario 43; the flag inhibits mails about single orphans (tests/integration/test_notifier_mails.py)."""
    await line.practice(hears=False)
    await line.comes("SELECT true FROM flags WHERE kind = 'WEBHOOK_SILENT'")
    await line.told(NOWHERE)
    await line.becomes("orphaned_local")
    (webhook,) = line.calcom.store.webhooks.values()
    line.calcom.store.webhooks[webhook.id] = replace(webhook, active=True)
    await line.hasten("webhook")
    await line.comes("SELECT true FROM flags WHERE kind = 'WEBHOOK_SILENT' AND resolved_at IS NOT NULL")
    await line.check()
    types = [flag.type for flag in await line.flags()]
    assert types == [FlagType.WEBHOOK_SILENT, FlagType.ORPHANED_LOCAL, FlagType.RESOLVED]


async def test_a_poll_finds_a_booking_of_which_nobody_told_and_it_is_asked_for_before_it_is_flagged(
    line: Telephone,
) -> None:
    account = await line.practice()
    await line.comes("SELECT true FROM api_polls WHERE polled_at IS NOT NULL")
    booking = await line.booked(account)
    settled = booking.created_at + timedelta(seconds=60)
    await until(lambda: _after(line, settled), 10)
    await line.hasten("poll")
    await line.comes(
        "SELECT true FROM records WHERE booking_uid = $1 AND calcom_sync_status = 'orphaned_calcom'", booking.uid
    )
    assert [one.verdict for one in await line.checks()] == [Verdict.FOUND_EQUAL]
    await line.told(booking.uid)
    await line.becomes("synced")
    await line.check()
    assert [flag.type for flag in await line.flags()] == [FlagType.ORPHANED_CALCOM, FlagType.RESOLVED]


async def _after(line: Telephone, moment: datetime) -> bool:
    return line.clock.now() > moment


# --- how much is asked, by the wall's clock -----------------------------------------------------------------------


async def test_after_a_429_nobody_asks_before_its_time_and_then_the_soonest_comes_first(
    apache_kafka: str, dsn: str
) -> None:
    """Scenario 66, with two verifiers that ask one question at a time each."""
    slots = {"verifier_slots": 3}
    async with telephone(apache_kafka, dsn, clock=WallClock(), verifiers=(slots, slots)) as line:
        account = await line.practice(window_seconds=2.0)
        limited = line.calcom.mischief.play(
            pranks.too_many(reset_seconds=4, retry_after="4"), times=1, under="/v2/bookings/"
        )
        hours = [90, 30, 70, 10, 50, 20, 80, 40]
        bookings = [await line.booked(account, line.starts(number)) for number in hours]
        for number, booking in zip(hours, bookings, strict=True):
            await line.told(booking.uid, number, starts_at=booking.start, customer=_guest(number))
        for number in hours:
            await line.becomes("synced", number)
        assert limited.played == 1
        asked = line.calcom.requests.of(key_of("acme"))
        (refused,) = (one for one in asked if one.status == 429)
        after = [one for one in asked if one.at > refused.at + timedelta(seconds=0.5)]
        assert after[0].at >= refused.at + timedelta(seconds=3.9)
        uids = [one.path.rpartition("/")[2] for one in after if one.path.startswith("/v2/bookings/")]
        order = [hours[[booking.uid for booking in bookings].index(uid)] for uid in uids]
        inversions = [abs(place - sorted(order).index(number)) for place, number in enumerate(order)]
        assert max(inversions) <= 1, order
        await line.check()
        assert await line.flags() == []


async def test_two_verifiers_together_never_ask_more_than_allowed_nor_for_one_record_at_once(
    apache_kafka: str, dsn: str
) -> None:
    """`python -m tests.faults.asking` does so with 120 a minute, and for longer."""
    a_minute, timeout_seconds, count, span_seconds = 900, 2.0, 160, 4.0
    limits = Limits.of(a_minute, timeout_seconds)
    async with telephone(
        apache_kafka, dsn, clock=WallClock(), verifiers=({}, {}), calcom_requests_per_minute=f"{a_minute}"
    ) as line:
        account = await line.practice(window_seconds=1.0)
        line.calcom.api.limiter.allow(key_of("acme"), a_minute)
        line.calcom.mischief.play(pranks.Slow(seconds=0.05))
        bookings = [await line.booked(account, line.starts(number)) for number in range(count)]
        await asyncio.gather(
            *(
                line.told(booking.uid, number, starts_at=booking.start, customer=_guest(number))
                for number, booking in enumerate(bookings)
            )
        )
        await line.comes("SELECT count(*) = $1 FROM records WHERE calcom_sync_status = 'synced'", count, seconds=40)
        most = line.calcom.requests.most_in(span_seconds, key_of("acme"))
        assert most <= limits.burst + limits.per_second * (span_seconds + timeout_seconds)
        assert line.calcom.requests.asked_together == set()
        assert {len(line.asked_for(booking.uid)) for booking in bookings} == {1}
        assert not [one for one in line.calcom.requests.requests if one.status == 429]
        await line.check()
