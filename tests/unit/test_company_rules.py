"""A company's rules as they are given, on the command line and to `admin`."""

import re
from datetime import time
from pathlib import Path
from typing import Any

import click
import pytest

from schemas.flags import Kind
from schemas.rules import COMPARED, Waiting
from services.cli.company_rules import chosen_of, rules
from services.companies import checks
from services.companies.admin import Changes, NewCompany
from services.companies.checks import CompanyError
from services.companies.model import Delivery

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "company-rules.md"


@click.command()
@rules
def every_rule() -> None:
    """Has the options of all rules."""


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


def test_every_rule_stands_in_the_reference_with_its_default() -> None:
    rows = [line for line in REFERENCE.read_text("utf-8").splitlines() if line.startswith("| `--")]
    for option in every_rule.params:
        assert isinstance(option, click.Option)
        row = next(line for line in rows if f"`{option.opts[0]}`" in line.split("|")[1])
        default = re.search(r"\[default: (\d[^\]]*|flag|ignore|starts_at[^\]]*)\]", option.help or "")
        assert default is None or default[1] in row.split("|")[2]


def test_every_rule_is_a_field_of_a_companys_with_the_default_that_its_help_says() -> None:
    fresh = NewCompany(company_id="acme", name="Acme")
    for option in every_rule.params:
        assert isinstance(option, click.Option)
        assert option.name in Changes.__struct_fields__
        default = re.search(r"\[default: (\d+)\]", option.help or "")
        if default and option.name != "settling_window_seconds":
            assert getattr(fresh, option.name) == float(default[1])


@pytest.mark.parametrize("given", [-1, 1_000_001])
def test_a_limit_that_cannot_be_is_refused_by_its_name(given: int) -> None:
    with pytest.raises(CompanyError, match="^orphans_per_day_max: 0 to 1000000 is wanted"):
        checks.count(given, "orphans_per_day_max")


@pytest.mark.parametrize("given", [-0.1, 100.1, float("nan"), float("inf")])
def test_a_share_is_of_a_hundred(given: float) -> None:
    with pytest.raises(CompanyError, match="^sync_success_min_percent: 0 to 100 is wanted"):
        checks.percent(given, "sync_success_min_percent")


def test_some_times_may_be_none_at_all_and_others_not() -> None:
    assert checks.seconds(0, "group_wait_seconds", or_none=True) == 0
    with pytest.raises(CompanyError, match="^group_wait_seconds: 0 and at most"):
        checks.seconds(-1, "group_wait_seconds", or_none=True)
    with pytest.raises(CompanyError, match="^group_interval_seconds: more than 0"):
        checks.seconds(0, "group_interval_seconds")


@pytest.mark.parametrize(
    ("given", "name", "email"),
    [
        ("Mia Muster <mia@example.com>", "Mia Muster", "mia@example.com"),
        ('"Muster, Mia" <mia.muster+cal@praxis.example.co.uk>', "Muster, Mia", "mia.muster+cal@praxis.example.co.uk"),
        ("o'neil@xn--mller-kva.de", "o'neil@xn--mller-kva.de", "o'neil@xn--mller-kva.de"),
        ("root@localhost", "root@localhost", "root@localhost"),
    ],
)
def test_a_person_is_a_name_and_an_address_or_an_address(given: str, name: str, email: str) -> None:
    assert checks.person(given) == (name, email)


@pytest.mark.parametrize(
    "given",
    [
        "mia",
        "Mia Muster <mia>",
        "@example.com",
        "mia@praxis",
        "mia@10.0.0.1",
        ".mia@example.com",
        "mia..muster@example.com",
        "mia@-example.com",
        "mia@example..com",
        "müller@example.com",
        "x" * 65 + "@example.com",
        "mia@" + "x" * 64 + ".com",
        "mia@" + "x." * 130 + "com",
    ],
)
def test_an_address_that_is_none_is_refused_by_its_name_in_one_line(given: str) -> None:
    with pytest.raises(CompanyError, match="^email: ") as refused:
        checks.person(given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    ["", " ", "mia@", "a@example.com, b@example.com", "Muster, Mia <mia@example.com>", "mia@example.com\nBcc: x@y.de"],
)
def test_a_contact_is_one_person(given: str) -> None:
    with pytest.raises(CompanyError, match="^contact: one person like 'Mia Muster <mia@example.com>' is wanted"):
        checks.person(given)


def test_a_domain_with_letters_of_its_own_is_said_as_mail_servers_spell_it() -> None:
    with pytest.raises(CompanyError, match="^email: .* wanted as mail servers spell it: mia@xn--mller-kva.de$"):
        checks.email("mia@müller.de")


@pytest.mark.parametrize(("given", "read"), [("08:00", time(8)), ("00:00", time(0)), ("23:59", time(23, 59))])
def test_a_time_of_day_is_hours_and_minutes(given: str, read: time) -> None:
    assert checks.time_of_day(given) == read


@pytest.mark.parametrize("given", ["", "8", "8:00", "24:00", "08:60", "08:00:00", "08:00+01:00", "noon", "0\u0668:00"])
def test_what_is_no_time_of_day_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(CompanyError, match="^daily_at: .* is not a time of day like 08:00"):
        checks.time_of_day(given)


def test_kinds_are_known_in_any_case_and_given_once() -> None:
    kinds = checks.kinds(["waiting-for-review", "ORPHANED_LOCAL", "orphaned_local "], "mute")
    assert kinds == [Kind.ORPHANED_LOCAL, Kind.WAITING_FOR_REVIEW]
    with pytest.raises(CompanyError, match="^mute: 'ORPHANS' is none of ORPHANED_LOCAL, "):
        checks.kinds(["ORPHANS"], "mute")


def test_a_delivery_is_one_of_three() -> None:
    assert checks.delivery("daily") is Delivery.DAILY
    with pytest.raises(CompanyError, match="^delivery: 'weekly' is none of immediate, daily, none"):
        checks.delivery("weekly")
