"""Webhook bodies of Cal.com in all their shapes and versions: changes, facts, and what is of no interest."""

from datetime import datetime
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from schemas.bookings import BookingStatus
from schemas.envelope import Envelope
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode.bookings import change, fact, stand_in, status_word
from services.reconciler.decode.fields import Object, readable_moment
from services.reconciler.decode.outcomes import Ignored, Undecodable
from services.reconciler.decode.shapes import Said, no_envelope, read, sort
from services.reconciler.decode.triggers import KNOWN_VERSIONS, RANK_OF_STATUS, TRIGGERS, UNNAMED, Role
from services.reconciler.decode.values import require_storable

_KIND_MAX_CHARS: Final = 100
_NO_BOOKING: Final = (
    "names no booking: neither a uid nor a booking id can be found in the body. Remove the custom payload template of "
    "this webhook at Cal.com, or let it give {{uid}}."
)
#: What a body that we know is a dead letter for; one of a version that we do not know may have moved it elsewhere.
_NOT_FOUND: Final = frozenset({"no_envelope", "no_booking"})
_NO_WORD: Final = frozenset({"unknown_trigger", "no_trigger"})


def decode_webhook(envelope: Envelope) -> tuple[HeardBooking | Ignored, ...]:
    """Read a webhook body. Raises Undecodable.

    A version that is not known is read by what is: Cal.com's shapes have changed within one version, and to refuse
    them all would make an orphan of every appointment.
    """
    root, canonical = read(envelope.body)
    said = sort(root)
    version = envelope.webhook_version
    if version is None or version in KNOWN_VERSIONS:
        return (_understood(envelope, said, canonical),)
    try:
        decoded = _understood(envelope, said, canonical)
    except Undecodable as error:
        if error.reason not in _NOT_FOUND:
            raise
        decoded = _ignored(envelope, said, canonical, "unknown_version")
    if type(decoded) is Ignored and decoded.reason in _NO_WORD:
        decoded = replace(decoded, reason="unknown_version")
    return (decoded,)


def _understood(envelope: Envelope, said: Said, canonical: bytes) -> HeardBooking | Ignored:
    trigger = TRIGGERS.get(said.name)
    if trigger is None:
        return _unnamed(envelope, said, canonical)
    if trigger.role is Role.IGNORED:
        return _ignored(envelope, said, canonical, "ping" if said.name == "PING" else "by_policy")
    uid = said.uid or stand_in(said)
    if uid is None:
        if trigger.role is Role.CHANGE:
            raise Undecodable("no_booking", f"{said.name} {_NO_BOOKING}")
        return _ignored(envelope, said, canonical, "by_policy")
    event_id = _event_id(trigger.rank, canonical)
    told = change if trigger.role is Role.CHANGE else fact
    event = told(said, said.name, uid, event_id, envelope.received_at)
    require_storable(envelope.body, event)
    return HeardBooking(envelope.received_at, event)


def _unnamed(envelope: Envelope, said: Said, canonical: bytes) -> HeardBooking | Ignored:
    """Read a body that names no trigger that we know: a booking and its state are as good."""
    if said.name:
        return _ignored(envelope, said, canonical, "unknown_trigger")
    uid = said.uid or stand_in(said)
    if uid is None:
        raise no_envelope(said.root)
    status: BookingStatus | None = status_word(said.payload.get("status"))
    if status is None:
        return _ignored(envelope, said, canonical, "no_trigger")
    event_id = _event_id(RANK_OF_STATUS[status], canonical)
    event = change(said, UNNAMED, uid, event_id, envelope.received_at)
    require_storable(envelope.body, event)
    return HeardBooking(envelope.received_at, event)


def _event_id(rank: int, canonical: bytes) -> str:
    return f"cal-{rank}-{sha256(canonical).hexdigest()[:32]}"


def _ignored(envelope: Envelope, said: Said, canonical: bytes, reason: str) -> Ignored:
    kind = said.name[:_KIND_MAX_CHARS] or "unnamed"
    ignored = Ignored(_event_id(0, canonical), kind, reason, _when(said.root))
    require_storable(envelope.body, ignored)
    return ignored


def _when(root: Object) -> datetime | None:
    """Give the event's time; a flat body is a booking's row, and its createdAt is the booking's."""
    return readable_moment(root, "createdAt") if isinstance(root.get("payload"), dict) else None
