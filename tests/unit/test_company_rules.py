"""A company's rules as they are given, on the command line and to `admin`."""

from typing import Any

import pytest

from schemas.rules import COMPARED, Waiting
from services.cli.company_rules import chosen_of
from services.companies import checks
from services.companies.checks import CompanyError


@pytest.mark.parametrize(
    ("zone", "country"),
    [
        ("Europe/Berlin", "DE"),  # a zone of several countries, named after a town of one
        ("Europe/Vienna", "AT"),
        ("Europe/Stockholm", "SE"),
        ("America/New_York", "US"),
        ("US/Eastern", "US"),  # an old name
        ("Asia/Calcutta", "IN"),
        ("Europe/Kiev", "UA"),
        ("UTC", "DE"),
        ("EST", "DE"),  # a clock, though tzdata links it to a place
    ],
)
def test_where_no_country_is_said_it_is_that_of_the_time_zone(zone: str, country: str) -> None:
    assert checks.country(None, zone) == country


def test_a_country_that_is_given_counts_whatever_the_zone() -> None:
    assert checks.country(" ch ", "Europe/Berlin") == "CH"


@pytest.mark.parametrize("given", ["", "D", "DEU", "Germany", "XX", "ß", "49"])
def test_what_is_no_country_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(CompanyError, match="^country: "):
        checks.country(given, "Europe/Berlin")


def test_compared_fields_are_kept_once_and_in_their_own_order() -> None:
    assert checks.compared(("status", "starts_at", "status")) == ("starts_at", "status")
    assert checks.compared(COMPARED) == COMPARED
    assert checks.compared(()) == ()


def test_what_a_waiting_booking_counts_for_is_one_of_two() -> None:
    assert checks.waiting("ignore", "unpaid_policy") is Waiting.IGNORE
    with pytest.raises(CompanyError, match="^unpaid_policy: 'FLAG' is none of flag, ignore"):
        checks.waiting("FLAG", "unpaid_policy")


@pytest.mark.parametrize("given", [float("nan"), float("inf"), 0, -1, 367 * 86400])
def test_a_window_that_cannot_be_is_refused_by_its_name(given: float) -> None:
    with pytest.raises(CompanyError, match="^settling_window_seconds: "):
        checks.seconds(given, "settling_window_seconds")


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"country": None, "window_seconds": None}, {}),
        ({"settling_window_seconds": 120.0}, {"settling_window_seconds": 120.0}),
        ({"settling_window_seconds": 0.0}, {"settling_window_seconds": None}),  # as long as the window again
        ({"compared_fields": "status, starts_at,"}, {"compared_fields": ("status", "starts_at")}),
        ({"compared_fields": ""}, {"compared_fields": ()}),
        ({"match_by_attendee": False}, {"match_by_attendee": False}),
    ],
)
def test_the_command_line_says_no_more_than_was_given(given: dict[str, Any], chosen: dict[str, Any]) -> None:
    assert chosen_of(given) == chosen
