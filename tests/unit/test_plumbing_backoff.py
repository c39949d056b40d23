"""How long to wait before trying again."""

import pytest

from services.plumbing.backoff import Backoff


def test_delays_double_up_to_the_bound() -> None:
    backoff = Backoff(first_seconds=1, most_seconds=5, jitter=lambda: 1.0)
    assert [backoff.failed() for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(first_seconds=1, jitter=lambda: 1.0)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 1


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 2.0), (0.5, 3.0), (1.0, 4.0)])
def test_jitter_takes_at_most_half(chance: float, seconds: float) -> None:
    assert Backoff(first_seconds=4, jitter=lambda: chance).failed() == seconds


def test_no_number_of_failures_overflows() -> None:
    backoff = Backoff(most_seconds=15, jitter=lambda: 1.0)
    assert max(backoff.failed() for _ in range(5_000)) == 15
