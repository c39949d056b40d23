"""From envelopes to events: what does a body say? Pure: no I/O, no clock, nothing random."""

from collections.abc import Callable
from typing import Final

from schemas.envelope import Envelope
from schemas.topics import APP_APPOINTMENTS, CALCOM_BOOKINGS, SYNC_COMMANDS, TYPE_CHECK, TYPE_OBSERVATION
from services.reconciler.core.events import Checked, Commanded, HeardAppointment, HeardBooking
from services.reconciler.decode.appointments import decode_appointments, parse_appointment
from services.reconciler.decode.calcom import decode_webhook
from services.reconciler.decode.checks import decode_check
from services.reconciler.decode.commands import decode_command
from services.reconciler.decode.observations import decode_observation
from services.reconciler.decode.outcomes import Ignored, Undecodable

__all__ = ["BODY_MAX_BYTES", "Decoded", "Ignored", "Undecodable", "decode", "parse_appointment"]

Decoded = HeardAppointment | HeardBooking | Checked | Commanded | Ignored

#: What the door takes at most. An app that writes to Kafka itself is held to the same.
BODY_MAX_BYTES: Final = 1024 * 1024


def _decode_booking(envelope: Envelope) -> tuple[HeardBooking | Checked | Ignored, ...]:
    """The door never gives the type of an observation or a check to what comes from outside."""
    if envelope.ce_type == TYPE_CHECK:
        return decode_check(envelope)
    return decode_observation(envelope) if envelope.ce_type == TYPE_OBSERVATION else decode_webhook(envelope)


_READERS: Final[dict[str, Callable[[Envelope], tuple[Decoded, ...]]]] = {
    APP_APPOINTMENTS: decode_appointments,
    CALCOM_BOOKINGS: _decode_booking,
    SYNC_COMMANDS: decode_command,
}


def decode(envelope: Envelope) -> tuple[Decoded, ...]:
    """Say what an envelope means: at least one thing. Topic, body and, of what the API answered, `ce_type` decide.

    Whatever is given back can be encoded as JSON and stored in PostgreSQL. Raises Undecodable, and nothing else.
    """
    if not envelope.company_id:
        raise Undecodable("no_company", "The record has no key that names a company.")
    if len(envelope.body) > BODY_MAX_BYTES:
        raise Undecodable("too_large", f"The body has {len(envelope.body)} bytes; {BODY_MAX_BYTES} are allowed.")
    reader = _READERS.get(envelope.topic)
    if reader is None:
        raise Undecodable("unknown_topic", "The topic is none of the three inputs.")
    return reader(envelope)
