"""Bodies as the two sides send them: Cal.com's webhooks in their real shapes, the booking app's events."""

from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

ZONE: Final = "Europe/Berlin"
EVENT_TYPE_ID: Final = 2420858


class Visit(Struct, frozen=True, kw_only=True):
    """One appointment of the practice and the booking that belongs to it.

    `uids` and `booking_ids` are those of the booking and of its reschedules, oldest first; `starts_at` and `booked_at`
    are aware, UTC.
    """

    appointment_id: str
    uids: tuple[str, ...]
    booking_ids: tuple[int, ...]
    starts_at: datetime
    booked_at: datetime
    length_minutes: int
    name: str
    email: str
    phone: str


def webhook(
    visit: Visit, trigger: str, minute: int, *, generation: int = 0, shift_minutes: int = 0, metadata: bool = False
) -> bytes:
    """Give the body of a Cal.com webhook, sent `minute` minutes after the visit was booked.

    `generation` picks the uid (0: the first; each reschedule takes the next). `metadata`: it names the appointment.
    """
    head = {"triggerEvent": trigger, "createdAt": _milliseconds(visit.booked_at + timedelta(minutes=minute))}
    starts_at = visit.starts_at + timedelta(minutes=shift_minutes)
    payload = _common(visit, generation) | _times(trigger, starts_at, visit.length_minutes) | _EXTRAS[trigger]
    if trigger in ("BOOKING_CREATED", "BOOKING_REQUESTED", "BOOKING_RESCHEDULED"):
        named = {"appointment_id": visit.appointment_id} if metadata else {}
        payload["metadata"] = {"videoCallUrl": f"https://app.cal.com/video/{visit.uids[generation]}"} | named
    if trigger == "BOOKING_RESCHEDULED":
        payload |= {
            "rescheduleUid": visit.uids[generation - 1],
            "rescheduleId": visit.booking_ids[generation - 1],
            "rescheduledBy": visit.email,
        }
    return msgspec.json.encode(head | {"payload": payload})


def appointment_event(
    visit: Visit, what: str, minute: int, *, status: str = "confirmed", shift_minutes: int = 0, linked: bool = True
) -> bytes:
    """Give the body of an event of the booking app: `appointment.<what>`. `linked`: the app names the booking."""
    starts_at = visit.starts_at + timedelta(minutes=shift_minutes)
    ends_at = starts_at + timedelta(minutes=visit.length_minutes)
    zone = ZoneInfo(ZONE)
    event = {
        "id": f"evt_{visit.appointment_id}_{what}_{minute}",
        "type": f"appointment.{what}",
        "occurred_at": (visit.booked_at + timedelta(minutes=minute)).isoformat(),
        "appointment": {
            "id": visit.appointment_id,
            "starts_at": starts_at.astimezone(zone).isoformat(),
            "ends_at": ends_at.astimezone(zone).isoformat(),
            "status": status,
            "time_zone": ZONE,
            "calcom_booking_uid": visit.uids[0] if linked else None,
            "calcom_booking_id": visit.booking_ids[0] if linked else None,
            "event_type_id": EVENT_TYPE_ID,
            "origin": "phone",
            "customer": {"name": visit.name, "email": visit.email, "phone": visit.phone},
        },
    }
    return msgspec.json.encode(event)


_EXTRAS: Final[dict[str, dict[str, Any]]] = {
    "BOOKING_CREATED": {"status": "ACCEPTED", "requiresConfirmation": False, "hashedLink": None},
    "BOOKING_REQUESTED": {"status": "PENDING", "requiresConfirmation": True, "hashedLink": None},
    "BOOKING_RESCHEDULED": {"status": "ACCEPTED", "requiresConfirmation": False, "iCalSequence": 1},
    "BOOKING_CANCELLED": {"status": "CANCELLED", "cancellationReason": "Feeling better", "requestReschedule": False},
    "BOOKING_REJECTED": {"status": "REJECTED", "requiresConfirmation": True, "rejectionReason": "No free room"},
}


def _common(visit: Visit, generation: int) -> dict[str, Any]:
    return {
        "bookerUrl": "https://cal.com",
        "title": f"Intake between Dr. Ada Host and {visit.name}",
        "type": f"intake-{visit.length_minutes}",
        "eventTitle": "Intake",
        "eventTypeId": EVENT_TYPE_ID,
        "organizer": {
            "id": 1401,
            "name": "Dr. Ada Host",
            "email": "ada.host@example.com",
            "username": "ada-host",
            "timeZone": ZONE,
            "language": {"locale": "en"},
            "timeFormat": "h:mma",
            "utcOffset": 60,
        },
        "attendees": [
            {
                "email": visit.email,
                "name": visit.name,
                "phoneNumber": visit.phone,
                "timeZone": ZONE,
                "language": {"locale": "de"},
                "utcOffset": 60,
            }
        ],
        "responses": {
            "name": {"label": "your_name", "value": visit.name, "isHidden": False},
            "email": {"label": "email_address", "value": visit.email, "isHidden": False},
        },
        "customInputs": {},
        "userFieldsResponses": {},
        "location": "integrations:daily",
        "destinationCalendar": None,
        "seatsPerTimeSlot": None,
        "organizationId": None,
        "iCalUID": f"{visit.uids[0]}@Cal.com",
        "iCalSequence": 0,
        "uid": visit.uids[generation],
        "bookingId": visit.booking_ids[generation],
        "length": visit.length_minutes,
        "price": 0,
        "currency": "usd",
    }


def _times(trigger: str, starts_at: datetime, length_minutes: int) -> dict[str, str]:
    """Spell the times as each of Cal.com's senders does: three ways."""
    ends_at = starts_at + timedelta(minutes=length_minutes)
    if trigger == "BOOKING_CANCELLED":  # the server's own offset
        zone = ZoneInfo(ZONE)
        return {"startTime": starts_at.astimezone(zone).isoformat(), "endTime": ends_at.astimezone(zone).isoformat()}
    if trigger == "BOOKING_REJECTED":
        return {"startTime": _milliseconds(starts_at), "endTime": _milliseconds(ends_at)}
    return {"startTime": _seconds(starts_at), "endTime": _seconds(ends_at)}


def _seconds(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
