"""When a recipient is written to: each rule as an example, with instants."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.flags import RECORD_KINDS, Kind
from services.companies import model
from services.companies.model import Delivery
from services.notifier.grouping import Board, Held, Past, Plan, Policy, held_by, next_time, plan
from services.notifier.letter import Occasion

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
POLICY = Policy()
NEWS, URGENT = Plan(write=Occasion.NEWS), Plan(write=Occasion.NEWS, urgent=True)
REMINDER, DAILY = Plan(write=Occasion.REMINDER), Plan(write=Occasion.DAILY)
HOUR = 3600.0


def at(seconds: float) -> datetime:
    """Give the moment so many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(board: Board, past: Past, now: float, policy: Policy = POLICY) -> Plan:
    """Ask for somebody who wants letters at once."""
    return plan(board, past, policy, Delivery.IMMEDIATE, time(8), BERLIN, at(now))


def daily(board: Board, past: Past, now: datetime, daily_at: time = time(8)) -> Plan:
    return plan(board, past, POLICY, Delivery.DAILY, daily_at, BERLIN, now)


def later(seconds: float) -> Plan:
    return Plan(look_at=at(seconds))


def news(since: float = 0, *, starts: float | None = None, near: float | None = None) -> Board:
    """One thing that is new, since then; of an appointment that starts then, or is near from then on."""
    if starts is not None:
        near = max(since, starts - POLICY.urgent_within_seconds)
    return Board(news=1, oldest_at=at(since), near_at=None if near is None else at(near))


def told(seconds: float, *, urgent: float | None = None, reminders: int = 0) -> Past:
    return Past(last_at=at(seconds), last_urgent_at=None if urgent is None else at(urgent), reminders=reminders)


NOTHING, NEVER = Board(), Past()


def test_without_anything_to_tell_nobody_is_written_to_until_something_changes() -> None:
    for delivery in Delivery:
        assert plan(NOTHING, NEVER, POLICY, delivery, time(8), BERLIN, NOON) == Plan()
        assert plan(NOTHING, told(-99 * HOUR), POLICY, delivery, time(8), BERLIN, NOON) == Plan()


def test_the_first_letter_comes_after_a_time_of_collecting() -> None:
    assert asked(news(), NEVER, 0) == later(30)
    assert asked(news(), NEVER, 29.999) == later(30)
    assert asked(news(), NEVER, 30) == NEWS
    assert asked(news(), NEVER, 0, Policy(group_wait_seconds=0)) == NEWS


def test_what_comes_while_collecting_does_not_put_the_letter_off() -> None:
    assert asked(Board(news=900, oldest_at=at(0)), NEVER, 29) == later(30)


def test_the_next_letter_waits_for_the_rest_of_the_interval() -> None:
    assert asked(news(10), told(0), 45) == later(300)
    assert asked(news(10), told(0), 300) == NEWS
    assert asked(news(10), told(0), 45, Policy(group_interval_seconds=60)) == later(60)


def test_late_in_the_interval_and_after_it_there_is_still_a_time_of_collecting() -> None:
    assert asked(news(290), told(0), 300) == later(320)
    assert asked(news(1000), told(0), 1000) == later(1030)


def test_that_it_has_ended_is_told_as_news_are() -> None:
    ended = Board(ended=1, ended_at=at(400))
    assert asked(ended, told(0), 400) == later(430)
    assert asked(ended, told(380), 430) == later(680)
    assert asked(ended, told(380), 680) == NEWS


def test_what_waited_longest_counts_whether_it_is_new_or_has_ended() -> None:
    assert asked(Board(news=1, oldest_at=at(20), ended=1, ended_at=at(5)), NEVER, 20) == later(35)
    assert asked(Board(news=1, oldest_at=at(5), ended=1, ended_at=at(20)), NEVER, 20) == later(35)


def test_what_was_not_sent_for_long_is_sent_at_once() -> None:
    assert asked(news(), told(-9), 7200) == NEWS


def test_an_appointment_that_starts_soon_does_not_wait_for_the_group() -> None:
    assert asked(news(starts=HOUR), NEVER, 0) == later(2)
    assert asked(news(starts=HOUR), NEVER, 2) == URGENT
    assert asked(news(100, starts=HOUR), told(0), 102) == URGENT


def test_what_is_urgent_waits_no_longer_than_what_is_not() -> None:
    assert asked(news(starts=HOUR), NEVER, 1, Policy(group_wait_seconds=1)) == NEWS


def test_what_becomes_urgent_while_it_waits_is_told_then() -> None:
    assert asked(news(10, starts=7200 + 100), told(0), 50) == later(102)
    assert asked(news(10, starts=7200 + 100), told(0), 102) == URGENT


def test_urgent_letters_too_come_only_once_an_interval() -> None:
    assert asked(news(20, starts=HOUR), told(10, urgent=10), 30) == later(310)
    assert asked(news(20, starts=HOUR), told(200, urgent=10), 309.9) == later(310)
    assert asked(news(20, starts=HOUR), told(200, urgent=10), 310) == URGENT


def test_an_urgent_letter_keeps_the_others_waiting_for_an_interval() -> None:
    assert asked(news(20), told(10, urgent=10), 60) == later(310)


def test_older_news_do_not_take_the_time_of_collecting_from_what_is_urgent() -> None:
    """The first of ten that are raised within a second must not leave the others to wait for the interval."""
    assert asked(news(10, near=200), told(0), 200) == later(202)
    assert asked(news(10, near=200), told(0), 202) == URGENT


def test_what_has_begun_or_begins_much_later_is_not_urgent() -> None:
    assert asked(news(starts=None), NEVER, 2) == later(30)
    assert asked(news(starts=7300), NEVER, 3) == later(30)
    assert asked(news(near=HOUR), NEVER, 3) == later(30)


def test_what_is_still_open_is_reminded_of_after_four_hours() -> None:
    assert asked(Board(open=3), told(0), 10) == later(4 * HOUR)
    assert asked(Board(open=3), told(0), 4 * HOUR - 1) == later(4 * HOUR)
    assert asked(Board(open=3), told(0), 4 * HOUR) == REMINDER


@pytest.mark.parametrize(("reminders", "hours"), [(0, 4), (1, 8), (2, 16), (3, 24), (4, 24), (10_000, 24)])
def test_each_reminder_waits_twice_as_long_until_there_is_one_a_day(reminders: int, hours: float) -> None:
    assert asked(Board(open=3), told(0, reminders=reminders), 10) == later(hours * HOUR)


def test_a_company_that_wants_its_reminders_rarer_than_daily_gets_them_so() -> None:
    rare = Policy(reminder_seconds=72 * HOUR)
    assert asked(Board(open=3), told(0), 10, rare) == later(72 * HOUR)
    assert asked(Board(open=3), told(0, reminders=5), 10, rare) == later(72 * HOUR)


def test_reminders_too_keep_the_interval() -> None:
    assert asked(Board(open=3), told(0), 60, Policy(reminder_seconds=60)) == later(300)


def test_news_take_the_place_of_a_reminder() -> None:
    """A reminder now would keep the news waiting for a whole interval."""
    board = Board(news=1, oldest_at=at(4 * HOUR), open=3)
    assert asked(board, told(0), 4 * HOUR) == later(4 * HOUR + 30)
    assert asked(board, told(0), 4 * HOUR + 30) == NEWS
    ended = Board(ended=1, ended_at=at(4 * HOUR), open=3)
    assert asked(ended, told(0), 4 * HOUR) == later(4 * HOUR + 30)


def test_who_wants_no_letters_gets_none() -> None:
    board = Board(news=9, oldest_at=at(0), near_at=at(0), ended=1, ended_at=at(0), open=5)
    assert plan(board, told(0), POLICY, Delivery.NONE, time(8), BERLIN, at(99 * HOUR)) == Plan()


def test_a_daily_digest_comes_at_its_time_on_the_companys_clock() -> None:
    eight = utc("2026-11-25 07:00")
    assert daily(news(starts=HOUR), NEVER, NOON) == Plan(look_at=eight)
    assert daily(news(), NEVER, eight - timedelta(microseconds=1)) == Plan(look_at=eight)
    assert daily(news(), NEVER, eight) == DAILY
    assert daily(news(), NEVER, NOON, time(13, 30)) == Plan(look_at=utc("2026-11-24 12:30"))


def test_a_digest_comes_daily_while_there_is_something() -> None:
    sent = Past(last_at=utc("2026-11-25 07:00:03"))
    tomorrow = utc("2026-11-26 07:00")
    assert daily(Board(open=1), sent, utc("2026-11-25 09:00")) == Plan(look_at=tomorrow)
    assert daily(Board(open=1), sent, tomorrow) == DAILY
    assert daily(Board(ended=1, ended_at=utc("2026-11-25 10:00")), sent, tomorrow) == DAILY
    assert daily(NOTHING, sent, tomorrow) == Plan()


def test_what_was_raised_before_the_last_digest_but_was_not_in_it_waits_for_the_next() -> None:
    sent = Past(last_at=utc("2026-11-25 07:00:03"))
    late = Board(news=1, oldest_at=utc("2026-11-25 06:59:59"))
    assert daily(late, sent, utc("2026-11-25 07:00:04")) == Plan(look_at=utc("2026-11-26 07:00"))


def test_after_days_of_silence_there_is_one_digest_and_not_one_a_day() -> None:
    now = utc("2026-11-29 10:00")
    assert daily(news(), NEVER, now) == DAILY
    assert daily(Board(open=1), Past(last_at=now), now) == Plan(look_at=utc("2026-11-30 07:00"))


@pytest.mark.parametrize(
    ("after", "clock", "moment"),
    [
        ("2026-11-24 12:00", "08:00", "2026-11-25 07:00"),
        ("2026-11-24 06:59:59", "08:00", "2026-11-24 07:00"),
        ("2026-11-24 07:00", "08:00", "2026-11-25 07:00"),  # strictly after
        ("2026-12-31 23:30", "00:15", "2027-01-01 23:15"),  # it is the new year's first half hour in Berlin
        ("2027-03-27 12:00", "08:00", "2027-03-28 06:00"),  # into summer: eight is an hour earlier
        ("2027-03-27 12:00", "02:30", "2027-03-28 01:30"),  # there is no 02:30 that day: 03:30
        ("2027-03-28 01:30", "02:30", "2027-03-29 00:30"),
        ("2027-03-28 00:59", "02:00", "2027-03-28 01:00"),
        ("2026-10-24 12:00", "08:00", "2026-10-25 07:00"),  # into winter
        ("2026-10-24 12:00", "02:30", "2026-10-25 00:30"),  # 02:30 comes twice: the first ...
        ("2026-10-25 00:30", "02:30", "2026-10-26 01:30"),  # ... and not the second
        ("2026-10-25 01:10", "02:30", "2026-10-26 01:30"),
    ],
)
def test_a_time_of_day_is_the_clocks_on_the_wall(after: str, clock: str, moment: str) -> None:
    assert next_time(utc(after), time.fromisoformat(clock), BERLIN) == utc(moment)


def test_a_day_that_a_country_skipped_has_its_digest_on_the_next() -> None:
    """Samoa went from the 29th of December 2011 to the 31st."""
    apia = ZoneInfo("Pacific/Apia")
    first = next_time(utc("2011-12-29 19:00"), time(8), apia)
    assert first.astimezone(apia).isoformat() == "2011-12-31T08:00:00+14:00"
    assert next_time(first, time(8), apia).astimezone(apia).isoformat() == "2012-01-01T08:00:00+14:00"


def test_a_silent_webhook_holds_back_orphans_and_what_is_counted_of_them() -> None:
    held = held_by({Kind.WEBHOOK_SILENT, Kind.DATA_MISMATCH})
    orphans = {Kind.ORPHANED_LOCAL, Kind.ORPHANED_CALCOM}
    assert held == Held(frozenset(orphans | {Kind.ORPHANS_A_DAY, Kind.WAITING_FOR_REVIEW, Kind.SYNC_SUCCESS}))


def test_an_incident_of_the_api_holds_back_failed_checks_and_what_was_not_checked() -> None:
    held = held_by([Kind.CALCOM_INCIDENT])
    assert held == Held(frozenset({Kind.VERIFICATION_ERROR, Kind.FAILED_CHECKS_AN_HOUR}), unverified=True)


def test_no_cause_holds_back_a_cause_and_records_hold_back_nothing() -> None:
    causes = {Kind.WEBHOOK_SILENT, Kind.CALCOM_INCIDENT, Kind.ENDPOINT_OFF}
    assert not held_by([*Kind]).kinds & causes
    assert held_by(RECORD_KINDS) == held_by(()) == Held()


def test_a_companys_figures_are_those_of_the_policy_and_the_words_those_of_contacts() -> None:
    """`companies.model` and `grouping` say the same twice: neither may be changed alone."""
    company = model.Company(company_id="acme", name="Acme")
    assert Policy(**{name: getattr(company, name) for name in Policy.__struct_fields__}) == POLICY
    assert [one.value for one in Delivery] == [one.value for one in model.Delivery]
