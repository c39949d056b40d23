"""What a webhook body of Cal.com becomes: an event of a booking, nothing of interest, or a dead letter."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.bookings import BookingEvent
from services.reconciler.core.events import HeardBooking
from services.reconciler.decode import BODY_MAX_BYTES, Ignored, Undecodable, decode
from tests.support import builders as b
from tests.support.builders import from_calcom


def booking(content: object) -> BookingEvent:
    """Decode what must be an event of a booking."""
    decoded = decode(from_calcom(content))
    assert isinstance(decoded, HeardBooking)
    return decoded.event


def ignored(content: object) -> Ignored:
    """Decode what must be of no interest."""
    decoded = decode(from_calcom(content))
    assert isinstance(decoded, Ignored)
    return decoded


def refused(content: object, **options: Any) -> Undecodable:
    """Decode what must be refused."""
    with pytest.raises(Undecodable) as caught:
        decode(from_calcom(content, **options))
    return caught.value


def test_the_receipt_of_the_envelope_goes_with_the_event() -> None:
    decoded = decode(from_calcom(b.booking_created(), received_at=b.STARTS_AT))
    assert isinstance(decoded, HeardBooking)
    assert decoded.received_at == b.STARTS_AT


@pytest.mark.parametrize(
    ("body", "rank"),
    [
        (b.booking_requested(), 1),
        (b.booking_created(), 2),
        (b.booking_rescheduled(), 3),
        (b.booking_rejected(), 4),
        (b.booking_cancelled(), 5),
    ],
)
def test_the_id_of_an_event_begins_with_the_rank_of_its_trigger(body: b.Json, rank: int) -> None:
    event = booking(body)
    assert event.trigger == body["triggerEvent"]
    assert event.event_id.startswith(f"cal-{rank}-")
    assert len(event.event_id) == len("cal-0-") + 32


def test_the_same_body_in_another_order_and_with_white_space_is_the_same_event() -> None:
    body = b.booking_created(metadata={"appointment_id": "ä"})
    turned = dict(reversed(body.items())) | {"payload": dict(reversed(body["payload"].items()))}
    spaced = json.dumps(turned, indent=2).encode()
    assert decode(from_calcom(spaced)) == decode(from_calcom(body))


def test_another_moment_of_sending_is_another_event() -> None:
    assert booking(b.booking_created()).event_id != booking(b.booking_created(created_at=b.STARTS_AT)).event_id


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
def test_the_content_type_is_not_asked(content_type: str | None) -> None:
    envelope = replace(from_calcom(b.booking_requested()), content_type=content_type)
    assert isinstance(decode(envelope), HeardBooking)


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        ("BOOKING_PAID", "by_policy"),
        ("BOOKING_PAYMENT_INITIATED", "by_policy"),
        ("BOOKING_NO_SHOW_UPDATED", "by_policy"),
        ("FORM_SUBMITTED", "by_policy"),
        ("BOOKING_CONFIRMED", "unknown_trigger"),
        ("booking_created", "unknown_trigger"),
    ],
)
def test_a_trigger_that_says_nothing_of_a_bookings_state_is_ignored(trigger: str, reason: str) -> None:
    seen = ignored(b.booking_created() | {"triggerEvent": trigger})
    assert (seen.kind, seen.reason, seen.occurred_at) == (trigger, reason, b.NOW)
    assert seen.event_id.startswith("cal-0-")


def test_a_ping_is_ignored() -> None:
    assert ignored(b.ping()).reason == "ping"


def test_a_flat_meeting_body_is_ignored_and_its_created_at_is_not_believed() -> None:
    seen = ignored(b.meeting_started())
    assert (seen.kind, seen.reason, seen.occurred_at) == ("MEETING_STARTED", "by_policy", None)


@pytest.mark.parametrize("body", [b.zapier(), {"uid": "uid-1", "who": "Nora"}, {"payload": {"booking": {"uid": "u"}}}])
def test_a_body_without_a_trigger_but_with_a_trace_of_a_booking_is_ignored(body: b.Json) -> None:
    assert ignored(body).reason == "no_trigger"


def test_an_ignored_body_may_have_a_senseless_time() -> None:
    assert ignored(b.ping() | {"createdAt": "yesterday"}).occurred_at is None


@pytest.mark.parametrize(
    "body", [b"false", b"{}", b"[]", b'"BOOKING_CREATED"', b"17", b"event=BOOKING_CREATED&who=\xc3\xa4"]
)
def test_a_body_with_neither_trigger_nor_booking_has_no_envelope(body: bytes) -> None:
    error = refused(body)
    assert error.reason == "no_envelope"
    assert "custom payload template" in error.detail


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"not json", b'{"triggerEvent": "BOOKING_CREATED"', b"[" * 100_000, b"1e999"]
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    assert refused(body).reason == "invalid_json"


@pytest.mark.parametrize("uid", [None, "", False, 17, {}, "x" * 201])
def test_a_booking_event_without_a_uid_is_refused_and_the_path_is_named(uid: object) -> None:
    error = refused(b.having(b.booking_created(), uid=uid))
    assert error.reason == "no_envelope"
    assert "`$.payload.uid`" in error.detail


@pytest.mark.parametrize(
    "body",
    [
        {"triggerEvent": "BOOKING_CREATED", "payload": {"bookingUid": "uid-9"}},
        {"triggerEvent": "BOOKING_CREATED", "payload": {"booking": {"uid": "uid-9"}}},
        {"triggerEvent": "BOOKING_CREATED", "payload": {"uid": None}, "uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "payload": False, "uid": "uid-9"},
        {"triggerEvent": "BOOKING_CREATED", "uid": "uid-9"},
    ],
)
def test_the_uid_is_found_wherever_it_stands(body: b.Json) -> None:
    assert booking(body).uid == "uid-9"


def test_a_flat_booking_body_is_read_from_its_root() -> None:
    flat = booking({"triggerEvent": "BOOKING_CREATED", "uid": "uid-9", "id": 12, "startTime": b.z(b.STARTS_AT)})
    assert (flat.booking_id, flat.starts_at) == (12, b.STARTS_AT)


@pytest.mark.parametrize("company_id", [None, ""])
def test_a_record_without_a_company_is_refused(company_id: str | None) -> None:
    assert refused(b.booking_created(), company_id=company_id).reason == "no_company"


def test_a_body_of_a_mebibyte_is_read_and_one_byte_more_is_refused() -> None:
    full = b.body(b.booking_created())
    assert booking(full + b" " * (BODY_MAX_BYTES - len(full))).uid == "uid-1"
    assert refused(full + b" " * (BODY_MAX_BYTES - len(full) + 1)).reason == "too_large"


def test_a_record_of_another_topic_is_refused() -> None:
    with pytest.raises(Undecodable, match="unknown_topic"):
        decode(b.envelope("sync.flags.v1", b.booking_created()))


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800", b"\\uDC00", b"\\ud83d\\ud83d"])
@pytest.mark.parametrize("field", ["title", "uid", "iCalUID", "rescheduleUid"])
def test_text_that_cannot_be_stored_is_refused_and_its_field_is_named(field: str, escape: bytes) -> None:
    body = b.body(b.having(b.booking_created(), **{field: "@@here@@"})).replace(b"@@here@@", b"cut " + escape + b" off")
    error = refused(body)
    assert error.reason == "invalid_text"
    assert "`" in error.detail


@pytest.mark.parametrize("escape", [b"\\u0000", b"\\ud800"])
def test_text_that_cannot_be_stored_harms_nothing_where_nobody_stores_it(escape: bytes) -> None:
    body = b.body(b.booking_created(description="@@here@@")).replace(b"@@here@@", escape)
    assert booking(body).title == b.booking_created()["payload"]["title"]


@pytest.mark.parametrize("number", [b"1e999", b"Infinity", b"NaN"])
def test_a_body_with_a_senseless_number_is_refused_however_its_text_is_written(number: bytes) -> None:
    whole = b.body(b.booking_created(price="@@here@@", title="\N{PALM TREE}")).replace(b'"@@here@@"', number)
    assert (
        refused(whole).reason
        == refused(whole.replace("\N{PALM TREE}".encode(), b"\\ud83c\\udf34")).reason
        == "invalid_json"
    )


def test_a_whole_surrogate_pair_and_an_escaped_backslash_are_fine() -> None:
    body = b.body(b.booking_created(title="@@here@@")).replace(b"@@here@@", b"\\ud83c\\udf34 \\\\u0000 \\u00e4")
    assert booking(body).title == "\N{PALM TREE} \\u0000 ä"


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    assert refused(b.body(b.booking_created(title="@")).replace(b'"@"', b'"\xff"')).reason == "invalid_text"


def test_a_trigger_that_cannot_be_stored_is_refused() -> None:
    assert refused(b'{"triggerEvent": "A\\u0000B", "payload": {}}').reason == "invalid_text"


def test_a_dead_letters_detail_can_be_stored_and_shown() -> None:
    error = Undecodable("slug", "a\0b\ud800c\n" + "x" * 1000)
    assert error.detail.startswith("a b c x")
    assert len(error.detail) == 500
