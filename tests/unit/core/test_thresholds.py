"""When a figure is an alarm, and when it is over."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.flags import THRESHOLDS, FlagType, Kind, company_flag_id
from services.reconciler.core import thresholds
from services.reconciler.core.thresholds import (
    INCIDENT_REST,
    LEAST_DECIDED,
    PATIENCE,
    REST,
    Episode,
    Figure,
    Incident,
    Seen,
    Sight,
    Turn,
    see,
    see_incidents,
    success,
    weigh,
)

NOW: Final = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
COUNTED: Final = [kind for kind in THRESHOLDS if kind is not Kind.SYNC_SUCCESS]


def count(value: int, limit: int) -> Sight:
    return see(Kind.ORPHANS_A_DAY, Figure(value), limit).sight


def share(synced: int, amiss: int, limit: float = 95) -> Sight:
    return see(Kind.SYNC_SUCCESS, success(synced, amiss), limit).sight


def seen(sight: Sight) -> Seen:
    return Seen(sight=sight, reason="")


# --- how a figure stands to its limit


@pytest.mark.parametrize(
    ("limit", "calm_up_to", "beyond_from"), [(5, 4, 6), (10, 8, 11), (20, 16, 21), (2, 1, 3), (1, 0, 2), (0, 0, 1)]
)
def test_a_count_is_an_alarm_above_its_limit_and_over_at_four_fifths(
    limit: int, calm_up_to: int, beyond_from: int
) -> None:
    assert [value for value in range(30) if count(value, limit) is Sight.CALM] == list(range(calm_up_to + 1))
    assert [value for value in range(30) if count(value, limit) is Sight.BEYOND] == list(range(beyond_from, 30))


def test_the_success_is_an_alarm_under_its_limit_and_over_a_point_above_it() -> None:
    assert share(949, 51) is Sight.BEYOND
    assert share(950, 50) is Sight.BETWEEN
    assert share(959, 41) is Sight.BETWEEN
    assert share(960, 40) is Sight.CALM


def test_one_of_three_is_no_alarm_but_one_in_twenty_may_be() -> None:
    assert share(2, 1) is Sight.BETWEEN
    assert share(LEAST_DECIDED - 3, 2) is Sight.BETWEEN
    assert share(LEAST_DECIDED - 2, 2) is Sight.BEYOND


def test_a_day_without_decisions_ends_an_alarm_about_them() -> None:
    assert share(0, 0) is Sight.CALM


def test_a_success_that_must_be_perfect_can_be_reached_and_none_at_all_is_always_enough() -> None:
    assert share(100, 0, 100) is Sight.CALM
    assert share(99, 1, 99.5) is Sight.BEYOND
    assert share(100, 0, 99.5) is Sight.CALM
    assert share(0, 100, 0) is Sight.CALM


def test_a_share_under_its_limit_never_looks_as_if_it_were_at_it() -> None:
    assert success(94_999, 5_001).value == 94.99


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_for_every_limit_there_is_a_count_that_ends_its_alarm(limit: int, value: int) -> None:
    assert count(0, limit) is Sight.CALM
    assert (count(value, limit) is Sight.BEYOND) == (value > limit)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0, 100))
def test_nothing_amiss_is_calm_whatever_the_limit(synced: int, amiss: int, limit: float) -> None:
    assert share(synced, 0, limit) is Sight.CALM
    if share(synced, amiss, limit) is Sight.BEYOND:
        assert 100 * synced < limit * (synced + amiss)


# --- episodes


def test_what_goes_beyond_its_limit_opens_once() -> None:
    known, turn = weigh(Episode(generation=3), seen(Sight.BEYOND), REST, NOW)
    assert (known, turn) == (Episode(generation=4, opened_at=NOW), Turn.OPENED)
    assert weigh(known, seen(Sight.BEYOND), REST, NOW + MINUTE) == (known, None)


@pytest.mark.parametrize("sight", [Sight.BETWEEN, Sight.CALM])
def test_what_is_not_beyond_its_limit_opens_nothing(sight: Sight) -> None:
    assert weigh(Episode(), seen(sight), REST, NOW) == (Episode(), None)


def test_an_episode_ends_when_all_was_calm_for_its_time() -> None:
    known = Episode(generation=1, opened_at=NOW)
    known, turn = weigh(known, seen(Sight.CALM), REST, NOW + MINUTE)
    assert (known.calm_since, turn) == (NOW + MINUTE, None)
    known, turn = weigh(known, seen(Sight.CALM), REST, NOW + REST)
    assert turn is None
    assert weigh(known, seen(Sight.CALM), REST, NOW + MINUTE + REST) == (Episode(generation=1), Turn.ENDED)


@pytest.mark.parametrize("sight", [Sight.BETWEEN, Sight.BEYOND])
def test_a_figure_that_comes_back_begins_the_calm_anew(sight: Sight) -> None:
    known = Episode(generation=1, opened_at=NOW, calm_since=NOW)
    known, turn = weigh(known, seen(sight), REST, NOW + REST)
    assert (known.calm_since, turn) == (None, None)


def test_a_clock_that_is_set_back_makes_a_calm_longer_not_shorter() -> None:
    known = Episode(generation=1, opened_at=NOW, calm_since=NOW)
    known, _ = weigh(known, seen(Sight.CALM), REST, NOW - timedelta(hours=1))
    assert known.calm_since == NOW - timedelta(hours=1)
    assert weigh(known, seen(Sight.CALM), REST, NOW - timedelta(hours=1) + REST)[1] is Turn.ENDED


@given(st.lists(st.tuples(st.sampled_from(Sight), st.integers(0, 900)), max_size=60))
def test_openings_and_ends_take_turns_and_no_end_comes_before_its_rest(looks: list[tuple[Sight, int]]) -> None:
    known, at, calm_since, told = Episode(), NOW, None, list[Turn]()
    for sight, seconds in looks:
        at += timedelta(seconds=seconds)
        calm_since = (calm_since or at) if sight is Sight.CALM and known.opened_at else None
        before = known
        known, turn = weigh(known, seen(sight), REST, at)
        if turn is Turn.OPENED:
            assert sight is Sight.BEYOND
            assert known.generation == before.generation + 1
        if turn is Turn.ENDED:
            assert calm_since is not None
            assert at - calm_since >= REST
            assert known.generation == before.generation
        told += [turn] if turn else []
    assert told == [Turn.OPENED, Turn.ENDED] * (len(told) // 2) + [Turn.OPENED] * (len(told) % 2)


# --- incidents


def incident(kind: str, lasted: timedelta) -> Incident:
    return Incident(kind, f"{kind} it is.", NOW - lasted)


@pytest.mark.parametrize("kind", PATIENCE)
def test_an_incident_is_an_alarm_once_it_has_lasted(kind: str) -> None:
    early, late = (incident(kind, PATIENCE[kind] + more) for more in (-timedelta(seconds=1), timedelta(0)))
    assert see_incidents([early], None, NOW).sight is not Sight.BEYOND
    found = see_incidents([late], None, NOW)
    assert (found.sight, found.cause, found.reason) == (Sight.BEYOND, kind, f"{kind} it is.")


def test_of_several_the_gravest_is_told() -> None:
    hour = timedelta(hours=1)
    there = [
        incident("calcom_limited", hour),
        incident("calcom_unreachable", hour),
        incident("calcom_unauthorised", hour),
    ]
    assert see_incidents(there, None, NOW).cause == "calcom_unauthorised"
    assert see_incidents(there[:2], None, NOW).cause == "calcom_unreachable"


def test_while_what_was_told_lasts_nothing_else_is_told() -> None:
    there = [incident("calcom_limited", timedelta(0)), incident("calcom_unauthorised", timedelta(hours=1))]
    assert see_incidents(there, "calcom_limited", NOW).sight is Sight.BETWEEN
    assert see_incidents(there[1:], "calcom_limited", NOW).sight is Sight.CALM


def test_what_says_nothing_of_asking_is_no_incident_here() -> None:
    assert see_incidents([incident("calcom_list_incomplete", timedelta(days=1))], None, NOW).sight is not Sight.BEYOND


# --- what is told


@pytest.mark.parametrize("kind", COUNTED)
def test_a_flag_has_its_figures_in_words_and_as_numbers(kind: Kind) -> None:
    told = thresholds.flag("acme", kind, 2, Turn.OPENED, see(kind, Figure(23), 20), NOW)
    assert (told.type, told.kind, told.generation, told.resolves) == (FlagType.THRESHOLD, kind, 2, None)
    assert told.id == company_flag_id("acme", kind, 2)
    assert told.measured is not None
    assert (told.measured.value, told.measured.limit) == (23, 20)
    assert "23" in told.reason
    assert "20" in told.reason


def test_a_flag_about_the_success_says_of_how_many() -> None:
    found = see(Kind.SYNC_SUCCESS, success(110, 10), 95)
    assert found.reason == (
        "Of 120 appointments that were decided in the last 24 hours 91.66 % are in sync; at least 95 % should be."
    )
    assert found.measured is not None
    assert (found.measured.value, found.measured.window_seconds) == (91.66, 86_400)


def test_an_end_names_the_flag_that_it_ends() -> None:
    told = thresholds.flag("acme", Kind.ORPHANS_A_DAY, 2, Turn.ENDED, see(Kind.ORPHANS_A_DAY, Figure(1), 5), NOW)
    assert (told.type, told.resolved_by) == (FlagType.RESOLVED, "auto")
    assert told.resolves == company_flag_id("acme", Kind.ORPHANS_A_DAY, 2)
    assert told.id == company_flag_id("acme", f"resolved:{Kind.ORPHANS_A_DAY}", 2)


def test_a_flag_about_calcom_says_which_incident_it_is() -> None:
    found = see_incidents([incident("calcom_unauthorised", INCIDENT_REST)], None, NOW)
    told = thresholds.flag("acme", Kind.CALCOM_INCIDENT, 1, Turn.OPENED, found, NOW)
    assert (told.type, told.why.note, told.measured) == (FlagType.CALCOM_INCIDENT, "calcom_unauthorised", None)
