"""A bucket a company: arithmetic over moments that are handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.guard import Guard, Limits

TEN_A_SECOND = Limits(10.0, 20)


@pytest.fixture
def guard() -> Guard:
    return Guard(TEN_A_SECOND)


def test_a_full_bucket_gives_the_burst_and_then_one_after_the_other(guard: Guard) -> None:
    assert [guard.admit("acme", 1, 100.0) for _ in range(20)] == [0.0] * 20
    assert guard.admit("acme", 1, 100.0) == pytest.approx(0.1)
    assert guard.admit("acme", 1, 100.101) == 0.0
    assert guard.admit("acme", 1, 100.101) > 0


def test_what_is_refused_takes_nothing(guard: Guard) -> None:
    guard.admit("acme", 20, 100.0)
    assert [guard.admit("acme", 5, 100.0) for _ in range(9)] == pytest.approx([0.5] * 9)


def test_after_the_time_that_was_said_it_comes_in(guard: Guard) -> None:
    guard.admit("acme", 20, 100.0)
    wait_seconds = guard.admit("acme", 7, 100.3)
    assert guard.admit("acme", 7, 100.3 + wait_seconds + 1e-9) == 0.0


def test_more_than_a_bucket_costs_a_full_bucket_and_is_not_refused_for_ever(guard: Guard) -> None:
    assert guard.admit("acme", 500, 100.0) == 0.0
    assert guard.admit("acme", 500, 101.0) == pytest.approx(1.0)
    assert guard.admit("acme", 500, 102.1) == 0.0


def test_one_company_does_not_pay_for_another(guard: Guard) -> None:
    guard.admit("acme", 20, 100.0)
    assert guard.admit("other", 20, 100.0) == 0.0


def test_debt_is_taken_and_says_how_long_it_lasts(guard: Guard) -> None:
    assert guard.charge("acme", 20, 100.0) == 0.0
    assert guard.charge("acme", 5, 100.0) == pytest.approx(0.5)
    assert guard.charge("acme", 5, 100.0) == pytest.approx(1.0)


def test_debt_ends_at_one_more_bucket(guard: Guard) -> None:
    waits_seconds = [guard.charge("acme", 1, 100.0) for _ in range(1000)]
    assert max(waits_seconds) == pytest.approx(2.0)
    assert guard.charge("acme", 1, 104.1) == 0.0


def test_a_long_quiet_time_gives_no_more_than_one_burst(guard: Guard) -> None:
    guard.admit("acme", 20, 100.0)
    assert guard.admit("acme", 20, 1e9) == 0.0
    assert guard.admit("acme", 1, 1e9) > 0


def test_buckets_are_few_and_the_emptiest_are_kept() -> None:
    guard = Guard(TEN_A_SECOND, most_companies=10)
    guard.admit("greedy", 20, 100.0)
    for number in range(1000):
        guard.admit(f"company-{number}", 1, 100.0)
        assert len(guard._full_at) <= 10
    assert guard.admit("greedy", 1, 100.0) > 0


def test_full_buckets_are_forgotten_first() -> None:
    guard = Guard(TEN_A_SECOND, most_companies=4)
    for number in range(4):
        guard.admit(f"company-{number}", 1, 100.0)
    guard.admit("late", 1, 200.0)
    assert list(guard._full_at) == ["late"]


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), max_size=60))
def test_never_more_than_the_burst_and_the_rate_come_in(steps: list[tuple[int, float]]) -> None:
    guard, now_seconds, taken = Guard(TEN_A_SECOND), 1000.0, 0
    for events, pause_seconds in steps:
        now_seconds += pause_seconds
        if guard.admit("acme", events, now_seconds) == 0.0:
            taken += min(events, TEN_A_SECOND.burst)
    elapsed_seconds = now_seconds - 1000.0
    assert taken <= TEN_A_SECOND.burst + TEN_A_SECOND.events_per_second * elapsed_seconds + 1e-6
