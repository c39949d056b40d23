"""Histories of events as hypothesis draws them: few names, few times, so that they meet."""

from hypothesis import strategies as st

from services.reconciler.core.events import Heard, event_id
from tests.support.history import calcom, local

_APPOINTMENTS = st.sampled_from(["1", "2"])
_UIDS = st.sampled_from(["A", "B", "C"])
_SECONDS = st.integers(0, 40)
_MINUTES = st.sampled_from([0, 30])


def _local(kind: str, seconds: int, appointment: str, minutes: int, uid: str | None) -> Heard:
    name = f"{kind}-{seconds}-{appointment}-{minutes}-{uid}"
    return local(kind, seconds, appointment, minutes=minutes, calcom_booking_uid=uid, id=name)


def _calcom(trigger: str, seconds: int, uid: str, parent: str | None, minutes: int, appointment: str | None) -> Heard:
    moment = seconds + ord(uid) / 1000
    old = parent if parent != uid else None
    return calcom(trigger, moment, uid, parent=old, minutes=minutes, appointment_id=appointment)


def _distinct(events: list[Heard]) -> list[Heard]:
    return list({event_id(event): event for event in events}.values())


def histories(most: int = 10) -> st.SearchStrategy[list[Heard]]:
    """Draw up to so many distinct events of two appointments and three bookings."""
    kinds = st.sampled_from(["created", "updated", "rescheduled", "cancelled", "deleted"])
    triggers = st.sampled_from(["CREATED", "REQUESTED", "RESCHEDULED", "CANCELLED", "REJECTED"])
    letter = st.builds(_local, kinds, _SECONDS, _APPOINTMENTS, _MINUTES, st.none() | _UIDS) | st.builds(
        _calcom, triggers, _SECONDS, _UIDS, st.none() | _UIDS, _MINUTES, st.none() | _APPOINTMENTS
    )
    return st.lists(letter, min_size=1, max_size=most).map(_distinct)
