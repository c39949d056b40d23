"""What an event of the booking app becomes; what is wrong is said with its JSON path."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.appointments import AppointmentDeleted, AppointmentEvent, AppointmentStatus
from services.reconciler.core.events import HeardAppointment
from services.reconciler.decode import Decoded, Undecodable, decode, parse_appointment
from tests.support import builders as b
from tests.support.builders import from_app


def heard(content: object) -> AppointmentEvent:
    """Decode what must be an event of the app."""
    decoded = b.decoded(from_app(content))
    assert isinstance(decoded, HeardAppointment)
    assert decoded.received_at == b.NOW
    return decoded.event


def refused(content: object) -> Undecodable:
    """Decode what must be refused."""
    with pytest.raises(Undecodable) as caught:
        decode(from_app(content))
    return caught.value


def having(**over: Any) -> b.Json:
    """Give an event with these keys of its appointment replaced, by anything at all."""
    event = b.appointment_event()
    return event | {"appointment": event["appointment"] | over}


def test_an_event_carries_the_whole_appointment() -> None:
    event = heard(b.appointment_event("created", "4711", calcom_booking_uid="uid-1", calcom_booking_id=4001))
    appointment = event.appointment
    assert (appointment.id, appointment.status) == ("4711", AppointmentStatus.CONFIRMED)
    assert (appointment.calcom_booking_uid, appointment.calcom_booking_id) == ("uid-1", 4001)
    assert appointment.customer is not None
    assert appointment.customer.email == "nora.guest@example.org"


def test_the_type_says_which_event_it_is() -> None:
    assert isinstance(heard(b.appointment_event("deleted")), AppointmentDeleted)


def test_instants_come_out_in_utc() -> None:
    event = heard(b.appointment_event(ends_at=b.STARTS_AT) | {"occurred_at": "2026-03-02T10:00:00.5+01:00"})
    assert event.occurred_at == datetime(2026, 3, 2, 9, 0, 0, 500_000, tzinfo=UTC)
    assert {event.occurred_at.tzinfo, event.appointment.starts_at.tzinfo} == {UTC}
    assert event.appointment.ends_at is not None
    assert event.appointment.ends_at.tzinfo is UTC


def test_optional_fields_may_be_null_and_unknown_ones_are_left_out() -> None:
    event = heard(having(ends_at=None, customer=None, time_zone=None, colour="red"))
    assert event.appointment.customer is None


@pytest.mark.parametrize(
    ("over", "path"),
    [
        ({"starts_at": "2026-03-09T14:00:00"}, "$.appointment.starts_at"),
        ({"starts_at": "2026-12-31T23:59:60Z"}, "$.appointment.starts_at"),
        ({"starts_at": "0001-01-01T00:00:00+23:59"}, "$.appointment.starts_at"),
        ({"ends_at": "9999-12-31T23:59:59-23:59"}, "$.appointment.ends_at"),
        ({"status": "SECRET-maybe"}, "$.appointment.status"),
        ({"id": ""}, "$.appointment.id"),
        ({"id": 4711}, "$.appointment.id"),
        ({"customer": {"name": "n" * 1001}}, "$.appointment.customer.name"),
        ({"customer": "SECRET"}, "$.appointment.customer"),
        ({"calcom_booking_id": "4001"}, "$.appointment.calcom_booking_id"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(over: dict[str, Any], path: str) -> None:
    error = refused(having(**over))
    assert error.reason == "invalid_appointment"
    assert f"`{path}`" in error.detail
    assert "SECRET" not in error.detail


@pytest.mark.parametrize("field", ["calcom_booking_id", "event_type_id"])
def test_a_number_that_no_column_holds_is_refused(field: str) -> None:
    raw = b.body(having(**{field: 1234567})).replace(b"1234567", str(2**63).encode())
    assert refused(raw).detail == f"`$.appointment.{field}` is too large."


def test_an_event_without_an_appointment_is_refused() -> None:
    event = b.appointment_event()
    del event["appointment"]
    assert "`appointment`" in refused(event).detail


@pytest.mark.parametrize("kind", ["appointment.exploded", "", 17, None])
def test_an_unknown_type_is_refused_as_such(kind: object) -> None:
    error = refused(b.appointment_event() | {"type": kind})
    assert error.reason == "unknown_type"
    assert "appointment.created" in error.detail


def test_a_missing_type_is_an_unknown_one() -> None:
    event = b.appointment_event()
    del event["type"]
    assert refused(event).reason == "unknown_type"


def several(*ids: str) -> list[b.Json]:
    """Give an event of each of these appointments."""
    return [b.appointment_event(appointment_id=one) for one in ids]


def lines(*bodies: bytes) -> bytes:
    """Give bodies one a line."""
    return b"\n".join(bodies) + b"\n"


def named(found: tuple[Decoded, ...]) -> list[str]:
    """Give the appointments that were heard of, in order."""
    return [one.event.appointment.id for one in found if isinstance(one, HeardAppointment)]


@pytest.mark.parametrize("count", [1, 2, 500])
def test_an_array_and_lines_straight_on_kafka_are_an_event_each_in_order(count: int) -> None:
    ids = [str(number) for number in range(count)]
    events = several(*ids)
    assert named(decode(from_app(events))) == ids
    assert named(decode(from_app(lines(*map(b.body, events))))) == ids
    assert named(decode(from_app(b"\r\n\n".join(map(b.body, events))))) == ids


def test_one_event_over_many_lines_is_one_event() -> None:
    assert named(decode(from_app(json.dumps(b.appointment_event(), indent=2).encode()))) == ["4711"]


@pytest.mark.parametrize("form", ["array", "lines"])
def test_what_is_valid_beside_what_is_wrong_is_salvaged_and_every_wrong_one_is_named(form: str) -> None:
    one, two, three, four = several("1", "2", "3", "4")
    two["appointment"]["starts_at"] = "tomorrow"
    four["id"] = ""
    events = [one, two, three, four]
    error = refused(events if form == "array" else lines(*map(b.body, events)))
    assert (error.reason, named(error.salvaged)) == ("invalid_appointment", ["1", "3"])
    assert "`$[1].appointment.starts_at`" in error.detail
    assert "`$[3].id`" in error.detail


def test_a_broken_line_loses_no_other() -> None:
    first, last = map(b.body, several("1", "3"))
    error = refused(lines(first, first[:-30], b'{"id": "\xff"}', last))
    assert named(error.salvaged) == ["1", "3"]
    assert "`$[1]`" in error.detail
    assert "`$[2]" in error.detail


def test_a_broken_array_says_nothing_that_can_be_trusted() -> None:
    error = refused(b.body(several("1", "2"))[:-20])
    assert (error.reason, error.salvaged) == ("invalid_json", ())


def test_of_too_many_wrong_ones_as_many_are_named_as_fit() -> None:
    error = refused([17] * 499 + several("1"))
    assert named(error.salvaged) == ["1"]
    assert "`$[0]`" in error.detail
    assert error.detail.endswith(" more.")
    assert len(error.detail) <= 500


def test_more_than_500_events_in_one_record_are_refused_and_none_is_taken() -> None:
    error = refused(several(*map(str, range(501))))
    assert (error.reason, error.salvaged) == ("batch_too_large", ())
    assert "501" in error.detail


def test_an_array_without_an_event_is_refused() -> None:
    assert refused([]).detail == "`$` holds no event."


@pytest.mark.parametrize("raw", [b"", b"nonsense", b'{"id": ', b'{"zz":' + b"[" * 100_000])
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    assert refused(raw).reason == "invalid_json"


@pytest.mark.parametrize("raw", [b"null", b"17", b'"text"'])
def test_json_that_is_no_event_is_refused(raw: bytes) -> None:
    assert refused(raw).reason == "invalid_appointment"


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800", b"\xff"])
@pytest.mark.parametrize("field", ["id", "origin", "time_zone", "calcom_booking_uid"])
def test_text_that_cannot_be_stored_is_refused(field: str, escape: bytes) -> None:
    raw = b.body(having(**{field: "@@here@@"})).replace(b"@@here@@", b"a" + escape + b"b")
    assert refused(raw).reason == "invalid_text"


def test_the_field_with_a_nul_is_named() -> None:
    raw = b.body(b.appointment_event(customer={"name": "@@here@@"})).replace(b"@@here@@", b"\\u0000")
    assert "`appointment.customer.name`" in refused(raw).detail


def test_one_event_can_be_read_without_an_envelope() -> None:
    assert parse_appointment(b.body(b.appointment_event("updated", "9"))).appointment.id == "9"
