"""Events of the booking app. The contract is ours, so a wrong field is said, with its JSON path, and never guessed."""

from datetime import datetime
from typing import Final

import msgspec

from schemas.appointments import AppointmentEvent
from schemas.envelope import Envelope
from services.reconciler.core.events import HeardAppointment
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.values import fits, in_plain_words, not_json, require_storable, utc

_TYPES: Final = "appointment.created, .updated, .rescheduled, .cancelled or .deleted"

_decoder: Final[msgspec.json.Decoder[AppointmentEvent]] = msgspec.json.Decoder(AppointmentEvent)


def decode_appointment(envelope: Envelope) -> HeardAppointment:
    """Read an event of the app from an envelope. Raises Undecodable."""
    return HeardAppointment(envelope.received_at, parse_appointment(envelope.body))


def parse_appointment(body: bytes) -> AppointmentEvent:
    """Read one event; its instants come out in UTC.

    Raises Undecodable: "invalid_json", "invalid_text", "batch" (several events), "unknown_type", "invalid_appointment".
    """
    try:
        event = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(body, error) from None
    except (ValueError, RecursionError):
        raise not_json(body) from None
    require_storable(body, event)
    return _in_bounds(event)


def _invalid(body: bytes, error: msgspec.ValidationError) -> Undecodable:
    if body.lstrip().startswith(b"["):
        return Undecodable("batch", "One record holds one event; this one holds a JSON array.")
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
