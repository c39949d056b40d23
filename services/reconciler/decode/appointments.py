"""Events of the booking app. The contract is ours, so a wrong field is said, with its JSON path, and never guessed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from schemas.appointments import AppointmentEvent
from schemas.envelope import Envelope
from services.reconciler.core.events import HeardAppointment
from services.reconciler.decode.outcomes import DETAIL_MAX_CHARS, Undecodable
from services.reconciler.decode.values import fits, in_plain_words, not_json, require_storable, utc

#: Of an array, or of lines (NDJSON), as at the door.
EVENTS_MAX: Final = 500
_TYPES: Final = "appointment.created, .updated, .rescheduled, .cancelled or .deleted"
_ROOM_CHARS: Final = DETAIL_MAX_CHARS - 40

_decoder: Final[msgspec.json.Decoder[AppointmentEvent]] = msgspec.json.Decoder(AppointmentEvent)
_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def decode_appointments(envelope: Envelope) -> tuple[HeardAppointment, ...]:
    """Read what the app says in one envelope: an event, a JSON array of them, or one a line; at most EVENTS_MAX.

    Raises Undecodable, of several events with those salvaged that are valid; of more than EVENTS_MAX none is.
    """
    try:
        return (HeardAppointment(envelope.received_at, parse_appointment(envelope.body)),)
    except Undecodable as error:
        bodies = _several(envelope.body)
        if bodies is None:
            raise
        wrong = error
    if len(bodies) > EVENTS_MAX:
        detail = f"One record holds {len(bodies)} events; {EVENTS_MAX} are taken, and of more than these none."
        raise Undecodable("batch_too_large", detail) from None
    if not bodies:
        raise Undecodable(wrong.reason, "`$` holds no event.") from None
    return _each(bodies, envelope.received_at)


def parse_appointment(body: bytes) -> AppointmentEvent:
    """Read one event; its instants come out in UTC.

    Raises Undecodable: "invalid_json", "invalid_text", "unknown_type", "invalid_appointment".
    """
    try:
        event = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (ValueError, RecursionError):
        raise not_json(body) from None
    require_storable(body, event)
    return _in_bounds(event)


def _several(body: bytes) -> list[tuple[int, bytes]] | None:
    """Give the events of an array, or of lines, with their places; None: the body is one event, and a wrong one.

    Raises Undecodable where an array is broken: what would be cut out of it cannot be trusted.
    """
    if body.lstrip(b" \t\r\n")[:1] == b"[":
        try:
            return [(number, bytes(raw)) for number, raw in enumerate(_list.decode(body))]
        except (ValueError, RecursionError):
            raise not_json(body) from None
    lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
    bodies = [(number, line) for number, line in enumerate(lines) if line]
    return bodies if len(bodies) > 1 and _whole(bodies[0][1]) else None


def _whole(line: bytes) -> bool:
    try:
        _raw.decode(line)
    except (ValueError, RecursionError):
        return False
    return True


def _each(bodies: Iterable[tuple[int, bytes]], received_at: datetime) -> tuple[HeardAppointment, ...]:
    heard: list[HeardAppointment] = []
    wrong: list[str] = []
    for number, body in bodies:
        try:
            heard.append(HeardAppointment(received_at, parse_appointment(body)))
        except Undecodable as error:
            wrong.append(_placed(error.detail, number))
    if wrong:
        raise Undecodable("invalid_appointment", _as_many_as_fit(wrong), tuple(heard))
    return tuple(heard)


def _placed(detail: str, number: int) -> str:
    """Say where among the others an event is wrong; lines and elements are counted from 0, as paths count."""
    place = f"`$[{number}]"
    return detail.replace("`$", place, 1) if "`$" in detail else f"{place}`: {detail}"


def _as_many_as_fit(wrong: Sequence[str]) -> str:
    said = wrong[0][:_ROOM_CHARS]
    for count, one in enumerate(wrong[1:], 1):
        if len(said) + len(one) + 1 > _ROOM_CHARS:
            return f"{said} And {len(wrong) - count} more."
        said = f"{said} {one}"
    return said


def _invalid(error: msgspec.ValidationError) -> Undecodable:
    said = in_plain_words(error)
    if "`$.type`" in said or "required field `type`" in said:
        return Undecodable("unknown_type", f"`$.type` must be one of {_TYPES}.")
    return Undecodable("invalid_appointment", said)


def _in_bounds(event: AppointmentEvent) -> AppointmentEvent:
    appointment = event.appointment
    for name in ("calcom_booking_id", "event_type_id"):
        if not fits(getattr(appointment, name)):
            raise Undecodable("invalid_appointment", f"`$.appointment.{name}` is too large.")
    ends_at = appointment.ends_at
    return msgspec.structs.replace(
        event,
        occurred_at=_utc(event.occurred_at, "occurred_at"),
        appointment=msgspec.structs.replace(
            appointment,
            starts_at=_utc(appointment.starts_at, "appointment.starts_at"),
            ends_at=None if ends_at is None else _utc(ends_at, "appointment.ends_at"),
        ),
    )


def _utc(moment: datetime, path: str) -> datetime:
    return utc(moment, f"`$.{path}`", "invalid_appointment")
