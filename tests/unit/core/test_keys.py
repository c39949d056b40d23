"""Keys: what may be about the same appointment lies under one."""

from typing import Any

import pytest

from schemas.bookings import Scope
from services.reconciler.core.keys import chain_root, keys_of_appointment, keys_of_booking
from tests.support.history import POLICY, calcom, local

RHYTHM: dict[str, Any] = {"recurring": "2.3.1"}


def shared(appointment: dict[str, Any], booking: dict[str, Any]) -> set[str]:
    """Give the kinds of key that an appointment and a booking share."""
    ours = keys_of_appointment(local(**appointment), POLICY)
    theirs = keys_of_booking(calcom(**booking), POLICY)
    return {key[:2] for key in set(ours) & set(theirs)}


@pytest.mark.parametrize(
    ("appointment", "booking", "kinds"),
    [
        ({"email": None, "calcom_booking_uid": "A"}, {}, {"u:"}),
        ({"email": None, "calcom_booking_uid": "A"}, {"uid": "B", "parent": "A"}, {"u:"}),
        ({"email": None, "calcom_booking_uid": "B"}, {"next_uid": "B"}, {"u:"}),
        ({"email": None, "calcom_booking_uid": "A"}, {"uid": "B", "ical_uid": "A@Cal.com"}, {"u:"}),
        ({"email": None, "calcom_booking_uid": "S"}, {"seat": "mia@example.com", "seat_id": "S"}, {"u:"}),
        ({"email": None, "calcom_booking_id": 7}, {"booking_id": 7}, {"i:"}),
        ({"email": None, "calcom_booking_id": 7}, {"booking_id": 8, "parent_id": 7}, {"i:"}),
        ({"email": None}, {"appointment_id": "4711"}, {"a:"}),
        ({}, {}, {"w:"}),
        ({"email": None, "phone": "0151 12345678"}, {"phone": "+4915112345678"}, {"w:"}),
        ({"email": "tom@example.com"}, {"guests": ("tom@example.com",)}, {"w:"}),
        ({"email": None}, {}, set()),
        ({"email": "tom@example.com"}, {}, set()),
        ({"minutes": 10}, {}, set()),
    ],
)
def test_whoever_may_belong_together_shares_a_key(
    appointment: dict[str, Any], booking: dict[str, Any], kinds: set[str]
) -> None:
    assert shared(appointment, booking) == kinds


@pytest.mark.parametrize("apart_seconds", [0, 1, 30, 59, 60])
@pytest.mark.parametrize("minutes", [0, 1.5, 2, 2.5, 3, 4.99])
@pytest.mark.parametrize("sign", [-1, 1])
def test_starts_within_a_minute_share_a_key_wherever_the_buckets_lie(
    apart_seconds: int, minutes: float, sign: int
) -> None:
    assert "w:" in shared({"minutes": minutes}, {"minutes": minutes + sign * apart_seconds / 60})


def test_the_occurrences_of_a_series_share_a_key_until_they_are_made() -> None:
    one, other = calcom(uid="A", **RHYTHM), calcom(seconds=250, uid="B", minutes=10_080, **RHYTHM)
    keys = set(keys_of_booking(one, POLICY)) & set(keys_of_booking(other, POLICY))
    assert {key[:2] for key in keys} == {"s:"}
    over = calcom("CANCELLED", 250, uid="B", scope=Scope.SERIES, **RHYTHM)
    assert not any(key.startswith("s:") for key in keys_of_booking(over, POLICY))


@pytest.mark.parametrize(
    ("ical_uid", "root"),
    [("A@Cal.com", "A"), ("B@Cal.com", None), ("A@google.com", None), ("@Cal.com", None), ("", None), (None, None)],
)
def test_only_calcoms_own_calendar_id_tells_how_a_chain_began(ical_uid: str | None, root: str | None) -> None:
    assert chain_root(calcom(uid="B", ical_uid=ical_uid).event) == root


def test_of_seats_the_calendar_id_tells_nothing() -> None:
    assert chain_root(calcom(uid="B", ical_uid="A@Cal.com", seat="mia@example.com").event) is None


def test_a_booking_that_is_known_by_its_number_alone_has_no_key_of_a_uid() -> None:
    assert keys_of_booking(calcom(uid="id:7", booking_id=7, email=None), POLICY) == ("i:7",)
