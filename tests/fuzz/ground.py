"""Where the bodies go: through the doors, decode, the fold and the rows, each with valid neighbours around it."""

import hashlib
import hmac
import random
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from msgspec.structs import replace
from starlette.types import Message

from schemas import topics
from schemas.envelope import Delivery, Envelope
from services.plumbing.reader import _text
from services.reconciler import rows
from services.reconciler.core.events import HeardAppointment, HeardBooking
from services.reconciler.decode import Decoded, Ignored, Undecodable, decode
from tests.fuzz import mutations as m
from tests.support import builders as b
from tests.support.doors import CALCOM, COMPANY, NOW, TOKEN, Doors
from tests.support.history import POLICY, Story

_CONTENT_TYPES: Final = (
    b"application/json",
    b"application/x-www-form-urlencoded",
    b"application/x-ndjson",
    b"\xff",
    b"",
)
_VERSIONS: Final = (None, None, b"2021-10-20", b"2031-01-01", b"\xff\x00", b"v" * 500)
LATER: Final = NOW + timedelta(seconds=1)
#: Events that are folded upon each other before a story begins anew.
_STORY_EVENTS: Final = 30
_STRAIGHT: Final = (
    (topics.APP_APPOINTMENTS, None, m.APPOINTMENTS),
    (topics.APP_APPOINTMENTS, None, m.APPOINTMENTS),
    (topics.CALCOM_BOOKINGS, topics.TYPE_OBSERVATION, m.OBSERVATIONS),
    (topics.CALCOM_BOOKINGS, topics.TYPE_OBSERVATION, m.OBSERVATIONS),
    (topics.CALCOM_BOOKINGS, None, m.OBSERVATIONS),
    (topics.CALCOM_BOOKINGS, topics.TYPE_CHECK, m.CHECKS),
    (topics.CALCOM_BOOKINGS, topics.TYPE_CHECK, m.CHECKS),
    (topics.SYNC_COMMANDS, None, m.COMMANDS),
)


class Ground:
    """One company's doors and the story of what came in. What goes wrong is an AssertionError, or what was raised."""

    def __init__(self, seed: int) -> None:
        """All chance comes from the seed."""
        self._chance = random.Random(seed)
        self._doors = Doors()
        self._doors.load()
        self._story = Story()
        self._folded = 0
        self._sent = 0
        self._body = b""
        self.said: dict[str, int] = {}

    async def play(self, bodies: int) -> None:
        """Send so many mutants, each between two valid bodies."""
        await self._neighbour()
        for number in range(bodies):
            try:
                await self._mutant()
                await self._neighbour()
            except Exception as error:
                error.add_note(f"body {number}: {self._body[:3000]!r}")
                raise

    async def close(self) -> None:
        """Let go of the doors."""
        await self._doors.client.aclose()

    async def _mutant(self) -> None:
        chance, way = self._chance, self._chance.random()
        if way < 0.6:
            self._body = body = m.mutant(chance, m.WEBHOOKS)
            assert await self._post("/webhooks/calcom/", body, _signed(body)) in (202, 413)
        elif way < 0.65:
            self._among_lines()
        elif way < 0.75:
            self._body = body = m.mutant(chance, m.APPOINTMENTS)
            assert await self._post("/events/appointments/", body, _bearer()) in (202, 413, 422)
        else:
            topic, kind, shapes = chance.choice(_STRAIGHT)
            self._body = body = m.mutant(chance, shapes)
            self._take(replace(b.envelope(topic, body, COMPANY, received_at=NOW), ce_type=kind))
        self._take_kept()

    def _among_lines(self) -> None:
        """Put a mutant between two valid events in one record: both are to be heard."""
        first, last = (b.body(b.appointment_event(appointment_id=f"line-{one}")) for one in "ab")
        self._body = b"\n".join((first, m.mutant(self._chance, m.APPOINTMENTS).replace(b"\n", b" "), last))
        envelope = b.envelope(topics.APP_APPOINTMENTS, self._body, COMPANY, received_at=NOW)
        told, reason = _told(envelope)
        heard = [one.event.appointment.id for one in told if isinstance(one, HeardAppointment)]
        assert reason == "too_large" or (heard[0], heard[-1]) == ("line-a", "line-b")

    async def _neighbour(self) -> None:
        """Send what is valid: it has to be understood whatever came before it."""
        self._sent += 1
        booking = b.body(b.booking_created(f"neighbour-{self._sent}", booking_id=10_000_000 + self._sent))
        event = b.body(b.appointment_event(appointment_id=f"neighbour-{self._sent}"))
        assert await self._post("/webhooks/calcom/", booking, _signed(booking)) == 202
        assert await self._post("/events/appointments/", event, _bearer()) == 202
        first, second = (decode(self._as_read(kept)) for kept in self._doors.kept)
        self._doors.kept.clear()
        assert [type(one) for one in (*first, *second)] == [HeardBooking, HeardAppointment]

    async def _post(self, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
        headers = [*headers, (b"content-type", self._chance.choice(_CONTENT_TYPES))]
        version = self._chance.choice(_VERSIONS)
        if version is not None:
            headers.append((b"x-cal-webhook-version", version))
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {"type": "http", "method": "POST", "path": path + COMPANY, "headers": headers, "query_string": b""}
        await self._doors.app(scope, receive, send)
        assert status < 500, f"answered {status}"
        return status

    def _take_kept(self) -> None:
        kept = list(self._doors.kept)
        self._doors.kept.clear()
        for one in kept:
            self._take(self._as_read(one))

    def _as_read(self, kept: Delivery) -> Envelope:
        headers = dict(kept.headers())
        return Envelope(
            topic=kept.topic,
            partition=0,
            offset=0,
            company_id=kept.company_id,
            body=kept.body,
            appended_at=NOW,
            received_at=NOW,
            ce_type=_text(headers["ce_type"]),
            content_type=_text(headers["content-type"]),
            webhook_version=_text(headers.get("x-cal-webhook-version")),
        )

    def _take(self, envelope: Envelope) -> None:
        found, reason = _told(envelope)
        if reason is not None:
            self._count(reason)
        for one in found:
            if isinstance(one, Ignored):
                self._count(one.reason)
            else:
                self._count(type(one).__name__)
                self._fold(one)

    def _fold(self, event: Any) -> None:
        self._story.tell(event)
        self._written(self._story.records)
        self._folded += 1
        if self._folded % _STORY_EVENTS == 0:
            self._story.until(400_000)
            self._written(self._story.records)
            self._story = Story(replace(POLICY, verify=self._chance.random() < 0.5))

    def _written(self, records: Iterable[Any]) -> None:
        """Write the rows as they would be stored: no text may be one that PostgreSQL cannot hold."""
        for record in records:
            for (_, kind), value in zip(rows.COLUMNS, rows.columns(record, 0, LATER), strict=True):
                if isinstance(value, str):
                    assert "\0" not in value
                    assert kind != "jsonb" or "\\u0000" not in value.replace("\\\\", "")
                    value.encode()

    def _count(self, what: str) -> None:
        self.said[what] = self.said.get(what, 0) + 1


def _told(envelope: Envelope) -> tuple[tuple[Decoded, ...], str | None]:
    """Give what an envelope says, or what is salvaged of it and the reason."""
    try:
        found = decode(envelope)
    except Undecodable as error:
        return error.salvaged, error.reason
    assert found
    return found, None


def _signed(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"x-cal-signature-256", hmac.new(CALCOM.encode(), body, hashlib.sha256).hexdigest().encode())]


def _bearer() -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + TOKEN.encode())]
