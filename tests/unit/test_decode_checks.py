"""What the verifier told of a question: the bookings that were found, then the answer."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas import topics
from schemas.envelope import Envelope
from services.reconciler.core.events import Checked, HeardBooking
from services.reconciler.decode import Undecodable, decode
from tests.support import builders as b


def checked(**over: Any) -> Envelope:
    """Give an envelope as the verifier writes it."""
    body = b.check(b.api_booking(), reason="equal") | over
    return replace(b.observed(body), ce_type=topics.TYPE_CHECK)


def refused(envelope: Envelope) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        decode(envelope)
    return caught.value


def test_the_bookings_come_first_then_the_answer() -> None:
    booking, answer = decode(checked())
    assert isinstance(booking, HeardBooking)
    assert (booking.event.uid, booking.event.trigger) == ("uid-1", "OBSERVED")
    assert isinstance(answer, Checked)
    assert (answer.answer.subject, answer.answer.number, answer.answer.verdict) == ("a:4711", 1, "found_equal")
    assert answer.answer.observed_at == b.NOW


def test_a_booking_of_a_check_is_the_same_event_as_the_one_that_a_poll_found() -> None:
    found, _ = decode(checked())
    (polled,) = decode(b.observed(b.observation(b.api_booking())))
    assert isinstance(found, HeardBooking)
    assert isinstance(polled, HeardBooking)
    assert found.event == polled.event


def test_what_is_absent_has_no_booking() -> None:
    (answer,) = decode(checked(verdict="absent_once", reason="not_found", bookings=[]))
    assert isinstance(answer, Checked)
    assert answer.answer.verdict.missing


def test_a_booking_that_cannot_be_read_leaves_an_answer_that_says_nothing() -> None:
    """Else the record would wait for it in vain: its question is gone."""
    bad = b.api_booking() | {"startTime": "2026-01-01T10:00:00Z"}
    error = refused(checked(bookings=[b.api_booking(), bad]))
    assert error.reason == "api_version"
    (answer,) = error.salvaged
    assert isinstance(answer, Checked)
    assert (answer.answer.verdict, answer.answer.reason) == ("unknown", "unreadable")


@pytest.mark.parametrize(
    "over",
    [
        {"verdict": "unauthorised"},
        {"verdict": "perhaps"},
        {"subject": "4711"},
        {"number": 2**63},
        {"record_id": "none"},
        {"observed_at": "yesterday"},
        {"bookings": [{}] * 101},
        {"id": ""},
    ],
)
def test_what_no_verifier_writes_is_refused(over: dict[str, Any]) -> None:
    assert refused(checked(**over)).reason in ("invalid_check", "invalid_json")


def test_a_text_that_nothing_can_hold_is_refused_and_asked_about_again() -> None:
    error = refused(checked(bookings=[b.api_booking(title="a\0b")]))
    assert error.reason == "invalid_text"
    assert len(error.salvaged) == 1


def test_only_the_type_of_the_envelope_makes_a_check() -> None:
    raw = msgspec.json.decode(checked().body)
    told = decode(b.from_calcom(raw))
    assert not any(isinstance(one, Checked) for one in told)
