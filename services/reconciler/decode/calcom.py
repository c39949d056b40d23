"""Webhook bodies of Cal.com in all their shapes. The content type is never asked: it is often wrong."""

from datetime import datetime
from hashlib import sha256
from typing import Final

import msgspec

from schemas.envelope import Envelope
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode.bookings import Object, a_time, booking_event, uid_of
from services.reconciler.decode.outcomes import Ignored, Undecodable
from services.reconciler.decode.values import half_paired, not_json, require_storable

#: The triggers that say what a booking is, with their place in its life: equal times fall in this order.
RANKS: Final = {
    "BOOKING_REQUESTED": 1,
    "BOOKING_CREATED": 2,
    "BOOKING_RESCHEDULED": 3,
    "BOOKING_REJECTED": 4,
    "BOOKING_CANCELLED": 5,
}
#: Cal.com's other triggers. None says anything that a record is made of; payment is not looked at yet.
IGNORED: Final = frozenset(
    {
        "AFTER_GUESTS_CAL_VIDEO_NO_SHOW",
        "AFTER_HOSTS_CAL_VIDEO_NO_SHOW",
        "BOOKING_NO_SHOW_UPDATED",
        "BOOKING_PAID",
        "BOOKING_PAYMENT_INITIATED",
        "DELEGATION_CREDENTIAL_ERROR",
        "FORM_SUBMITTED",
        "FORM_SUBMITTED_NO_EVENT",
        "INSTANT_MEETING",
        "MEETING_ENDED",
        "MEETING_STARTED",
        "OOO_CREATED",
        "RECORDING_READY",
        "RECORDING_TRANSCRIPTION_GENERATED",
        "ROUTING_FORM_FALLBACK_HIT",
        "WRONG_ASSIGNMENT_REPORT",
    }
)
_KIND_MAX_CHARS: Final = 100
_NO_ENVELOPE: Final = (
    "The body names neither a trigger event nor a booking: the webhook at Cal.com must have no custom payload template."
)

_decoder: Final = msgspec.json.Decoder()
_canonical: Final = msgspec.json.Encoder(order="sorted")


def decode_webhook(envelope: Envelope) -> HeardBooking | Ignored:
    """Read a webhook body. Raises Undecodable."""
    root, canonical = _read(envelope.body)
    if not isinstance(root, dict):
        raise Undecodable("no_envelope", _NO_ENVELOPE)
    trigger = _trigger(root)
    rank = RANKS.get(trigger, 0)
    event_id = f"cal-{rank}-{sha256(canonical).hexdigest()[:32]}"
    if rank == 0:
        return _ignore(envelope, root, event_id)
    uid = uid_of(root)
    if uid is None:
        raise Undecodable("no_envelope", f"{trigger} has no booking uid of 1 to 200 characters at `$.payload.uid`.")
    event = booking_event(root, trigger, uid, event_id, envelope.received_at)
    require_storable(envelope.body, event)
    return HeardBooking(envelope.received_at, event)


def _read(body: bytes) -> tuple[object, bytes]:
    """Give the body's value and its canonical JSON: sorted keys, no white space."""
    try:
        value: object = _decoder.decode(body)
        return value, _canonical.encode(value)
    except (ValueError, RecursionError):
        # Half a surrogate pair in a text that nobody stores (a note cut in the middle of an emoji) loses no booking.
        read = half_paired(body)
    if read is None:
        raise _not_json(body)
    return read


def _not_json(body: bytes) -> Undecodable:
    """Tell the text of a custom template, such as `event=…&uid=…`, from a body that broke."""
    error = not_json(body)
    if error.reason == "invalid_json" and b"=" in body and body.lstrip()[:1] not in (b"{", b"["):
        return Undecodable("no_envelope", _NO_ENVELOPE)
    return error


def _trigger(root: Object) -> str:
    trigger = root.get("triggerEvent")
    return trigger if isinstance(trigger, str) else ""


def _ignore(envelope: Envelope, root: Object, event_id: str) -> Ignored:
    trigger = _trigger(root)
    if trigger:
        ignored = Ignored(event_id, trigger[:_KIND_MAX_CHARS], _why(trigger), _when(root))
    elif uid_of(root) is not None or _like_zapier(root):
        ignored = Ignored(event_id, "unnamed", "no_trigger", _when(root))
    else:
        raise Undecodable("no_envelope", _NO_ENVELOPE)
    require_storable(envelope.body, ignored)
    return ignored


def _why(trigger: str) -> str:
    if trigger == "PING":
        return "ping"
    return "by_policy" if trigger in IGNORED else "unknown_trigger"


def _when(root: Object) -> datetime | None:
    """Give the event's time; a flat body is a booking's row, and its createdAt is the booking's."""
    if not isinstance(root.get("payload"), dict):
        return None
    try:
        return a_time(root, "createdAt")
    except Undecodable:
        return None


def _like_zapier(root: Object) -> bool:
    """Tell a Zapier or Make subscription's body, which has neither trigger nor uid."""
    return isinstance(root.get("startTime"), str) and isinstance(root.get("attendees"), list)
