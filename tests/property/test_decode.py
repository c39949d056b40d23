"""Whatever lies in the log, decode says what it is or that it is nothing; and what it says can be kept."""

import json
import random
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.topics import CALCOM_BOOKINGS, INPUTS
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
    b.meeting_started(),
    b.appointment_event(),
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


def outcome(envelope: Envelope) -> Decoded | Undecodable:
    """Decode, and check that whatever comes out can be encoded as JSON, read again and stored."""
    try:
        found: Decoded | Undecodable = decode(envelope)
    except Undecodable as error:
        found = error
    if isinstance(found, Undecodable):
        assert found.reason.replace("_", "").isalpha()
        assert found.detail.isprintable()
        assert found.detail.encode()
        return found
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
    assert not any("\0" in text for text in texts(msgspec.to_builtins(found)))
    return found


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


@given(st.sampled_from(INPUTS), VALUES)
def test_any_json_is_decoded_or_undecodable_and_nothing_else(topic: str, value: object) -> None:
    outcome(b.envelope(topic, json.dumps(value).encode()))


@given(st.sampled_from(INPUTS), twisted())
def test_any_twist_of_a_known_body_is_decoded_or_undecodable_and_nothing_else(topic: str, body: object) -> None:
    outcome(b.envelope(topic, json.dumps(body).encode()))


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


def identity(found: Decoded | Undecodable) -> object:
    """Give what must be alike: the id and all else that was decoded, or the reason."""
    if isinstance(found, Undecodable):
        return found.reason
    return (found.event_id if isinstance(found, Ignored) else event_id(found), found)


@given(TEXT)
def test_any_uid_that_can_be_stored_is_kept_to_the_letter(uid: str) -> None:
    found = outcome(b.from_calcom(json.dumps(b.booking_created(uid)).encode()))
    storable = 0 < len(uid) <= 200 and not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in uid)
    assert isinstance(found, HeardBooking) == storable
    if isinstance(found, HeardBooking):
        assert found.event.uid == uid
