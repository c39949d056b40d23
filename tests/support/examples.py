"""Makes schemas/examples: what each side sends and what comes of it. `python -m tests.support.examples` writes them.

Cal.com's bodies have its shapes; all people, places and ids are made up.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from schemas import topics
from schemas.commands import Reopen, Resolve, Retry
from schemas.dead_letters import DeadLetter
from schemas.flags import AppointmentFacts, Flag, FlagType, Inconsistency, Kind, Why
from schemas.observations import Check, Observation
from schemas.verification import Verdict
from tests.support import builders
from tests.support.builders import HALF_AN_HOUR, NOW, STARTS_AT, Json, having, webhook, z, z_ms

HERE: Final = Path(__file__).parents[2] / "schemas" / "examples"
_IDS: Final = UUID(int=4711)
_NEW_UID: Final = "qVyXscm1ryg2QoQ4K8uHLW"
_UID: Final = "bFJeNb2uX8ANpT3JL5EfXw"
_METADATA: Final = {"appointment_id": "4711"}
_TIMES: Final = {"startTime": z_ms(STARTS_AT), "endTime": z_ms(STARTS_AT + HALF_AN_HOUR)}
_HOST: Final = {"id": 77, "name": "Dr. Kim Vale", "email": "kim.vale@example.org", "timeZone": "Europe/Vienna"}


def made() -> dict[str, str]:
    """Give every example's text by its path below schemas/examples."""
    bodies: dict[str, Any] = {f"appointments/{name}.json": body for name, body in _appointments().items()}
    bodies |= {f"calcom/{body['triggerEvent'].lower()}.json": body for body in _webhooks()}
    bodies |= {f"topics/{name}.json": _plain(struct) for name, struct in _structs().items()}
    texts = {name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in bodies.items()}
    lines = [json.dumps(event, ensure_ascii=False) for event in _appointments()["batch"]]
    return texts | {"appointments/batch.ndjson": "\n".join(lines) + "\n"}


def stale(folder: Path = HERE) -> list[str]:
    """Name the files that are missing, changed or left over."""
    there = {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.*") if path.is_file()}
    texts = made()
    return sorted(name for name in there.keys() | texts.keys() if there.get(name) != texts.get(name))


def write(folder: Path = HERE) -> list[str]:
    """Write what is stale; gives the names."""
    changed, texts = stale(folder), made()
    for name in changed:
        path = folder / name
        if name in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[name], "utf-8")
        else:
            path.unlink()
    return changed


def _appointments() -> dict[str, Any]:
    """An appointment's life at the booking app: one event each, and all of them at once."""
    at = [NOW + number * timedelta(minutes=10) for number in range(5)]
    booked: Json = {"calcom_booking_uid": _UID, "calcom_booking_id": 4001, "event_type_id": 5150}
    moved: Json = booked | {"calcom_booking_uid": _NEW_UID, "calcom_booking_id": 4002}
    later = STARTS_AT + timedelta(days=1)
    event = builders.appointment_event
    life: dict[str, Any] = {
        "created": event("created", event_id="evt_1", occurred_at=at[0]),
        "updated": event("updated", event_id="evt_2", occurred_at=at[1], **booked),
        "rescheduled": event("rescheduled", event_id="evt_3", occurred_at=at[2], starts_at=later, **moved),
        "cancelled": event("cancelled", event_id="evt_4", occurred_at=at[3], starts_at=later, **moved),
        "deleted": event("deleted", event_id="evt_5", occurred_at=at[4], starts_at=later, **moved),
    }
    return life | {"batch": list(life.values())}


def _webhooks() -> list[Json]:
    """One of each trigger that Cal.com has, and the PING of its test button."""
    return [*_of_bookings(), *_of_meetings(), *_of_other_things(), builders.ping()]


def _of_bookings() -> list[Json]:
    created = builders.booking_created(_UID, metadata=_METADATA)
    paid = {"identifier": "cal.com", "bookingId": 4001, "eventTypeId": 5150, "bookerEmail": "nora.guest@example.org"}
    payment = {"paymentId": 88, "price": 4500, "currency": "eur"}
    marked = [{"email": "nora.guest@example.org", "noShow": True}]
    message = "nora.guest@example.org marked as no-show"
    no_show = {"message": message, "attendees": marked, "bookingUid": _UID, "bookingId": 4001}
    return [
        created,
        builders.booking_requested(_UID, metadata=_METADATA),
        builders.booking_rescheduled(_NEW_UID, old_uid=_UID, metadata=_METADATA),
        builders.booking_cancelled(_UID, cancelledBy="nora.guest@example.org"),
        builders.booking_rejected(_UID),
        having(created, **payment) | {"triggerEvent": "BOOKING_PAYMENT_INITIATED"},
        having(created, **payment, **_TIMES, metadata=paid) | {"triggerEvent": "BOOKING_PAID"},
        webhook("BOOKING_NO_SHOW_UPDATED", no_show),
    ]


def _of_meetings() -> list[Json]:
    started = builders.meeting_started(_UID)
    about: Json = {"type": "Check-up", "title": "Check-up", **_TIMES, "uid": _UID, "organizer": _HOST}
    about |= {"attendees": [builders.attendee()]}
    link = "https://app.cal.example/api/video/recording?token=made-up"
    transcription = {"transcription": [{"format": "json", "link": link}], "recording": link}
    no_show: Json = {"title": "Check-up", "bookingId": 4001, "bookingUid": _UID, **_TIMES, "participants": []}
    no_show |= {"attendees": [builders.attendee()], "eventType": {"id": 5150, "teamId": None}}
    instant = {"uid": "instant-1", "eventTypeId": 5150, "eventTypeTitle": "At once", "customInputs": {}}
    instant |= {"responses": {"name": "Nora Guest", "email": "nora.guest@example.org", "guests": []}}
    return [
        started,
        started | {"triggerEvent": "MEETING_ENDED"},
        webhook("RECORDING_READY", about | {"downloadLink": link}),
        webhook("RECORDING_TRANSCRIPTION_GENERATED", about | {"downloadLinks": transcription}),
        webhook("INSTANT_MEETING", instant),
        webhook("AFTER_HOSTS_CAL_VIDEO_NO_SHOW", no_show | {"hostEmail": _HOST["email"]}),
        webhook("AFTER_GUESTS_CAL_VIDEO_NO_SHOW", no_show | {"guests": [builders.attendee()]}),
    ]


def _of_other_things() -> list[Json]:
    """Triggers that say nothing of a booking's state: forms, absences, failures."""
    answers = {"How did you find us": {"value": "A friend", "response": "A friend"}}
    form: Json = {"formId": str(UUID(int=1)), "formName": "Before you book", "teamId": None, "responses": answers}
    absence: Json = {"id": 100, "uuid": str(UUID(int=2)), "start": z(STARTS_AT), "end": z(STARTS_AT + HALF_AN_HOUR)}
    absence |= {"createdAt": z_ms(NOW), "notes": "Holidays", "user": _HOST, "toUser": None}
    fault = {"type": "CalendarAppDelegationCredentialError", "message": "Invalid grant"}
    credential = {"id": 100, "type": "google_calendar", "appId": "google-calendar"}
    booking: Json = {"uid": _UID, "id": 4001, "title": "Check-up", "status": "ACCEPTED", **_TIMES}
    report: Json = {
        "reportedBy": _HOST,
        "guest": "nora.guest@example.org",
        "host": _HOST,
        "additionalNotes": "Not mine",
    }
    return [
        {"How did you find us": "A friend"} | webhook("FORM_SUBMITTED", form),
        webhook("FORM_SUBMITTED_NO_EVENT", form | {"responseId": 100}),
        webhook("ROUTING_FORM_FALLBACK_HIT", form | {"responseId": 101}),
        webhook("OOO_CREATED", {"oooEntry": absence}),
        webhook("DELEGATION_CREDENTIAL_ERROR", {"error": fault, "credential": credential, "user": _HOST}),
        webhook("WRONG_ASSIGNMENT_REPORT", {"booking": booking, "report": report}),
    ]


def _structs() -> dict[str, Any]:
    record_id, flag_id = uuid5(_IDS, "record"), uuid5(_IDS, "flag")
    said: Json = {"record_id": record_id, "version": 3, "actor": "mia@example.org", "issued_at": NOW + HALF_AN_HOUR}
    return {
        "command-resolve": Resolve(id="cmd_1", reason="The patient came without an appointment.", **said),
        "command-reopen": Reopen(id="cmd_2", reason="Looked at again.", **said),
        "command-retry": Retry(id="cmd_3", **said),
        "observation": Observation(id="obs_1", observed_at=NOW + HALF_AN_HOUR, booking=_observed()),
        "check": Check(
            id=f"check-{record_id}-1",
            observed_at=NOW + HALF_AN_HOUR,
            record_id=record_id,
            subject="a:4711",
            number=1,
            verdict=Verdict.FOUND_EQUAL,
            reason="found",
            uid=_UID,
            bookings=[_observed()],
        ),
        "flag": _flag(flag_id, record_id),
        "dead-letter": DeadLetter(
            company_id="praxis",
            topic=topics.CALCOM_BOOKINGS,
            partition=3,
            offset=1204,
            reason="json",
            detail="The body is no JSON object.",
            received_at=NOW,
        ),
    }


def _flag(flag_id: UUID, record_id: UUID) -> Flag:
    deadline_at = NOW + timedelta(minutes=5)
    return Flag(
        id=flag_id,
        type=FlagType.DATA_MISMATCH,
        company_id="praxis",
        record_id=record_id,
        kind=Kind.DATA_MISMATCH,
        generation=1,
        decided_at=deadline_at,
        reason="The app and Cal.com differ in starts_at.",
        verdict="not_verified",
        deadline_at=deadline_at,
        appointment=AppointmentFacts(appointment_id="4711", status="confirmed", starts_at=STARTS_AT),
        inconsistencies=(
            Inconsistency("starts_at", STARTS_AT.isoformat(), (STARTS_AT + timedelta(days=1)).isoformat()),
        ),
        why=Why(
            rule="booking_uid",
            window_seconds=300,
            since=NOW,
            frontiers={topics.APP_APPOINTMENTS: deadline_at, topics.CALCOM_BOOKINGS: deadline_at},
            offsets={topics.APP_APPOINTMENTS: 811, topics.CALCOM_BOOKINGS: 1205},
            cause="evt_1",
        ),
    )


def _observed() -> Json:
    """A booking as `GET /v2/bookings` gives it."""
    person = {"name": "Nora Guest", "email": "nora.guest@example.org", "timeZone": "Europe/Vienna", "absent": False}
    booking: Json = {"id": 4001, "uid": _UID, "title": "Check-up", "status": "accepted", "duration": 30}
    booking |= {"start": z_ms(STARTS_AT), "end": z_ms(STARTS_AT + HALF_AN_HOUR), "eventTypeId": 5150}
    booking |= {"createdAt": z_ms(NOW), "updatedAt": z_ms(NOW), "icsUid": f"{_UID}@Cal.com", "metadata": _METADATA}
    return booking | {"hosts": [_HOST], "attendees": [person], "eventType": {"id": 5150, "slug": "checkup"}}


def _plain(struct: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(struct))


if __name__ == "__main__":
    for changed in write():
        sys.stdout.write(f"schemas/examples/{changed}\n")
