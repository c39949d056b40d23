"""Whatever lies in the log, decode says what it is or that it is nothing; and what it says can be kept."""

import json
import random
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.envelope import Envelope
from schemas.topics import CALCOM_BOOKINGS, INPUTS, TYPE_OBSERVATION
from services.reconciler.core.events import HeardBooking, event_id
from services.reconciler.decode import Decoded, Ignored, Undecodable, decode
from tests.support import builders as b

#: Text of every kind, half surrogate pairs and NUL among it: a body may hold them as escapes.
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
BODIES = [
    b.booking_created(metadata={"appointment_id": "4711"}),
    b.booking_rescheduled(),
    b.seat_taken(email="a@example.org", seat_id="seat-1"),
    b.booking_cancelled(),
    b.booking_cancelled(seatsPerTimeSlot=5, attendees=[b.attendee(), b.attendee(email="a@example.org")]),
    b.meeting_started(),
    b.no_show_updated(),
    b.wrong_assignment(),
    b.observation(b.api_booking()),
    b.observation(b.api_booking(attendees=[b.api_seat("seat-1", "a@example.org"), b.api_seat("seat-2", "b")])),
    {"event": "BOOKING_CREATED", "booking_uid": "uid-1", "start": "2026-03-09T14:00:00Z"},
    b.appointment_event(),
    [b.appointment_event(appointment_id="1"), b.appointment_event(appointment_id="2")],
    {"type": "reopen", "id": "c", "record_id": "6f1b1c52-7c11-5c6e-9d52-0f4a1f0f7a01", "version": 1}
    | {"actor": "mia", "issued_at": "2026-03-02T10:00:00Z"},
]


@st.composite
def twisted(draw: st.DrawFn) -> Any:
    """Give a body of a known shape in which some fields, at any depth, are replaced by anything."""
    body: Any = json.loads(json.dumps(draw(st.sampled_from(BODIES))))
    for _ in range(draw(st.integers(0, 3))):
        at = body
        while True:
            key = draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
            if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            at[key] = draw(VALUES)
            break
    return body


def outcome(envelope: Envelope) -> tuple[Decoded, ...] | Undecodable:
    """Decode, and check that whatever comes out can be encoded as JSON, read again and stored."""
    try:
        found = told = decode(envelope)
        error = None
    except Undecodable as refused:
        error, found, told = refused, (), refused.salvaged
        assert error.reason.replace("_", "").isalpha()
        assert error.detail.isprintable()
        assert error.detail.encode()
    for one in told:
        assert msgspec.json.decode(msgspec.json.encode(one), type=type(one)) == one
        assert not any("\0" in text for text in texts(msgspec.to_builtins(one)))
    assert found or error
    return error or found


KINDS = st.sampled_from([None, TYPE_OBSERVATION, "anything"])


def texts(value: object) -> list[str]:
    """Give all texts of a value."""
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return [text for one in inner for text in texts(one)]
    return [value] if isinstance(value, str) else []


@given(st.sampled_from(INPUTS), st.binary(max_size=200))
@example(CALCOM_BOOKINGS, b"false")
def test_any_bytes_are_decoded_or_undecodable_and_nothing_else(topic: str, body: bytes) -> None:
    outcome(b.envelope(topic, body))


@given(st.sampled_from(INPUTS), VALUES, KINDS)
def test_any_json_is_decoded_or_undecodable_and_nothing_else(topic: str, value: object, kind: str | None) -> None:
    outcome(replace(b.envelope(topic, json.dumps(value).encode()), ce_type=kind))


@given(st.sampled_from(INPUTS), twisted(), KINDS)
def test_any_twist_of_a_known_body_is_decoded_or_undecodable_and_nothing_else(
    topic: str, body: object, kind: str | None
) -> None:
    outcome(replace(b.envelope(topic, json.dumps(body).encode()), ce_type=kind))


@given(twisted(), st.integers(0, 8), st.randoms(use_true_random=False))
def test_key_order_and_white_space_change_nothing(body: object, indent: int, chance: random.Random) -> None:
    plain = json.dumps(body, separators=(",", ":")).encode()
    turned = json.dumps(shuffled(body, chance), indent=indent, ensure_ascii=False)
    spaced = json.dumps(shuffled(body, chance), indent=indent).encode()
    first, second = outcome(b.from_calcom(plain)), outcome(b.from_calcom(spaced))
    assert identity(first) == identity(second)
    if all(not "\ud800" <= char <= "\udfff" for char in turned):
        assert identity(outcome(b.from_calcom(turned.encode()))) == identity(first)


def shuffled(value: Any, chance: random.Random) -> Any:
    """Give the same JSON with the keys of every object in another order."""
    if isinstance(value, list):
        return [shuffled(one, chance) for one in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    chance.shuffle(keys)
    return {key: shuffled(value[key], chance) for key in keys}


def identity(found: tuple[Decoded, ...] | Undecodable) -> object:
    """Give what must be alike: the id and all else that was decoded, or the reason."""
    if isinstance(found, Undecodable):
        return found.reason
    return [(one.event_id if isinstance(one, Ignored) else event_id(one), one) for one in found]


@given(TEXT)
def test_any_uid_that_can_be_stored_is_kept_to_the_letter(uid: str) -> None:
    found = outcome(b.from_calcom(json.dumps(b.booking_created(uid, booking_id=None)).encode()))
    storable = 0 < len(uid) <= 200 and not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in uid)
    assert isinstance(found, tuple) == (storable and not uid.startswith("id:"))
    if isinstance(found, tuple):
        assert [one.event.uid for one in found if isinstance(one, HeardBooking)] == [uid]
