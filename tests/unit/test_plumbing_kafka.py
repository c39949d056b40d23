"""A record is read as an envelope, whoever wrote it; no producer's clock is believed."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import ConsumerRecord

from schemas.envelope import Delivery
from services.plumbing.kafka import Cluster, partition_count
from services.plumbing.reader import _envelope
from services.plumbing.settings import SettingsError

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
BROKERS_STAMP, PRODUCERS_STAMP = 1, 0


def record(
    *,
    at: datetime = NOW,
    stamped_by: int = BROKERS_STAMP,
    key: bytes | None = b"praxis",
    value: bytes | None = b"{}",
    headers: Sequence[tuple[str, bytes]] = (),
) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic="t",
        partition=3,
        offset=41,
        timestamp=int(at.timestamp() * 1000),
        timestamp_type=stamped_by,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=headers,
    )


def test_what_ingest_wrote_is_read_back_whole() -> None:
    delivery = Delivery(
        topic="t",
        company_id="praxis",
        ce_id="id-1",
        ce_source="/webhooks/calcom/praxis",
        ce_type="com.cal.webhook",
        received_at=NOW - timedelta(seconds=2),
        body=b"\xff\0",
        traceparent="00-ab-cd-01",
        webhook_version="2021-10-20",
    )
    envelope = _envelope(record(value=delivery.body, headers=delivery.headers()), "t", NOW)
    assert (envelope.topic, envelope.partition, envelope.offset) == ("t", 3, 41)
    assert (envelope.company_id, envelope.body) == ("praxis", b"\xff\0")
    assert (envelope.received_at, envelope.appended_at) == (delivery.received_at, NOW)
    assert (envelope.ce_id, envelope.ce_source, envelope.ce_type) == ("id-1", delivery.ce_source, "com.cal.webhook")
    assert (envelope.content_type, envelope.traceparent) == ("application/json", "00-ab-cd-01")
    assert envelope.webhook_version == "2021-10-20"


def test_a_record_without_headers_was_received_when_the_broker_got_it() -> None:
    envelope = _envelope(record(at=NOW - timedelta(hours=1)), "t", NOW)
    assert envelope.received_at == envelope.appended_at == NOW - timedelta(hours=1)
    assert envelope.ce_id is None


def test_a_tombstone_has_an_empty_body() -> None:
    assert _envelope(record(value=None), "t", NOW).body == b""


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\0b"])
def test_a_key_that_is_no_text_names_no_company(key: bytes | None) -> None:
    assert _envelope(record(key=key), "t", NOW).company_id is None


def test_a_producers_stamp_opens_no_window_in_the_past() -> None:
    envelope = _envelope(record(at=NOW - timedelta(days=3), stamped_by=PRODUCERS_STAMP), "t", NOW)
    assert envelope.received_at == NOW


def test_a_producers_stamp_moves_no_frontier_into_the_future() -> None:
    envelope = _envelope(record(at=NOW + timedelta(days=3), stamped_by=PRODUCERS_STAMP), "t", NOW)
    assert envelope.appended_at == NOW


@pytest.mark.parametrize("given", [b"soon", b"\xff", b"2026-12-01T08:00:00", b"2026-12-04T09:00:00+00:00"])
def test_a_door_time_that_is_wrong_naive_or_later_than_the_append_is_not_believed(given: bytes) -> None:
    assert _envelope(record(headers=[("received_at", given)]), "t", NOW).received_at == NOW


def test_topics_with_different_partition_counts_are_named() -> None:
    found = Cluster({"app.appointments.v1": 12, "calcom.bookings.v1": 6, "sync.commands.v1": 12})
    with pytest.raises(SettingsError, match=r"calcom.bookings.v1 has 6"):
        partition_count(found)


def test_topics_that_are_missing_are_named() -> None:
    with pytest.raises(SettingsError, match=r"calcom.bookings.v1, sync.commands.v1"):
        partition_count(Cluster({"app.appointments.v1": 12}))


def test_equal_counts_are_the_count() -> None:
    assert (
        partition_count(Cluster(dict.fromkeys(["app.appointments.v1", "calcom.bookings.v1", "sync.commands.v1"], 3)))
        == 3
    )
