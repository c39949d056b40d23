"""Rows as API v2 gives them, by `cal-api-version`. Pure."""

from datetime import datetime
from typing import Final

from services.embedded.calcom.model import Account, Booking, Json, Person, Webhook
from services.embedded.calcom.spelling import to_milliseconds

CODES: Final = {
    400: "BadRequestException", 401: "UnauthorizedException", 403: "ForbiddenException", 404: "NotFoundException",
    409: "ConflictException", 429: "ThrottlerException", 498: "TokenExpiredException",
    500: "InternalServerErrorException", 503: "ServiceUnavailableException",
}  # fmt: skip
REASONS: Final = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    498: "Token Expired", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip


def booking(row: Booking, host: Account, *, seats_shown: bool = True) -> Json:
    """Give a booking, version 2024-08-13. `seats_shown`: whoever asks may see who sits there."""
    minutes = int((row.end - row.start).total_seconds() // 60)
    # One value that is no text, and the API's own parser gives up on the row.
    parsed = all(isinstance(value, str) for value in row.metadata.values())
    location = row.location if parsed else "unknown"
    return (
        {
            "id": row.id,
            "uid": row.uid,
            "title": row.title,
            "description": "",
            "hosts": [_host(host)],
            "status": row.status.lower(),
            "cancellationReason": row.cancellation_reason,
            "cancelledByEmail": row.cancelled_by,
            "start": to_milliseconds(row.start),
            "end": to_milliseconds(row.end),
            "duration": minutes,
            "eventTypeId": row.event_type.id,
            "eventType": {"id": row.event_type.id, "slug": row.event_type.slug},
            "meetingUrl": location,
            "location": location,
            "absentHost": row.absent_host,
            "createdAt": to_milliseconds(row.created_at),
            "updatedAt": None if row.updated_at is None else to_milliseconds(row.updated_at),
            "metadata": row.metadata if parsed else {},
            "rating": None,
            "icsUid": row.ical_uid,
        }
        | _people(row, seats_shown=seats_shown)
        | _links(row)
    )


def _host(host: Account) -> Json:
    known = {"id": host.user_id, "name": host.name, "email": host.email, "displayEmail": host.email}
    return known | {"username": host.username, "timeZone": host.time_zone}


def _people(row: Booking, *, seats_shown: bool) -> Json:
    if row.event_type.seats is not None:
        return {"attendees": [_seat(person) for person in row.attendees] if seats_shown else []}
    recurring = row.series_uid is not None
    return {
        "attendees": [_attendee(person, with_phone=not recurring) for person in row.attendees],
        "guests": [person.email for person in row.attendees[1:]],
        "bookingFieldsResponses": _answers(row),
    }


def _attendee(person: Person, *, with_phone: bool) -> Json:
    known: Json = {"name": person.name, "email": person.email, "displayEmail": person.email}
    known |= {"timeZone": person.time_zone, "language": person.language, "absent": person.absent}
    return known | ({"phoneNumber": person.phone} if with_phone and person.phone else {})


def _seat(person: Person) -> Json:
    answers = {"name": person.name, "email": person.email}
    seat = {"seatUid": person.seat_uid, "bookingFieldsResponses": answers, "metadata": person.metadata}
    return _attendee(person, with_phone=False) | seat


def _answers(row: Booking) -> Json:
    first = row.attendees[0]
    phone = {} if first.phone is None else {"attendeePhoneNumber": first.phone}
    location = {"value": "integrations:daily", "optionValue": ""}
    guests = [person.email for person in row.attendees[1:]]
    return {"name": first.name, "email": first.email, "guests": guests} | phone | {"location": location}


def _links(row: Booking) -> Json:
    """Give what is only there where it says something."""
    recurring = row.series_uid is not None
    found = {
        "rescheduledFromUid": row.from_uid,
        "rescheduledToUid": None if recurring else row.to_uid,
        "rescheduledByEmail": row.rescheduled_by,
        "reschedulingReason": row.rescheduling_reason,
        "recurringBookingUid": row.series_uid,
    }
    return {key: value for key, value in found.items() if value is not None}


def old_booking(row: Booking, host: Account) -> Json:
    """Give a booking, version 2024-04-15: nearly the row itself."""
    call = {"videoCallUrl": row.call_url} if row.status == "ACCEPTED" else {}
    return {
        "id": row.id,
        "uid": row.uid,
        "userPrimaryEmail": host.email,
        "eventTypeId": row.event_type.id,
        "title": row.title,
        "description": "",
        "startTime": to_milliseconds(row.start),
        "endTime": to_milliseconds(row.end),
        "status": row.status,
        "metadata": row.metadata | call,
        "user": {"id": host.user_id, "name": host.name, "email": host.email, "timeZone": host.time_zone},
        "attendees": [
            {"name": one.name, "email": one.email, "timeZone": one.time_zone, "locale": one.language}
            for one in row.attendees
        ],
        "location": row.location,
        "rescheduled": row.to_uid is not None or None,
        "fromReschedule": row.from_uid,
        "recurringEventId": row.series_uid,
        "paid": row.paid,
    }


def success(data: object, **more: object) -> Json:
    """Give the envelope of an answer."""
    return {"status": "success", "data": data} | more


def pagination(total: int, returned: int, take: int, skip: int) -> Json:
    """Say where in a list a page stands, by `take` and `skip`."""
    pages = -(-total // take)
    page = 0 if total == 0 else skip // take + 1
    return {
        "returnedItems": returned,
        "totalItems": total,
        "itemsPerPage": take,
        "remainingItems": max(0, total - skip - returned),
        "currentPage": page,
        "totalPages": pages,
        "hasNextPage": skip + returned < total,
        "hasPreviousPage": skip > 0,
    }


def webhook(one: Webhook) -> Json:
    """Give a subscription, its secret included: so does Cal.com."""
    return {
        "payloadTemplate": one.payload_template,
        "triggers": list(one.triggers),
        "userId": one.user_id,
        "id": one.id,
        "subscriberUrl": one.subscriber_url,
        "active": one.active,
        "secret": one.secret,
    }


def error(status: int, message: str, path: str, at: datetime, *, details: object = None) -> Json:
    """Give the documented shape of an error. Without `details`: those of the framework; a 429's are a text."""
    if details is None:
        told = {"message": message, "error": REASONS.get(status, ""), "statusCode": status}
        details = message if status == 429 else told  # noqa: PLR2004 - HTTP's
    said = {"code": CODES[status], "message": message, "details": details}
    return {"status": "error", "timestamp": to_milliseconds(at), "path": path, "error": said}


def invalid(prop: str, value: object, constraints: dict[str, str]) -> Json:
    """Give one of the errors of a validation."""
    return {"target": {prop: value}, "value": value, "property": prop, "children": [], "constraints": constraints}
