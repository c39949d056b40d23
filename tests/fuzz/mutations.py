"""What can go wrong with a body: first with its values, then with its bytes. All chance comes from one seed."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any, Final

from tests.support import builders as b

#: A guest and a seat more than the builders' usual.
_TWO: Final = [b.attendee(), b.attendee(email="a@example.org", phone=None)]
WEBHOOKS: Final[list[Any]] = [
    b.booking_created(metadata={"appointment_id": "4711"}),
    b.booking_created(recurringEvent=b.WEEKLY),
    b.booking_created(attendees=[b.phone_only_attendee()]),
    b.booking_requested(),
    b.confirmed_later(),
    b.booking_rescheduled(),
    b.booking_cancelled(),
    b.booking_cancelled(requestReschedule=True),
    b.booking_cancelled(seatsPerTimeSlot=5, attendees=_TWO),
    b.booking_cancelled(recurringEvent=b.WEEKLY),
    b.booking_rejected(),
    b.seat_taken(email="a@example.org", seat_id="seat-1"),
    b.seat_left(email="a@example.org"),
    b.seats_moved(attendees=_TWO),
    b.payment_initiated(),
    b.paid(),
    b.no_show_updated(),
    b.meeting_started(),
    b.video_no_show(),
    b.recording_ready(),
    b.instant_meeting(),
    b.wrong_assignment(),
    b.form_submitted(),
    b.out_of_office(),
    b.ping(),
    b.zapier(),
    {"event": "BOOKING_CREATED", "booking_uid": "uid-1", "start": b.z(b.STARTS_AT), "booking_id": "4001"},
    {"uid": "uid-1", "status": "ACCEPTED", "starts_at": b.z(b.STARTS_AT)},
    [b.booking_created()],
    b.webhook("BOOKING_CREATED", {}) | {"payload": [b.booking_created()["payload"]]},
    False,
    None,
]
FORMS: Final = [
    b"event=BOOKING_CREATED&uid=uid-1&when=2026-03-09T14:00:00Z",
    b"trigger=BOOKING_CANCELLED&uid=uid-1&bookingId=4001&title=Tea &amp; talk&status=CANCELLED",
    "uid=uid-1&status=ACCEPTED&title=Fr\N{LATIN SMALL LETTER U WITH DIAERESIS}hst\N{PALM TREE}ck&x".encode(),
]
OBSERVATIONS: Final[list[Any]] = [
    b.observation(b.api_booking()),
    b.observation(b.api_booking(status="cancelled", rescheduledToUid="uid-2")),
    b.observation(b.api_booking("uid-2", rescheduledFromUid="uid-1")),
    b.observation(b.api_booking(attendees=[b.api_seat("seat-1", "a@example.org"), b.api_seat("seat-2", "b@x.org")])),
]
CHECKS: Final[list[Any]] = [
    b.check(b.api_booking()),
    b.check(b.api_booking(status="cancelled", rescheduledToUid="uid-2"), b.api_booking("uid-2"), verdict="moved"),
    b.check(subject="b:uid-1", verdict="absent_once"),
    b.check(subject="b:uid-1", verdict="absent", number=2, id="check-2", observed_at=b.z_ms(b.NOW + b.HALF_AN_HOUR)),
    b.check(subject="b:uid-1#a@example.org", verdict="unknown", uid=None),
]
_LINKED: Final = b.appointment_event(calcom_booking_uid="uid-1", calcom_booking_id=4001, event_type_id=5150)
APPOINTMENTS: Final[list[Any]] = [
    b.appointment_event(),
    _LINKED,
    b.appointment_event("cancelled"),
    b.appointment_event("deleted", customer=None),
    [b.appointment_event(appointment_id="1"), b.appointment_event(appointment_id="2"), _LINKED],
]
COMMANDS: Final[list[Any]] = [
    {"type": "resolve", "id": "c-1", "record_id": "6f1b1c52-7c11-5c6e-9d52-0f4a1f0f7a01", "version": 1}
    | {"actor": "mia", "issued_at": "2026-03-02T10:00:00Z", "reason": "seen"},
    {"type": "retry", "id": "c-2", "record_id": "6f1b1c52-7c11-5c6e-9d52-0f4a1f0f7a01", "version": 1}
    | {"actor": "mia", "issued_at": "2026-03-02T10:00:00Z", "sweep": True},
]

_TEXTS: Final = [
    "", " ", "\0", "a\0b", "\ud800", "\udc00x", "\N{PALM TREE}", "e\N{COMBINING ACUTE ACCENT}" * 40, "\u202eabc",
    "\ufeff", "\uffff", "x" * 250, "x" * 5000, "null", "undefined", "[object Object]", "false", "0", "-1", "9" * 30,
    "9" * 400, "2026-12-31T23:59:60Z", "2026-03-09T24:00:00Z", "2026-03-09T14:00:00", "2026-02-30T10:00:00Z",
    "2026-03-09T14:00:00+01:00[Europe/Berlin]", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "Mon Mar 09 2026 14:00:00 GMT+0000", "1767225600000", "BOOKING_CREATED", "BOOKING_CANCELLED", "PING", "CANCELLED",
    "accepted", "id:4001", "id:", "uid-1", "uid-2", "@", "@sms.cal.com", "1@sms.cal.com", "a@b@c", "+", "+++49",
    "+49 30 1234567 ext. 12", "tel:+493055501234", "\u0664\u0667\u0661\u0661", "'; DROP TABLE records; --", "{{uid}}",
]  # fmt: skip
_NUMBERS: Final = [
    0, 1, -1, 5, 4001, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**70), 10**30, 10**400, 10**4000,
    0.5, -0.0, 4001.0, 1e308, 1e-300, float("inf"), float("nan"),
]  # fmt: skip
_PLAIN: Final[list[Any]] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [{}],
    [None],
    {"": ""},
    {"value": "+43 1"},
    {"uid": "uid-9"},
]

Where = tuple[Any, Any]


def anything(chance: random.Random) -> Any:
    """Give a value that somebody might write there."""
    kind = chance.randrange(5)
    if kind == 0:
        return chance.choice(_NUMBERS)
    if kind == 1:
        return copy.deepcopy(chance.choice(_PLAIN))
    if kind == 2:
        return [chance.choice(_TEXTS) for _ in range(chance.choice((1, 2, 60)))]
    return chance.choice(_TEXTS)


def places(value: Any) -> list[Where]:
    """Give every (holder, key) of a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [found for key in keys for found in ((value, key), *places(value[key]))]


def _drop(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    del holder[key]


def _replace(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    holder[key] = anything(chance)


def _rename(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    if isinstance(holder, dict):
        names = (
            key.upper(),
            key.lower(),
            f"{key} ",
            key[:-1],
            chance.choice(_TEXTS),
            "uid",
            "booking",
            "payload",
            "id",
        )
        holder[chance.choice(names)] = holder.pop(key)
    else:
        holder.append(holder.pop(key))


def _retype(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    value = holder[key]
    holder[key] = chance.choice(([value], {"value": value}, str(value)[:2000], [value, value], json.dumps(value)))


def _nest(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    for _ in range(chance.choice((1, 1, 3, 50))):
        holder[key] = {"payload": holder[key]} if chance.random() < 0.5 else [holder[key]]


def _swap(chance: random.Random, holder: Any, key: Any, root: Any) -> None:
    other, at = chance.choice(places(root))
    taken = copy.deepcopy(other[at])
    holder[key] = taken


def _splice(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    donors = places(chance.choice((WEBHOOKS, OBSERVATIONS, APPOINTMENTS)))
    other, at = chance.choice(donors)
    holder[key] = copy.deepcopy(other[at])


def _grow(chance: random.Random, holder: Any, key: Any, _: Any) -> None:
    value = holder[key]
    if isinstance(value, list) and value:
        holder[key] = value * chance.choice((2, 60, 501))
    elif isinstance(value, dict):
        value |= {chance.choice(_TEXTS): anything(chance) for _ in range(3)}
    else:
        holder[key] = anything(chance)


_OF_VALUES: Final[list[Callable[[random.Random, Any, Any, Any], None]]] = [
    _drop, _drop, _replace, _replace, _replace, _rename, _rename, _retype, _nest, _swap, _splice, _grow,
]  # fmt: skip


def _truncate(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _flip(chance: random.Random, body: bytes) -> bytes:
    turned = bytearray(body)
    for _ in range(chance.choice((1, 1, 3, 20))):
        if turned:
            turned[chance.randrange(len(turned))] ^= 1 << chance.randrange(8)
    return bytes(turned)


def _cut_out(chance: random.Random, body: bytes) -> bytes:
    start = chance.randrange(len(body) + 1)
    return body[:start] + body[start + chance.choice((1, 2, 10, 100)) :]


def _insert(chance: random.Random, body: bytes) -> bytes:
    bits: tuple[bytes, ...] = (
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\\u0000",
        b"\\ud83d",
        b"\\",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
    )
    bits += (b"&", b"=", b"&amp;", b"&uid=u&", b"\n", b"\r\n", b"\xef\xbb\xbf", b"1e999", b"NaN", b"-", b"9" * 5000)
    at = chance.randrange(len(body) + 1)
    return body[:at] + chance.choice(bits) * chance.choice((1, 1, 1, 200)) + body[at:]


def _twice(chance: random.Random, body: bytes) -> bytes:
    """Say a key twice, with another value the second time."""
    at = body.find(b"{", chance.randrange(len(body) + 1))
    name = chance.choice(("uid", "bookingId", "triggerEvent", "payload", "startTime", "id", "type", "attendees"))
    pair = json.dumps({name: chance.choice(_TEXTS)}).encode()[1:-1]
    return body if at < 0 else body[: at + 1] + pair + (b"," if body[at + 1 : at + 2] != b"}" else b"") + body[at + 1 :]


def _joined(chance: random.Random, body: bytes) -> bytes:
    other = written(chance, chance.choice((*WEBHOOKS, *APPOINTMENTS)))
    cut, seam = chance.randrange(len(body) + 1), chance.choice((b"", b"\n", b",", b"&"))
    return chance.choice((body + seam + other, body[:cut] + other, b"[" + body + b"," + other + b"]"))


def _otherwise_encoded(chance: random.Random, body: bytes) -> bytes:
    text = body.decode(errors="replace")
    encoding = chance.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "utf-8-sig", "utf-7"))
    return text.encode(encoding, errors="replace")


def _deep(chance: random.Random, body: bytes) -> bytes:
    depth = chance.choice((100, 1_000, 20_000))
    opened, closed = chance.choice(((b"[", b"]"), (b'{"payload":', b"}")))
    return opened * depth + body + closed * depth * chance.choice((0, 1))


def _as_form(chance: random.Random, body: bytes) -> bytes:
    return chance.choice(FORMS) + chance.choice((b"", b"&payload=" + body[:500]))


_OF_BYTES: Final[list[Callable[[random.Random, bytes], bytes]]] = [
    _truncate, _flip, _flip, _cut_out, _insert, _insert, _twice, _twice, _joined, _otherwise_encoded, _deep, _as_form,
]  # fmt: skip


def written(chance: random.Random, value: Any) -> bytes:
    """Write a value as JSON in one of the ways in which it is written."""
    escaped, indent = chance.random() < 0.7, chance.choice((None, None, 2))
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    return text.encode(errors="surrogatepass")


def lines(chance: random.Random, value: Any) -> bytes:
    """Write the elements of an array one a line."""
    return b"\n".join(written(chance, one).replace(b"\n", b" ") for one in value)


def mutant(chance: random.Random, shapes: list[Any]) -> bytes:
    """Give a body that was one of these shapes before one to four things went wrong with it."""
    root = [copy.deepcopy(chance.choice(shapes))]
    wrong = chance.choice((1, 1, 1, 2, 2, 3, 4))
    of_values = sum(chance.random() < 0.7 for _ in range(wrong))
    for _ in range(of_values):
        found = places(root)
        if not found:
            break
        holder, key = chance.choice(found)
        chance.choice(_OF_VALUES)(chance, holder, key, root)
    value = root[0] if root else None
    body = lines(chance, value) if isinstance(value, list) and chance.random() < 0.5 else written(chance, value)
    for _ in range(wrong - of_values):
        body = chance.choice(_OF_BYTES)(chance, body)
    return body
