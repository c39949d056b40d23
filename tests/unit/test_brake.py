"""The dead-letter brake: bad data passes, a bad deploy does not."""

import pytest

from services.reconciler.brake import Brake


def reasons(brake: Brake, seen: str) -> list[str]:
    """Show a brake envelopes, `x` a dead letter and `.` a good one; gives what it said."""
    said = [brake.saw(dead=letter == "x") for letter in seen]
    return [reason for reason in said if reason is not None]


def test_a_run_of_dead_letters_trips_it_at_its_last() -> None:
    brake = Brake(3, 1.0, 100)
    assert reasons(brake, "xx") == []
    assert brake.saw(dead=True) == "3 dead letters in a row"


def test_one_good_envelope_ends_a_run() -> None:
    assert reasons(Brake(3, 1.0, 100), "xx.xx.xx.") == []


def test_it_stays_tripped_while_the_run_goes_on() -> None:
    assert len(reasons(Brake(3, 1.0, 100), "xxxxx")) == 3


def test_a_share_of_the_latest_trips_it_without_a_run() -> None:
    assert reasons(Brake(100, 0.5, 10), "x." * 5) == ["50% of the latest 10 envelopes are dead letters"]


def test_a_smaller_share_passes_for_ever() -> None:
    assert reasons(Brake(100, 0.5, 10), "x.." * 1000) == []


def test_a_share_says_nothing_before_there_are_enough() -> None:
    assert reasons(Brake(100, 0.5, 10), "x" * 9) == []


@pytest.mark.parametrize("good", [10, 10_000])
def test_a_long_good_past_does_not_hide_a_bad_present(good: int) -> None:
    """What is old fades: after a bad deploy it takes at most twice `of` envelopes to see it."""
    brake = Brake(1000, 0.5, 10)
    assert reasons(brake, "." * good) == []
    assert reasons(brake, "x" * 20)


def test_a_bad_past_fades_too() -> None:
    brake = Brake(1000, 0.6, 10)
    assert reasons(brake, "x" * 10)
    assert reasons(brake, "." * 40 + ".x..." * 20) == []
