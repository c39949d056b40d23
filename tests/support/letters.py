"""Histories of events as hypothesis draws them: few names, few times, so that they meet."""

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.bookings import BookingStatus, Scope
from schemas.rules import COMPARED, Waiting
from services.reconciler.core.events import Heard, event_id
from services.reconciler.core.policy import Policy
from tests.support.history import calcom, local

_APPOINTMENTS = st.sampled_from(["1", "2"])
_UIDS = st.sampled_from(["A", "B", "C"])
_SECONDS = st.integers(0, 40)
_MINUTES = st.sampled_from([0, 30])
_EMAILS = st.sampled_from(["mia@example.com", "Mia@Example.com", "tom@example.com", None])
_PHONES = st.sampled_from([None, None, "+4915112345678", "0151 12345678"])
_NUMBERS = {"A": 7, "B": 8, "C": 9}
_SEATS = ("mia@example.com", "tom@example.com")
_KINDS = st.sampled_from(["created", "updated", "rescheduled", "cancelled", "deleted"])
_TRIGGERS = st.sampled_from(["CREATED", "REQUESTED", "RESCHEDULED", "CANCELLED", "REJECTED"])
_STATUSES = st.sampled_from(["confirmed", "pending", "cancelled"])


def _local(kind: str, seconds: int, appointment: str, minutes: int, fields: dict[str, Any]) -> Heard:
    fields = {name: value for name, value in fields.items() if value is not None or name == "email"}
    name = f"{kind}-{seconds}-{appointment}-{minutes}-{sorted(fields.items(), key=str)}"
    if kind == "cancelled":
        fields = fields | {"status": "cancelled"}
    return local(kind, seconds, appointment, minutes=minutes, id=name, **fields)


def _calcom(trigger: str, seconds: int, uid: str, minutes: int, fields: dict[str, Any]) -> Heard:
    fields = {name: value for name, value in fields.items() if value is not None or name in ("email", "status")}
    for link in ("parent", "next_uid"):
        if fields.get(link) == uid:
            del fields[link]
    moment = seconds + ord(uid) / 1000
    name = f"cal-{trigger}-{moment}-{uid}-{minutes}-{sorted(fields.items(), key=str)}"
    return calcom(trigger, moment, uid, minutes=minutes, id=name, **fields)


def _booking(trigger: st.SearchStrategy[str], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Heard]:
    return st.builds(_calcom, trigger, _SECONDS, _UIDS, _MINUTES, st.fixed_dictionaries(fields))


def _maybe(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


def _numbered(letter: Heard) -> Heard:
    """Give a booking its own number, and the one that it took the place of."""
    event: Any = letter.event
    parent = _NUMBERS.get(event.parent_uid or "")
    return replace(letter, event=replace(event, booking_id=_NUMBERS[event.uid], parent_id=parent, parent_uid=None))


#: What the app says.
APP = st.builds(
    _local,
    _KINDS,
    _SECONDS,
    _APPOINTMENTS,
    _MINUTES,
    st.fixed_dictionaries(
        {
            "calcom_booking_uid": st.none() | _UIDS,
            "calcom_booking_id": _maybe(None, None, 7, 8),
            "email": _EMAILS,
            "phone": _PHONES,
            "status": _STATUSES,
        }
    ),
)
#: A booking's life: made, moved, confirmed, called off.
LIFE = _booking(
    _TRIGGERS,
    parent=st.none() | _UIDS,
    appointment_id=st.none() | _APPOINTMENTS,
    email=_EMAILS,
    phone=_PHONES,
    ical_uid=_maybe(None, "A@Cal.com", "B@Cal.com", "some@calendar"),
    reschedule_requested=st.sampled_from([None, None, True]),
)
#: The same, linked by numbers.
NUMBERED = _booking(_TRIGGERS, parent=st.none() | _UIDS).map(_numbered)
#: Payments, and facts that change nothing.
FACTS = _booking(
    st.sampled_from(["PAYMENT_INITIATED", "PAID", "NO_SHOW_UPDATED", "MEETING_STARTED"]),
    appointment_id=st.none() | _APPOINTMENTS,
    seat=_maybe(None, None, *_SEATS),
)
#: What the API answered.
ANSWERS = _booking(
    st.just("OBSERVED"),
    status=st.sampled_from([*BookingStatus, None]),
    parent=st.none() | _UIDS,
    next_uid=st.none() | _UIDS,
    appointment_id=st.none() | _APPOINTMENTS,
)
#: One seat's word, and words that are meant for all.
SEATS = _booking(
    st.sampled_from(["CREATED", "RESCHEDULED", "CANCELLED"]),
    seat=st.sampled_from(_SEATS),
    seat_id=_maybe(None, "S1", "S2"),
    parent=_maybe(None, "A", "B", "S1"),
    appointment_id=st.none() | _APPOINTMENTS,
    email=st.sampled_from(_SEATS),
)
ALL_SEATS = _booking(
    st.sampled_from(["RESCHEDULED", "CANCELLED", "REJECTED"]),
    seat=st.just(_SEATS[0]),
    seats=_maybe((), _SEATS, _SEATS[::-1]),
    scope=st.just(Scope.BOOKING),
    guests=st.just(_SEATS[1:]),
)
#: Occurrences, and words that are meant for a series.
SERIES = _booking(
    st.sampled_from(["CREATED", "REQUESTED", "CANCELLED", "REJECTED"]),
    recurring=st.just("2.3.1"),
    scope=_maybe(Scope.SERIES, Scope.SERIES),
    appointment_id=_maybe(None, "1"),
)


def _distinct(events: list[Heard]) -> list[Heard]:
    return list({event_id(event): event for event in events}.values())


def histories(most: int = 10) -> st.SearchStrategy[list[Heard]]:
    """Draw up to so many distinct events of two appointments and three bookings."""
    of_all = st.lists(APP | LIFE | NUMBERED | FACTS | ANSWERS | SEATS | ALL_SEATS | SERIES, min_size=1, max_size=most)
    # Most of what can go wrong needs several of one kind.
    of_one = st.sampled_from([LIFE, NUMBERED | LIFE, FACTS | LIFE, ANSWERS | LIFE, SEATS | ALL_SEATS, SERIES]).flatmap(
        lambda letters: st.lists(APP | letters, min_size=1, max_size=most)
    )
    return (of_all | of_one).map(_distinct)


def policies() -> st.SearchStrategy[Policy]:
    """Draw a company's rules."""
    waiting = st.sampled_from([*Waiting])
    return st.builds(
        Policy,
        window_seconds=st.sampled_from([20.0, 300.0]),
        settling_window_seconds=st.sampled_from([None, 600.0]),
        unconfirmed=waiting,
        unpaid=waiting,
        compared=st.sampled_from([COMPARED, ("status",), ("starts_at", "ends_at")]),
        match_by_attendee=st.booleans(),
    )
