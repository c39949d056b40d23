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
    "ce_type": f"{topics.TYPE_CALCOM_WEBHOOK}, {topics.TYPE_OBSERVATION}, {topics.TYPE_CHECK}, "
    f"{topics.TYPE_APPOINTMENT}, {topics.TYPE_COMMAND} or a flag's type.",
    "ce_time": "The door's clock, RFC 3339.",
    "content-type": "Of the body.",
    "received_at": "The door's clock, RFC 3339: windows count from it.",
    "traceparent": "W3C trace context, where the sender gave one.",
    "x-cal-webhook-version": "Cal.com's own header of this name: by which version of its shapes it wrote the body.",
}


class Message(Struct, frozen=True, kw_only=True):
    """One kind of record. `payload`: a file below json/; None: any JSON object. `normalised`: what is read in it."""

    name: str
    title: str
    payload: str | None
    normalised: str | None = None


class Doc(Struct, frozen=True, kw_only=True):
    """One topic, seen from Reconcal: it receives or sends."""

    name: str
    topic: str
    title: str
    description: str
    action: Literal["receive", "send"]
    operation: str
    messages: tuple[Message, ...]


TOPICS: Final = (
    Doc(
        name="appointments",
        topic=topics.APP_APPOINTMENTS,
        title="Appointment event",
        description="Input. Ingest writes what came by HTTP; the booking app may write the same bodies itself.",
        action="receive",
        operation="What the booking app says of an appointment.",
        messages=(Message(name="AppointmentEvent", title="Appointment event", payload="appointment-event"),),
    ),
    Doc(
        name="bookings",
        topic=topics.CALCOM_BOOKINGS,
        title="Cal.com",
        description="Input. Cal.com's bodies, byte for byte, and, known by its `ce_type` alone, what its API answered; "
        "what the reconciler reads in either is `x-normalised`.",
        action="receive",
        operation="What Cal.com says of a booking.",
        messages=(
            Message(name="CalcomWebhook", title="Cal.com webhook", payload=None, normalised="booking-event"),
            Message(name="Observation", title="Observation", payload="observation", normalised="booking-event"),
            Message(name="Check", title="Check", payload="check", normalised="booking-event"),
        ),
    ),
    Doc(
        name="commands",
        topic=topics.SYNC_COMMANDS,
        title="Command",
        description="Input. What an operator asked for, with the version of the record that the person saw.",
        action="receive",
        operation="What an operator decided.",
        messages=(Message(name="Command", title="Command", payload="command"),),
    ),
    Doc(
        name="flags",
        topic=topics.SYNC_FLAGS,
        title="Flag",
        description="Output, at least once; a flag's id makes it once.",
        action="send",
        operation="A record needs a human, or no longer does.",
        messages=(Message(name="Flag", title="Flag", payload="flag"),),
    ),
    Doc(
        name="deadLetters",
        topic=topics.SYNC_DEAD_LETTERS,
        title="Dead letter",
        description="Output. A notice for each envelope that could not be understood; its bytes lie in PostgreSQL.",
        action="send",
        operation="Something on an input topic has to be mended.",
        messages=(Message(name="DeadLetter", title="Dead letter", payload="dead-letter"),),
    ),
)
