"""When sweeps fall due, in every zone, on the days that have 23 or 25 hours, and whoever restarts when."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.rounds.schedule import SIX_HOURS, SweepKind, latest_slot, slot_id

BERLIN = ZoneInfo("Europe/Berlin")
#: Leaps of an hour, of half an hour and of a day; at midnight, at two and never; whole, half and quarter hours.
ZONES = [
    "Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "America/Havana", "America/Sao_Paulo",
    "Africa/Cairo", "Asia/Beirut", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Chatham", "UTC",
]  # fmt: skip
zones = st.sampled_from(ZONES).map(ZoneInfo)
moments = st.datetimes(datetime(2005, 1, 1), datetime(2037, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - made aware
timed = st.sampled_from([SweepKind.SIX_HOURS, SweepKind.DAILY])


def daily(now: datetime, zone: ZoneInfo = BERLIN) -> datetime:
    return latest_slot(SweepKind.DAILY, now, zone)


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        ("2026-11-24T01:00:00", "2026-11-24T01:00:00"),  # 02:00 in winter
        ("2026-11-24T00:59:59.999999", "2026-11-23T01:00:00"),
        ("2026-07-01T00:00:00", "2026-07-01T00:00:00"),  # 02:00 in summer
        ("2026-03-29T00:59:59", "2026-03-28T01:00:00"),  # 01:59:59, and then it is 03:00: there is no 02:00
        ("2026-03-29T01:00:00", "2026-03-29T01:00:00"),
        ("2026-03-29T23:59:59", "2026-03-29T01:00:00"),
        ("2026-03-30T00:00:00", "2026-03-30T00:00:00"),
        ("2026-10-25T00:00:00", "2026-10-25T00:00:00"),  # 02:00 for the first time
        ("2026-10-25T01:00:00", "2026-10-25T00:00:00"),  # 02:00 for the second time
        ("2026-10-26T00:59:59", "2026-10-25T00:00:00"),
        ("2026-10-26T01:00:00", "2026-10-26T01:00:00"),
    ],
)
def test_two_o_clock_in_berlin_comes_once_a_day(now: str, slot: str) -> None:
    assert daily(datetime.fromisoformat(now).replace(tzinfo=UTC)) == datetime.fromisoformat(slot).replace(tzinfo=UTC)


def test_every_six_hours_is_the_same_four_moments_of_the_day_for_all() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)
    for minutes in (0, 1, 359):
        assert latest_slot(SweepKind.SIX_HOURS, noon + timedelta(minutes=minutes), BERLIN) == noon
    assert latest_slot(SweepKind.SIX_HOURS, noon + timedelta(minutes=360), BERLIN) == noon + SIX_HOURS
    assert latest_slot(SweepKind.SIX_HOURS, noon - timedelta(microseconds=1), BERLIN) == noon - SIX_HOURS


def test_a_companys_sweep_never_falls_due_by_itself() -> None:
    with pytest.raises(ValueError, match="asked for"):
        latest_slot(SweepKind.COMPANY, datetime(2026, 1, 1, tzinfo=UTC), BERLIN)


@given(moments, zones)
def test_a_daily_slot_is_the_moment_at_which_a_days_clock_reaches_two(now: datetime, zone: ZoneInfo) -> None:
    slot = daily(now, zone)
    assert slot <= now
    assert now - slot < timedelta(hours=26)
    shown, before = (at.astimezone(zone).replace(tzinfo=None) for at in (slot, slot - timedelta(microseconds=1)))
    assert before < shown.replace(hour=2, minute=0, second=0, microsecond=0) <= shown


@given(moments, zones)
def test_every_calendar_day_has_one_daily_slot_and_no_two_have_the_same(now: datetime, zone: ZoneInfo) -> None:
    """A week from here, minute by quarter: the slots that a runner sees which never sleeps."""
    seen = sorted({daily(now + timedelta(minutes=15 * n), zone) for n in range(7 * 96)})
    assert 7 <= len(seen) <= 8
    for earlier, later in pairwise(seen):
        assert timedelta(hours=22) <= later - earlier <= timedelta(hours=26)
    days = [slot.astimezone(zone).date() for slot in seen]
    assert len(set(days)) == len(days)


@given(timed, moments, zones, st.lists(st.integers(0, 3 * 86_400), min_size=1, max_size=30))
def test_whenever_one_looks_nothing_is_swept_twice_and_the_last_that_was_missed_is_made_up(
    kind: SweepKind, begin: datetime, zone: ZoneInfo, pauses_seconds: list[int]
) -> None:
    """Looks at any moments, by runners that remember nothing: what was asked for is known by its id alone."""
    asked: dict[object, datetime] = {}
    now = begin
    for pause in pauses_seconds:
        now += timedelta(seconds=pause)
        slot = latest_slot(kind, now, zone)
        new = asked.setdefault(slot_id(kind, slot), slot)
        assert new == slot
        assert max(asked.values()) == slot, "the latest slot that has begun has a sweep"
    assert sorted(set(asked.values())) == list(asked.values()), "in order, each once"


@given(moments, zones, timed)
def test_the_slot_of_a_slot_is_itself(now: datetime, zone: ZoneInfo, kind: SweepKind) -> None:
    slot = latest_slot(kind, now, zone)
    assert latest_slot(kind, slot, zone) == slot
    assert slot_id(kind, slot) == slot_id(kind, slot.astimezone(zone))


def test_the_sweeps_of_one_moment_are_not_one() -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    assert {latest_slot(kind, at, BERLIN) for kind in (SweepKind.SIX_HOURS, SweepKind.DAILY)} == {at}
    assert slot_id(SweepKind.SIX_HOURS, at) != slot_id(SweepKind.DAILY, at)


def test_a_day_that_a_zone_leaves_out_is_not_swept_by_itself() -> None:
    """Samoa had no 30 December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    seen = {daily(datetime(2011, 12, 29, tzinfo=UTC) + timedelta(minutes=n), apia) for n in range(4 * 1440)}
    assert date(2011, 12, 30) not in {slot.astimezone(apia).date() for slot in seen}
