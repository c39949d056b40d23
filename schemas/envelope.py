"""What Kafka stores: a few CloudEvents headers and the raw body, untouched."""

from datetime import datetime
from typing import Final

from msgspec import Struct

SPEC_VERSION: Final = "1.0"
#: The record header that keeps Cal.com's own of this name.
WEBHOOK_VERSION: Final = "x-cal-webhook-version"


class Delivery(Struct, frozen=True, kw_only=True):
    """One message on its way to a topic: what a producer has to know of it.

    `received_at` is the door's clock, aware, UTC: windows count from it.
    Source: CloudEvents 1.0, Kafka protocol binding, binary mode.
    """

    topic: str
    company_id: str
    ce_id: str
    ce_source: str
    ce_type: str
    received_at: datetime
    body: bytes
    content_type: str = "application/json"
    traceparent: str | None = None
    webhook_version: str | None = None  # X-Cal-Webhook-Version: by which version of its shapes Cal.com wrote the body

    def headers(self) -> list[tuple[str, bytes]]:
        """Give the record's headers; keys as the Kafka binding of CloudEvents spells them."""
        received = self.received_at.isoformat().encode()
        headers = [
            ("ce_specversion", SPEC_VERSION.encode()),
            ("ce_id", self.ce_id.encode()),
            ("ce_source", self.ce_source.encode()),
            ("ce_type", self.ce_type.encode()),
            ("ce_time", received),
            ("content-type", self.content_type.encode()),
            ("received_at", received),
        ]
        if self.traceparent is not None:
            headers.append(("traceparent", self.traceparent.encode()))
        if self.webhook_version is not None:
            headers.append((WEBHOOK_VERSION, self.webhook_version.encode()))
        return headers


class Envelope(Struct, frozen=True, kw_only=True):
    """One received message as it lies in the log.

    `company_id` is the record's key (None: the record has no usable key).
    `appended_at` is the broker's clock, `received_at` the door's; for a record that
    came past the door (an app that writes to Kafka itself) both are the broker's.
    """

    topic: str
    partition: int
    offset: int
    company_id: str | None
    body: bytes
    appended_at: datetime
    received_at: datetime
    ce_id: str | None = None
    ce_source: str | None = None
    ce_type: str | None = None
    content_type: str | None = None
    traceparent: str | None = None
    webhook_version: str | None = None
