"""A webhook's body, whatever its shape → the parts of it that speak of a booking, under Cal.com's own names.

Most bodies are an envelope `{triggerEvent, createdAt, payload}`, and pass here without being touched. The others are
flat, or a custom template wrote them: JSON with fields dropped and renamed, or `event=…&uid=…` of raw, unquoted text.
The content type is never asked: it is often wrong.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from services.reconciler.decode.fields import Object, an_object, appointment_id, number, uid
from services.reconciler.decode.outcomes import Undecodable
from services.reconciler.decode.triggers import TRIGGERS
from services.reconciler.decode.values import canonical, half_paired, instant, not_json

_NO_ENVELOPE: Final = (
    "The body names neither a trigger event nor a booking: remove the custom payload template of this webhook at "
    "Cal.com, or let it give {{triggerEvent}}, {{createdAt}}, {{uid}}, {{bookingId}}, {{startTime}}, {{endTime}} and "
    "{{status}} under these names."
)
_UNRENDERED: Final = (
    "The body is the bare word `false`: Cal.com could not render the webhook's custom payload template to valid JSON; "
    "a quote or a line break in a title is enough. Remove the custom payload template of this webhook at Cal.com."
)
_ZAPIER: Final = (
    "The body is that of a Zapier or Make subscription, which names neither a trigger event nor a booking: enter this "
    "address as a webhook of its own at Cal.com (Settings, Developer, Webhooks), without Zapier or Make."
)
_SEVERAL: Final = "The body holds several webhooks in one array; Cal.com sends each on its own."

_CONTAINERS: Final = ("payload", "data", "booking")
_TRIGGER_KEYS: Final = ("triggerEvent", "trigger_event", "trigger", "event", "eventName", "event_name", "type")
_UID_KEYS: Final = ("uid", "bookingUid", "booking_uid", "bookingUID")
_RENAMED: Final = {
    "bookingId": ("booking_id",),
    "eventTypeId": ("event_type_id",),
    "rescheduleUid": ("reschedule_uid", "fromReschedule"),
    "rescheduleId": ("reschedule_id",),
    "status": ("bookingStatus", "booking_status"),
    "attendeeSeatId": ("attendee_seat_id",),
}
_RENAMED_TIMES: Final = {
    "startTime": ("start", "start_time", "starts_at", "startsAt", "when"),
    "endTime": ("end", "end_time", "ends_at", "endsAt"),
}
#: Handlebars escapes what HTML would misread; Cal.com undoes the quotes alone.
_ESCAPES: Final = {
    "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'", "&#39;": "'", "&#x60;": "`", "&#x3D;": "=", "&amp;": "&",
}  # fmt: skip
_ESCAPED: Final = re.compile("|".join(_ESCAPES))
_ESCAPE_CUT: Final = re.compile(r"(?:lt|gt|quot|amp|#x27|#39|#x60|#x3D);")

_decoder: Final = msgspec.json.Decoder()
_canonical: Final = msgspec.json.Encoder(order="sorted")


class Said(Struct, frozen=True):
    """What a body says, sorted.

    `name`: the trigger's, empty where none is named. `payload` speaks of the booking, under Cal.com's names; in a
    flat body it is all of it. `uid` as it stands, wherever it stands.
    """

    name: str
    root: Object
    payload: Object
    uid: str | None
    flat: bool


def read(body: bytes) -> tuple[Object, bytes]:
    """Give the body's object and its canonical JSON: sorted keys, no white space. Raises Undecodable."""
    try:
        value: object = _decoder.decode(body)
        written = _canonical.encode(value)
    except (ValueError, RecursionError):
        value, written = _odd(body)
    if type(value) is dict:
        return value, written
    return _only(value)


def sort(root: Object) -> Said:
    """Say what stands where. Raises Undecodable("batch")."""
    name, payload = root.get("triggerEvent"), root.get("payload")
    if type(payload) is dict and type(name) is str and "startTime" in payload and name.startswith("BOOKING_"):
        named = uid(payload.get("uid"))
        if named is not None and name in TRIGGERS:
            return Said(name, root, payload, named, False)  # noqa: FBT003 - a keyword costs
    return _sort_any(root)


def no_envelope(root: Object) -> Undecodable:
    """Say what an admin has to change at Cal.com, where a body names neither a trigger nor a booking."""
    zapier = isinstance(root.get("startTime"), str) and isinstance(root.get("attendees"), list)
    return Undecodable("no_envelope", _ZAPIER if zapier else _NO_ENVELOPE)


def _odd(body: bytes) -> tuple[object, bytes]:
    # Half a surrogate pair in a text that nobody stores (a note cut in the middle of an emoji) loses no booking.
    found = half_paired(body)
    if found is not None:
        return found
    error = not_json(body)
    if error.reason == "invalid_json" and b"=" in body and body.lstrip()[:1] not in (b"{", b"["):
        pairs = _pairs(body.decode())
        return pairs, _canonical.encode(pairs)
    raise error


def _pairs(text: str) -> Object:
    """Read `key=value&key=value` as a custom template gives it: nothing is quoted in it, and texts may hold an `&`."""
    if "\0" in text:
        raise Undecodable("invalid_text", "The text of the body has a NUL character in it.")
    pieces: list[str] = []
    for piece in text.split("&"):
        if pieces and ("=" not in piece or _ESCAPE_CUT.match(piece)):
            pieces[-1] += f"&{piece}"
        else:
            pieces.append(piece)
    found: Object = {}
    for piece in pieces:
        key, _, value = piece.partition("=")
        found.setdefault(key.strip(), _ESCAPED.sub(_unescaped, value).strip())
    return found


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPES[match[0]]


def _only(value: object) -> tuple[Object, bytes]:
    """Give the one object of an array."""
    if value is False:
        raise Undecodable("no_envelope", _UNRENDERED)
    objects = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
    if len(objects) > 1:
        raise Undecodable("batch", _SEVERAL)
    if not objects:
        raise Undecodable("no_envelope", _NO_ENVELOPE)
    return objects[0], canonical(objects[0])


def _sort_any(root: Object) -> Said:
    held = _held(root)
    flat = not held
    payload = _with_booking(held or root)
    name = _trigger(root, held)
    named = _first_uid((payload, root))
    if payload.get("bookingId") is None and ((flat and name) or name.startswith("MEETING_")):
        payload = payload | {"bookingId": payload.get("booking_id") or payload.get("id")}
    return Said(name, root, _renamed(payload, root), named, flat)


def _held(root: Object) -> Object:
    """Give the object inside the envelope that speaks of the booking; empty where the body is flat."""
    payload = root.get("payload")
    if isinstance(payload, list) and sum(isinstance(one, dict) for one in payload) > 1:
        raise Undecodable("batch", _SEVERAL)
    return next((held for key in _CONTAINERS if (held := an_object(root.get(key)))), {})


def _with_booking(payload: Object) -> Object:
    """Lay a booking that stands inside the payload over it: there its number is called `id`."""
    booking = an_object(payload.get("booking"))
    if not booking:
        return payload
    kind = an_object(booking.get("eventType")).get("id")
    more = {
        "bookingId": booking.get("bookingId") or booking.get("id"),
        "eventTypeId": booking.get("eventTypeId") or kind,
    }
    return payload | booking | {key: value for key, value in more.items() if value is not None}


def _first_uid(holders: Iterable[Object]) -> str | None:
    found = (uid(holder.get(key)) for holder in holders for key in _UID_KEYS)
    return next((one for one in found if one is not None), None)


def _trigger(root: Object, held: Object) -> str:
    """Find the trigger: under its own name or another, or as any text at the top that is a trigger's name.

    Of the test button no text is taken for it that stands just anywhere.
    """
    own = root.get("triggerEvent")
    if isinstance(own, str) and own in TRIGGERS:
        return own
    for holder in (root, held):
        for key in _TRIGGER_KEYS:
            if isinstance(named := holder.get(key), str) and named in TRIGGERS:
                return named
    anywhere = (root[key] for key in sorted(root))
    found = (one for one in anywhere if isinstance(one, str) and one in TRIGGERS and one != "PING")
    return next(found, own if isinstance(own, str) else "")


def _renamed(payload: Object, root: Object) -> Object:
    """Give the payload with Cal.com's own names beside those that a template chose."""
    more: Object = {}
    for name, others in (*_RENAMED.items(), *_RENAMED_TIMES.items()):
        if _absent(payload.get(name)):
            given = (payload.get(key) for key in others)
            usable = _is_time if name in _RENAMED_TIMES else _is_there
            more[name] = next((one for one in given if usable(one)), None)
    if "metadata" not in payload and (own := appointment_id(payload)) is not None:
        more["metadata"] = {"appointment_id": own}
    if _absent(payload.get("status")) and not more.get("status"):
        more["status"] = root.get("status")
    return payload | more


def _absent(value: object) -> bool:
    return value is None or value == ""


def _is_there(value: object) -> bool:
    return not _absent(value)


def _is_time(value: object) -> bool:
    """What a template spells for people is no time, and loses no booking."""
    return isinstance(value, str) and instant(value) is not None


def numbered(payload: Object) -> int | None:
    """Give Cal.com's own number of the booking."""
    return number(payload.get("bookingId"))
