"""Bodies as Cal.com and a booking app send them, made here. Times are given or come from NOW; nothing is random."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from schemas.envelope import Envelope
from schemas.topics import APP_APPOINTMENTS, CALCOM_BOOKINGS, TYPE_OBSERVATION
from services.reconciler.decode import Decoded, decode

Json = dict[str, Any]

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
STARTS_AT = datetime(2026, 3, 9, 14, 0, tzinfo=UTC)
HALF_AN_HOUR = timedelta(minutes=30)
WEEKLY: Json = {"freq": 2, "count": 3, "interval": 1}


def z(moment: datetime) -> str:
    """Spell an instant as Cal.com does at creation."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def z_ms(moment: datetime) -> str:
    """Spell an instant with milliseconds, as Cal.com does in `createdAt` and after a confirmation."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_offset(moment: datetime) -> str:
    """Spell an instant with an offset, as Cal.com does in cancellations."""
    return moment.isoformat(timespec="seconds")


def attendee(
    email: str = "nora.guest@example.org", name: str = "Nora Guest", phone: str | None = "+493055501234"
) -> Json:
    """Give one person of a booking."""
    person: Json = {"email": email, "name": name, "firstName": "", "lastName": "", "timeZone": "Europe/Vienna"}
    person |= {"language": {"locale": "de"}, "utcOffset": 60}
    return person if phone is None else person | {"phoneNumber": phone}


def phone_only_attendee(phone: str = "+493055501234") -> Json:
    """Give a person who left no e-mail: Cal.com makes one of the phone number."""
    return attendee(email=phone.removeprefix("+") + "@sms.cal.com", phone=phone)


def webhook(trigger: str, payload: Json, created_at: datetime = NOW) -> Json:
    """Give Cal.com's envelope."""
    return {"triggerEvent": trigger, "createdAt": z_ms(created_at), "payload": payload}


def having(body: Json, **over: Any) -> Json:
    """Give the webhook with these keys of its payload replaced, by anything at all."""
    return body | {"payload": body["payload"] | over}


def _payload(uid: str, booking_id: int | None, starts_at: datetime, attendees: list[Json] | None) -> Json:
    people = [attendee()] if attendees is None else attendees
    answers = {
        "name": {"label": "your_name", "value": people[0]["name"] if people else "", "isHidden": False},
        "email": {"label": "email_address", "value": people[0]["email"] if people else "", "isHidden": False},
        "location": {"label": "location", "value": {"optionValue": "", "value": "inPerson"}, "isHidden": False},
        "notes": {"label": "additional_notes", "isHidden": False},
    }
    return {
        "bookerUrl": "https://booking.example.org",
        "type": "checkup",
        "title": "Check-up between Dr. Kim Vale and Nora Guest",
        "description": "",
        "startTime": z(starts_at),
        "endTime": z(starts_at + HALF_AN_HOUR),
        "eventTypeId": 5150,
        "seatsPerTimeSlot": None,
        "seatsShowAttendees": True,
        "organizer": {
            "id": 77,
            "name": "Dr. Kim Vale",
            "email": "kim.vale@example.org",
            "username": "kim-vale",
            "timeZone": "Europe/Vienna",
            "language": {"locale": "de"},
            "timeFormat": "HH:mm",
            "utcOffset": 60,
        },
        "attendees": people,
        "responses": answers,
        "userFieldsResponses": {},
        "location": "Main street 1",
        "destinationCalendar": None,
        "iCalUID": f"{uid}@Cal.com",
        "iCalSequence": 0,
        "requiresConfirmation": False,
        "uid": uid,
        "bookingId": booking_id,
        "eventTitle": "Check-up",
        "length": 30,
    }


def booking_created(
    uid: str = "uid-1",
    *,
    booking_id: int | None = 4001,
    starts_at: datetime = STARTS_AT,
    metadata: Json | None = None,
    attendees: list[Json] | None = None,
    created_at: datetime = NOW,
    **over: Any,
) -> Json:
    """Give the body of a booking that was accepted at once. `over` replaces or adds keys of the payload."""
    payload = _payload(uid, booking_id, starts_at, attendees)
    payload |= {"metadata": {"videoCallUrl": f"https://meet.example.org/{uid}"} | (metadata or {})}
    return webhook("BOOKING_CREATED", payload | {"status": "ACCEPTED"} | over, created_at)


def booking_requested(uid: str = "uid-1", **options: Any) -> Json:
    """Give the body of a booking that waits for the host's word."""
    pending: Json = {"status": "PENDING", "requiresConfirmation": True}
    return booking_created(uid, **(pending | options)) | {"triggerEvent": "BOOKING_REQUESTED"}


def confirmed_later(
    uid: str = "uid-1", *, starts_at: datetime = STARTS_AT, created_at: datetime = NOW + HALF_AN_HOUR, **options: Any
) -> Json:
    """Give the BOOKING_CREATED that follows the host's word: times in ms, and the booker's metadata is lost."""
    times: Json = {
        "startTime": z_ms(starts_at),
        "endTime": z_ms(starts_at + HALF_AN_HOUR),
        "requiresConfirmation": True,
    }
    confirmed = booking_created(uid, starts_at=starts_at, created_at=created_at, **(times | options))
    del confirmed["payload"]["iCalUID"]
    return confirmed


def booking_rescheduled(
    uid: str = "uid-2",
    *,
    old_uid: str = "uid-1",
    booking_id: int | None = 4002,
    old_booking_id: int | None = 4001,
    starts_at: datetime = STARTS_AT + timedelta(days=1),
    old_starts_at: datetime = STARTS_AT,
    created_at: datetime = NOW + HALF_AN_HOUR,
    **options: Any,
) -> Json:
    """Give the body of a move: a new uid and id, the old ones beside them."""
    old: Json = {"rescheduleUid": old_uid, "rescheduleStartTime": z(old_starts_at), "iCalSequence": 1}
    old |= {"rescheduleEndTime": z(old_starts_at + HALF_AN_HOUR), "rescheduledBy": "nora.guest@example.org"}
    if old_booking_id is not None:
        old["rescheduleId"] = old_booking_id
    moved: Json = {"booking_id": booking_id, "starts_at": starts_at, "created_at": created_at}
    return booking_created(uid, **(old | moved | options)) | {"triggerEvent": "BOOKING_RESCHEDULED"}


def _from_the_database(trigger: str, status: str, payload: Json, created_at: datetime, over: Json) -> Json:
    people = [
        {key: person.get(key) for key in ("name", "email", "timeZone", "phoneNumber", "language", "utcOffset")}
        for person in payload["attendees"]
    ]
    return webhook(trigger, payload | {"attendees": people, "status": status} | over, created_at)


def booking_cancelled(
    uid: str = "uid-1",
    *,
    booking_id: int | None = 4001,
    starts_at: datetime = STARTS_AT,
    attendees: list[Json] | None = None,
    created_at: datetime = NOW + 2 * HALF_AN_HOUR,
    **over: Any,
) -> Json:
    """Give the body of a cancellation: no metadata, times with an offset."""
    times: Json = {"startTime": with_offset(starts_at), "endTime": with_offset(starts_at + HALF_AN_HOUR)}
    why = {"cancellationReason": "Feeling fine again", "requestReschedule": False, "price": None}
    payload = _payload(uid, booking_id, starts_at, attendees) | times | why
    return _from_the_database("BOOKING_CANCELLED", "CANCELLED", payload, created_at, over)


def booking_rejected(
    uid: str = "uid-1",
    *,
    booking_id: int | None = 4001,
    starts_at: datetime = STARTS_AT,
    attendees: list[Json] | None = None,
    created_at: datetime = NOW + 2 * HALF_AN_HOUR,
    **over: Any,
) -> Json:
    """Give the body of the host's refusal: no metadata, times in ms."""
    times = {"startTime": z_ms(starts_at), "endTime": z_ms(starts_at + HALF_AN_HOUR), "rejectionReason": "Full"}
    payload = _payload(uid, booking_id, starts_at, attendees) | times
    return _from_the_database("BOOKING_REJECTED", "REJECTED", payload, created_at, over)


def seat_taken(uid: str = "uid-1", *, email: str, seat_id: str | None = None, **options: Any) -> Json:
    """Give the BOOKING_CREATED of one seat: uid and booking id are shared by all seats."""
    seat: Json = {"seatsPerTimeSlot": 5} | ({} if seat_id is None else {"attendeeSeatId": seat_id})
    return booking_created(uid, attendees=[attendee(email=email)], **(seat | options))


def seat_left(uid: str = "uid-1", *, email: str, **options: Any) -> Json:
    """Give the BOOKING_CANCELLED of one who leaves: no seat id, only the leaver; the booking lives on."""
    seats: Json = {"seatsPerTimeSlot": 5}
    return booking_cancelled(uid, attendees=[attendee(email=email)], **(seats | options))


def seats_moved(uid: str = "uid-1", **options: Any) -> Json:
    """Give the body of a seated booking that its owner moved: uid and booking id stay, no old id is named."""
    seats: Json = {"seatsPerTimeSlot": 5}
    moved = booking_rescheduled(uid, old_uid=uid, booking_id=4001, old_booking_id=None, **(seats | options))
    del moved["payload"]["iCalUID"]
    return moved


def payment_initiated(uid: str = "uid-1", **options: Any) -> Json:
    """Give the body of a booking that waits for its payment: it says ACCEPTED, and the app's id is there."""
    unpaid: Json = {"metadata": {"appointment_id": "4711"}, "price": 1000, "paymentId": 500}
    return booking_created(uid, **(unpaid | options)) | {"triggerEvent": "BOOKING_PAYMENT_INITIATED"}


def paid(uid: str = "uid-1", *, booking_id: int = 4001, **options: Any) -> Json:
    """Give the body of a payment: the metadata is Cal.com's own, numbers among it."""
    own: Json = {"identifier": "example", "bookingId": booking_id, "eventTypeId": 5150, "externalId": "pi_1"}
    body = booking_created(uid, booking_id=booking_id, **options) | {"triggerEvent": "BOOKING_PAID"}
    return having(body, metadata=own, paymentId=500)


def no_show_updated(uid: str = "uid-1", *, booking_id: int = 4001, absent: bool = True) -> Json:
    """Give the body of a mark of absence: `bookingUid`, and no times."""
    marked = [{"email": "nora.guest@example.org", "noShow": absent}]
    payload: Json = {"message": "marked", "attendees": marked, "bookingUid": uid, "bookingId": booking_id}
    return webhook("BOOKING_NO_SHOW_UPDATED", payload)


def video_no_show(trigger: str = "AFTER_GUESTS_CAL_VIDEO_NO_SHOW", uid: str = "uid-1") -> Json:
    """Give the body that says that somebody did not join the call."""
    times = {"startTime": z_ms(STARTS_AT), "endTime": z_ms(STARTS_AT + HALF_AN_HOUR)}
    row = {"id": 32, "email": "nora.guest@example.org", "name": "Nora Guest", "phoneNumber": None, "noShow": False}
    payload: Json = {"title": "Check-up", "bookingId": 4001, "bookingUid": uid, "attendees": [row], "participants": []}
    return webhook(trigger, payload | times | {"eventType": {"id": 50, "teamId": None}, "webhook": {"time": 5}})


def recording_ready(trigger: str = "RECORDING_READY", uid: str = "uid-1") -> Json:
    """Give the body of a recording: a uid and no booking id."""
    payload = _payload(uid, None, STARTS_AT, None)
    return webhook(trigger, {key: payload[key] for key in ("uid", "title", "startTime", "endTime", "attendees")})


def instant_meeting(uid: str = "uid-1") -> Json:
    """Give the body of a meeting at once: answers are plain texts."""
    answers = {"name": "Nora Guest", "email": "nora.guest@example.org", "guests": []}
    return webhook("INSTANT_MEETING", {"triggerEvent": "INSTANT_MEETING", "uid": uid, "responses": answers})


def wrong_assignment(uid: str = "uid-1") -> Json:
    """Give the body of a report: the booking stands one level deeper, its number is `id`."""
    times = {"startTime": z_ms(STARTS_AT), "endTime": z_ms(STARTS_AT + HALF_AN_HOUR)}
    booking: Json = {"uid": uid, "id": 4001, "title": "Check-up", "status": "ACCEPTED", "eventType": {"id": 5150}}
    return webhook("WRONG_ASSIGNMENT_REPORT", {"booking": booking | times, "report": {"guest": "n@example.org"}})


def form_submitted() -> Json:
    """Give the body of a form: users name keys at its root."""
    return webhook("FORM_SUBMITTED", {"formId": "f", "responses": {}}) | {"Which language": ["German"]}


def out_of_office() -> Json:
    """Give the body of an absence."""
    return webhook("OOO_CREATED", {"oooEntry": {"id": 100, "start": with_offset(NOW), "uuid": "0", "toUser": None}})


def api_booking(
    uid: str | None = "uid-1", *, status: str | None = "accepted", starts_at: datetime = STARTS_AT, **over: Any
) -> Json:
    """Give a booking as Cal.com's API answers it, cal-api-version 2024-08-13."""
    host = {"id": 77, "name": "Dr. Kim Vale", "email": "kim.vale@example.org", "timeZone": "Europe/Vienna"}
    person = {"name": "Nora Guest", "email": "nora.guest@example.org", "displayEmail": "nora.guest@example.org"}
    person |= {"timeZone": "Europe/Vienna", "language": "de", "phoneNumber": "+493055501234"}
    times = {"start": z_ms(starts_at), "end": z_ms(starts_at + HALF_AN_HOUR)}
    times |= {"createdAt": z_ms(NOW), "updatedAt": z_ms(NOW + HALF_AN_HOUR)}
    booking: Json = {"id": 4001, "uid": uid, "title": "Check-up", "hosts": [host], "status": status, "guests": []}
    booking |= {"eventTypeId": 5150, "eventType": {"id": 5150, "slug": "checkup"}, "icsUid": f"{uid}@Cal.com"}
    booking |= {"metadata": {"appointment_id": "4711"}, "attendees": [person], "bookingFieldsResponses": {}}
    return booking | times | over


def api_seat(seat_id: str, email: str, metadata: Json | None = None) -> Json:
    """Give one seat of a booking as the API answers it."""
    return {"name": "Nora Guest", "email": email, "seatUid": seat_id, "metadata": metadata or {}}


def observation(booking: object, *, observed_at: datetime = NOW) -> Json:
    """Give what the verifier writes of an answer."""
    return {"type": "observation", "id": "obs-1", "observed_at": z_ms(observed_at), "booking": booking}


def check(*bookings: object, subject: str = "a:4711", verdict: str = "found_equal", **over: Any) -> Json:
    """Give what the verifier writes of a question that was answered."""
    record_id = "6f1f3b0e-2a86-5a5e-9d6b-5d0d5f1f0c11"
    told: Json = {"type": "check", "id": f"check-{record_id}-1", "observed_at": z_ms(NOW), "record_id": record_id}
    told |= {"subject": subject, "number": 1, "verdict": verdict, "reason": verdict, "uid": "uid-1"}
    return told | {"bookings": list(bookings)} | over


def meeting_started(uid: str = "uid-1", *, booking_id: int = 4001, starts_at: datetime = STARTS_AT) -> Json:
    """Give the flat body of a meeting's start: the booking's row; `createdAt` is the booking's."""
    row: Json = {"triggerEvent": "MEETING_STARTED", "id": booking_id, "uid": uid, "status": "ACCEPTED"}
    row |= {"startTime": z_ms(starts_at), "endTime": z_ms(starts_at + HALF_AN_HOUR), "createdAt": z_ms(NOW)}
    return row | {"metadata": {}, "attendees": [attendee()], "fromReschedule": None, "paid": False}


def zapier(starts_at: datetime = STARTS_AT) -> Json:
    """Give the flat body of a Zapier subscription: neither trigger nor uid."""
    times = {"startTime": z(starts_at), "endTime": z(starts_at + HALF_AN_HOUR), "createdAt": z_ms(NOW)}
    return {
        "title": "Check-up",
        "status": "ACCEPTED",
        "eventType": {"title": "Check-up"},
        "attendees": [attendee()],
    } | times


def ping() -> Json:
    """Give the body of the test button."""
    payload = {"type": "Test", "title": "Test trigger event", "startTime": z_ms(NOW), "endTime": z_ms(NOW)}
    return webhook("PING", payload | {"attendees": [attendee()], "organizer": {"name": "Cal", "timeZone": "UTC"}})


def appointment_event(
    kind: str = "created",
    appointment_id: str = "4711",
    *,
    event_id: str | None = None,
    occurred_at: datetime = NOW,
    starts_at: datetime = STARTS_AT,
    ends_at: datetime | None = None,
    status: str | None = None,
    **over: Any,
) -> Json:
    """Give an event of the booking app. `kind` is the word after the dot; `over` replaces keys of the appointment."""
    appointment: Json = {
        "id": appointment_id,
        "starts_at": starts_at.isoformat(),
        "ends_at": (ends_at or starts_at + HALF_AN_HOUR).isoformat(),
        "status": status or ("cancelled" if kind == "cancelled" else "confirmed"),
        "time_zone": "Europe/Vienna",
        "origin": "phone",
        "customer": {"name": "Nora Guest", "email": "nora.guest@example.org", "phone": "+493055501234"},
    }
    name = event_id or f"evt-{appointment_id}-{kind}-{int(occurred_at.timestamp())}"
    event: Json = {"id": name, "type": f"appointment.{kind}", "occurred_at": occurred_at.isoformat()}
    return event | {"appointment": appointment | over}


def body(value: object) -> bytes:
    """Give a value as the bytes of a body."""
    return msgspec.json.encode(value)


def envelope(
    topic: str,
    content: bytes | object,
    company_id: str | None = "acme",
    *,
    received_at: datetime = NOW,
    partition: int = 0,
    offset: int = 0,
) -> Envelope:
    """Give a message as it lies in the log: bytes as they are, anything else as JSON."""
    raw = content if isinstance(content, bytes) else body(content)
    return Envelope(
        topic=topic,
        partition=partition,
        offset=offset,
        company_id=company_id,
        body=raw,
        appended_at=received_at,
        received_at=received_at,
    )


def from_calcom(content: bytes | object, **options: Any) -> Envelope:
    """Give a webhook as it lies in the log."""
    return envelope(CALCOM_BOOKINGS, content, **options)


def observed(content: bytes | object, **options: Any) -> Envelope:
    """Give an answer of the API as it lies in the log, between the webhooks; only its type tells."""
    return replace(from_calcom(content, **options), ce_type=TYPE_OBSERVATION)


def from_app(content: bytes | object, **options: Any) -> Envelope:
    """Give an event of the app as it lies in the log."""
    return envelope(APP_APPOINTMENTS, content, **options)


def decoded(kept: Envelope) -> Decoded:
    """Decode an envelope that says exactly one thing. Raises Undecodable."""
    (one,) = decode(kept)
    return one
