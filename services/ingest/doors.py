"""The two doors, without the wire: what came in, what it is worth keeping as. Pure but for the register's memory.

Cal.com's door looks no further than the signature: a decoding bug is mended by replay, not by lost data.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.answers import Accepted, EventResult, Results
from schemas.envelope import Delivery
from services.companies.model import Purpose
from services.companies.register import Register
from services.ingest import batch, signature, trace

Ids = Callable[[], str]

ACCEPTED: Final = msgspec.json.encode(Accepted())
_LONGEST_CONTENT_TYPE: Final = 200
_LONGEST_VERSION: Final = 64


class Arrival(Struct, frozen=True):
    """A whole request. `received_at`: when its last byte was read, aware, UTC; header names in lower case."""

    company_id: str
    headers: dict[bytes, bytes]
    body: bytes
    received_at: datetime


class Parcel(Struct, frozen=True):
    """What is to be kept, and the body of the answer once it is."""

    deliveries: list[Delivery]
    answer: bytes


class Door(Protocol):
    """Turns an arrival into what is to be kept. Raises signature.Rejected or batch.Invalid.

    `comes_again`: the sender repeats what was refused, so that it may be told to come later.
    """

    name: str
    comes_again: bool

    def take(self, arrival: Arrival) -> Parcel:
        """Check who sent it, and give what is to be kept."""
        ...


class CalcomDoor:
    """Everything that is signed is kept as it came, a PING and five bytes `false` too."""

    name = "calcom"
    comes_again = False

    def __init__(self, register: Register, ids: Ids) -> None:
        """`ids` names envelopes: Cal.com gives its deliveries no id, and what the event is, is decided at decode."""
        self._register = register
        self._ids = ids

    def take(self, arrival: Arrival) -> Parcel:
        """Check Cal.com's signature. Raises Rejected."""
        secrets = self._register.secrets(arrival.company_id, Purpose.CALCOM_WEBHOOK, arrival.received_at)
        signature.calcom(arrival.headers, arrival.body, secrets)
        delivery = Delivery(
            topic=topics.CALCOM_BOOKINGS,
            company_id=arrival.company_id,
            ce_id=self._ids(),
            ce_source="reconcal/ingest/calcom",
            ce_type=topics.TYPE_CALCOM_WEBHOOK,
            received_at=arrival.received_at,
            body=arrival.body,
            content_type=_content_type(arrival),
            traceparent=trace.follow(arrival.headers.get(b"traceparent")),
            webhook_version=_version(arrival),
        )
        return Parcel([delivery], ACCEPTED)


class AppointmentDoor:
    """Takes all events of a request or none; each becomes an envelope of its own, under its own id, in order."""

    name = "appointments"
    comes_again = True

    def __init__(self, register: Register) -> None:
        """The events bring their ids."""
        self._register = register

    def take(self, arrival: Arrival) -> Parcel:
        """Check who sent it, then every event. Raises Rejected, Invalid."""
        self._authenticate(arrival)
        events = batch.read(arrival.body, _content_type(arrival).lower())
        traceparent = trace.follow(arrival.headers.get(b"traceparent"))
        deliveries = [
            Delivery(
                topic=topics.APP_APPOINTMENTS,
                company_id=arrival.company_id,
                ce_id=event.event_id,
                ce_source="reconcal/ingest/appointments",
                ce_type=topics.TYPE_APPOINTMENT,
                received_at=arrival.received_at,
                body=event.body,
                traceparent=traceparent,
            )
            for event in events
        ]
        results = Results([EventResult(event.event_id) for event in events])
        return Parcel(deliveries, msgspec.json.encode(results))

    def _authenticate(self, arrival: Arrival) -> None:
        """A signature counts before a token; whoever sends one is measured by it."""
        company_id, now = arrival.company_id, arrival.received_at
        if b"webhook-signature" in arrival.headers:
            secrets = self._register.secrets(company_id, Purpose.APP_WEBHOOK, now)
            signature.standard(arrival.headers, arrival.body, secrets, now)
        else:
            signature.bearer(arrival.headers, self._register.secrets(company_id, Purpose.INGEST_TOKEN, now))


def _content_type(arrival: Arrival) -> str:
    return arrival.headers.get(b"content-type", b"application/octet-stream")[:_LONGEST_CONTENT_TYPE].decode("latin-1")


def _version(arrival: Arrival) -> str | None:
    given = arrival.headers.get(b"x-cal-webhook-version", b"")[:_LONGEST_VERSION].decode("latin-1").strip()
    return given if given and given.isascii() and given.isprintable() else None
