"""What the topics, their keys and their headers mean: the words that no Struct has. For asyncapi.yaml."""

from typing import Final, Literal

from msgspec import Struct

from schemas import topics

KEY: Final = (
    "The company's id, UTF-8, under the default (murmur2) partitioner. "
    "librdkafka clients have to set partitioner=murmur2_random."
)

#: As `Delivery.headers` spells them. A record without any is read too: key, body and the broker's time suffice.
HEADERS: Final = {
    "ce_specversion": "1.0",
    "ce_id": "Names the message within its source; a repeat has the same.",
    "ce_source": "Where it came through the door.",
    "ce_type": f"{topics.TYPE_CALCOM_WEBHOOK}, {topics.TYPE_APPOINTMENT}, {topics.TYPE_COMMAND} or a flag's type.",
    "ce_time": "The door's clock, RFC 3339.",
    "content-type": "Of the body.",
    "received_at": "The door's clock, RFC 3339: windows count from it.",
    "traceparent": "W3C trace context, where the sender gave one.",
}


class Doc(Struct, frozen=True, kw_only=True):
    """One topic, seen from Reconcal: it receives or sends. `payload`: a file below json/; None: any JSON object."""

    name: str
    topic: str
    title: str
    description: str
    message: str
    action: Literal["receive", "send"]
    operation: str
    payload: str | None
    normalised: str | None = None


TOPICS: Final = (
    Doc(
        name="appointments",
        topic=topics.APP_APPOINTMENTS,
        title="Appointment event",
        description="Input. Ingest writes what came by HTTP; the booking app may write the same bodies itself.",
        message="AppointmentEvent",
        action="receive",
        operation="What the booking app says of an appointment.",
        payload="appointment-event",
    ),
    Doc(
        name="bookings",
        topic=topics.CALCOM_BOOKINGS,
        title="Cal.com webhook",
        description="Input. Cal.com's bodies, byte for byte; what the reconciler reads in one is `x-normalised`.",
        message="CalcomWebhook",
        action="receive",
        operation="What Cal.com says of a booking.",
        payload=None,
        normalised="booking-event",
    ),
    Doc(
        name="commands",
        topic=topics.SYNC_COMMANDS,
        title="Command",
        description="Input. What an operator asked for, with the version of the record that the person saw.",
        message="Command",
        action="receive",
        operation="What an operator decided.",
        payload="command",
    ),
    Doc(
        name="flags",
        topic=topics.SYNC_FLAGS,
        title="Flag",
        description="Output, at least once; a flag's id makes it once.",
        message="Flag",
        action="send",
        operation="A record needs a human, or no longer does.",
        payload="flag",
    ),
    Doc(
        name="deadLetters",
        topic=topics.SYNC_DEAD_LETTERS,
        title="Dead letter",
        description="Output. A notice for each envelope that could not be understood; its bytes lie in PostgreSQL.",
        message="DeadLetter",
        action="send",
        operation="Something on an input topic has to be mended.",
        payload="dead-letter",
    ),
)
