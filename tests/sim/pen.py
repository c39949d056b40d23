"""Writes the messages of one planted case, as Cal.com and a booking app would send them. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.envelope import Delivery
from services.reconciler.core.policy import Policy
from tests.support import builders

BEGIN: Final = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
#: No company's window is ever shorter: sides that come within it must never be flagged.
WINDOW_SECONDS: Final = 300.0
#: A message is on its way for at most so long; twice this and a gap between the sides stay within the window.
DELAY_MAX_SECONDS: Final = 60.0
TWIN_MAX_MS: Final = 400

Json = dict[str, Any]
Sequences = tuple[tuple[str, ...], ...]

LOCAL: Final = "sync.orphaned_local"
CALCOM: Final = "sync.orphaned_calcom"
MISMATCH: Final = "sync.data_mismatch"
AMBIGUOUS: Final = "sync.ambiguous"
RESOLVED: Final = "sync.resolved"


class Message(Struct, frozen=True):
    """A delivery and when it comes to the door, in seconds from the beginning."""

    arrives: float
    ce_type: str
    company_id: str
    ce_id: str
    body: bytes

    @property
    def topic(self) -> str:
        """Tell where it goes."""
        return topics.APP_APPOINTMENTS if self.ce_type == topics.TYPE_APPOINTMENT else topics.CALCOM_BOOKINGS

    def delivery(self, at: datetime) -> Delivery:
        """Give what ingest would store of it at a moment."""
        return Delivery(
            topic=self.topic, company_id=self.company_id, ce_id=self.ce_id, ce_source="sim", ce_type=self.ce_type,
            received_at=at, body=self.body,
        )  # fmt: skip


class Truth(Struct, frozen=True):
    """What Cal.com has under a uid from a moment on, in seconds from the beginning; no row: nothing any more."""

    since: float
    company_id: str
    uid: str
    row: dict[str, Any] | None


class End(Struct, frozen=True, kw_only=True):
    """How one record must end. `uids` are those that were heard of.

    `flags`: each tuple is one allowed sequence of flag types. None may be raised before `not_before`, in seconds from
    the beginning.
    """

    appointment_id: str | None
    uids: tuple[str, ...]
    in_force: str | None  # the booking's uid as it is now
    seat: str | None
    status: str
    flags: Sequences
    not_before: float


class Case(Struct, frozen=True):
    """One story: its messages and how every record that comes of it must end.

    `revealed`: the bookings that facts of the timeline may speak of without telling anything that is not known, each
    with the moment at which it was made, in seconds from the beginning. `or_ends`: as good, by the design.
    """

    name: str
    company_id: str
    number: int
    messages: tuple[Message, ...]
    ends: tuple[End, ...]
    revealed: tuple[tuple[str, float], ...] = ()
    #: What Cal.com's API knows, of a company whose Cal.com can be asked.
    truths: tuple[Truth, ...] = ()
    or_ends: tuple[End, ...] = ()


class Person(Struct, frozen=True):
    """Somebody who comes; nobody of another case has the same address or number."""

    email: str
    phone: str


class Pen:
    """Writes one case: its messages in seconds from its own beginning, then its ends."""

    def __init__(self, random: Random, company_id: str, policy: Policy, number: int) -> None:
        """`number` makes ids and people unique."""
        self.random, self.company_id, self.policy, self.number = random, company_id, policy, number
        self.messages: list[Message] = []
        self.begins = random.uniform(120, 3600)
        odd = random.choice([0, 0, 0, 150])  # seconds: a start to which nothing is rounded
        self.starts_at = BEGIN + timedelta(days=3, minutes=15 * number, seconds=odd)
        self.event_type_id = random.choice([None, 5150])
        self.truths: list[Truth] = []
        self._made: dict[str, float] = {}
        self._written = 0

    # --- names --------------------------------------------------------------------------------------------------

    def uid(self, letter: str) -> str:
        return f"{letter}{self.number:06d}"

    def booking_id(self, letter: str) -> int:
        return self.number * 100 + ord(letter) - ord("A")

    def appointment_id(self, which: int = 0) -> str:
        return f"{self.number}-{which}"

    def person(self, who: int = 0) -> Person:
        return Person(f"p{self.number}.{who}@example.org", f"+49895{self.number:03d}{who:02d}")

    def link(self, letter: str = "A") -> Json:
        """Name a booking as an app does: by uid, by id, or both."""
        by_uid, by_id = {"calcom_booking_uid": self.uid(letter)}, {"calcom_booking_id": self.booking_id(letter)}
        return self.random.choice([by_uid, by_uid, by_id, by_uid | by_id])

    def about(self, seconds: float, by: float = 50) -> float:
        """Give a moment that lies about another: what one side does, the other does a little before or after."""
        return seconds + self.random.uniform(-by, by)

    # --- messages -----------------------------------------------------------------------------------------------

    def app(
        self,
        kind: str,
        seconds: float,
        which: int = 0,
        *,
        minutes: float = 0,
        who: int = 0,
        delay: float | None = None,
        skew: timedelta = timedelta(),
        status: str | None = None,
        **fields: Any,
    ) -> None:
        """Write an event of the app, whose clock may be off by `skew`. `fields` are the appointment's."""
        person = self.person(who)
        customer = {"name": "Mia Patient", "email": person.email, "phone": person.phone}
        body = builders.appointment_event(
            kind,
            self.appointment_id(which),
            event_id=f"evt-{self.number}-{which}-{kind}-{seconds}",
            occurred_at=self._moment(seconds) + skew,
            starts_at=self.starts_at + timedelta(minutes=minutes),
            status=status,
            **({"customer": customer, "event_type_id": self.event_type_id} | fields),
        )
        self._put(seconds, topics.TYPE_APPOINTMENT, lambda _: body, delay)

    def calcom(
        self,
        make: Callable[..., Json],
        seconds: float,
        letter: str = "A",
        *,
        minutes: float = 0,
        who: int = 0,
        delay: float | None = None,
        **fields: Any,
    ) -> None:
        """Write a webhook by one of the builders. `fields` are the builder's, or the payload's."""
        person = self.person(who)
        options = {
            "booking_id": self.booking_id(letter),
            "starts_at": self.starts_at + timedelta(minutes=minutes),
            "attendees": [builders.attendee(person.email, phone=person.phone)],
        } | fields
        self._made.setdefault(self.uid(letter), self.begins + seconds)

        def body(late: timedelta) -> Json:
            return make(self.uid(letter), created_at=self._moment(seconds) + late, **options)

        self._put(seconds, topics.TYPE_CALCOM_WEBHOOK, body, delay)

    def moved(self, seconds: float, letter: str, old: str, *, minutes: float, root: str = "A", **fields: Any) -> None:
        """Write a move to a new uid; the calendar's id may be handed down, dropped, or the provider's."""
        calendar = self.random.choice([f"{self.uid(root)}@Cal.com", None, f"{self.number}@calendar.example.org"])
        known: Json = {"old_uid": self.uid(old), "old_booking_id": self.booking_id(old), "iCalUID": calendar}
        self.calcom(builders.booking_rescheduled, seconds, letter, minutes=minutes, **(known | fields))

    def answer(self, seconds: float, letter: str, *, minutes: float = 0, **booking: Any) -> None:
        """Write what Cal.com's API answered when it was asked about a booking. `booking` are the answer's fields."""
        person = self.person()
        told: Json = {
            "id": self.booking_id(letter),
            "starts_at": self.starts_at + timedelta(minutes=minutes),
            "attendees": [{"name": "Mia Patient", "email": person.email, "phoneNumber": person.phone}],
            "metadata": {},
            "createdAt": builders.z_ms(BEGIN),
            "updatedAt": builders.z_ms(self._moment(seconds)),
        } | booking
        body = builders.observation(builders.api_booking(self.uid(letter), **told), observed_at=self._moment(seconds))
        self._put(seconds, topics.TYPE_OBSERVATION, lambda _: body, None)

    def at_calcom(
        self, seconds: float, letter: str = "A", *, minutes: float = 0, status: str = "accepted", **booking: Any
    ) -> None:
        """Let Cal.com have a booking as it is from a moment on, whether or not a webhook tells of it."""
        person = self.person()
        told: Json = {
            "id": self.booking_id(letter),
            "starts_at": self.starts_at + timedelta(minutes=minutes),
            "status": status,
            "eventTypeId": self.event_type_id,
            "eventType": None,
            "attendees": [{"name": "Mia Patient", "email": person.email, "phoneNumber": person.phone}],
            "metadata": {},
            "createdAt": builders.z_ms(self._moment(0)),
            "updatedAt": builders.z_ms(self._moment(seconds)),
        } | booking
        row = builders.api_booking(self.uid(letter), **told)
        self.truths.append(Truth(self.begins + seconds, self.company_id, self.uid(letter), row))

    def gone_at_calcom(self, seconds: float, letter: str = "A") -> None:
        """Let Cal.com have deleted a booking."""
        self.truths.append(Truth(self.begins + seconds, self.company_id, self.uid(letter), None))

    def _moment(self, seconds: float) -> datetime:
        return BEGIN + timedelta(seconds=self.begins + seconds)

    def _put(self, seconds: float, ce_type: str, body: Callable[[timedelta], Json], delay: float | None) -> None:
        """Send it once, or more often: the same body again, or as another registration of the webhook sends it."""
        self._written += 1
        late = self.random.uniform(0, DELAY_MAX_SECONDS) if delay is None else delay
        first = msgspec.json.encode(body(timedelta()))
        self._send(seconds + late, ce_type, first)
        for _ in range(self.random.choice([0, 0, 0, 0, 0, 0, 0, 1, 2])):
            if self.random.random() < 0.5:
                self._send(seconds + late + self.random.uniform(0, 900), ce_type, first)
            else:
                twin = body(timedelta(milliseconds=self.random.randint(1, TWIN_MAX_MS)))
                self._send(seconds + late + self.random.uniform(0, 30), ce_type, msgspec.json.encode(twin))

    def _send(self, seconds: float, ce_type: str, raw: bytes) -> None:
        ce_id = f"{self.number}-{self._written}-{len(self.messages)}"
        self.messages.append(Message(self.begins + seconds, ce_type, self.company_id, ce_id, raw))

    # --- endings ------------------------------------------------------------------------------------------------

    def end(
        self,
        status: str,
        *flags: tuple[str, ...],
        which: int | None = 0,
        letters: str = "A",
        in_force: str = "",
        seat: int | None = None,
        after: float = 0,
        waits: float = WINDOW_SECONDS,
    ) -> End:
        """Say how a record ends. None of its flags may come sooner than `waits` seconds after the moment `after`.

        The last of the letters is in force, where no other is named.
        """
        return End(
            appointment_id=None if which is None else self.appointment_id(which),
            uids=tuple([self.uid(letter) for letter in letters]),
            in_force=self.uid(in_force or letters[-1]) if letters else None,
            seat=None if seat is None else self.person(seat).email,
            status=status,
            flags=flags or ((),),
            not_before=self.begins + after + waits,
        )

    def synced(self, letters: str = "A", which: int | None = 0, seat: int | None = None) -> End:
        """Say that a record ends in peace, and was never flagged."""
        return self.end("synced", which=which, letters=letters, seat=seat)

    def mismatch(
        self,
        letters: str = "A",
        which: int = 0,
        *,
        after: float = 0,
        waits: float = WINDOW_SECONDS,
        seat: int | None = None,
    ) -> End:
        """Say that both sides end up known and differ."""
        return self.end("failed", (MISMATCH,), which=which, letters=letters, after=after, waits=waits, seat=seat)

    def local_alone(self, which: int = 0, *, after: float = 0) -> End:
        """Say that an appointment ends up alone."""
        return self.end("orphaned_local", (LOCAL,), which=which, letters="", after=after)

    def calcom_alone(self, letters: str = "A", *, after: float = 0, waits: float = WINDOW_SECONDS) -> End:
        """Say that a booking ends up alone."""
        return self.end("orphaned_calcom", (CALCOM,), which=None, letters=letters, after=after, waits=waits)

    def case(self, name: str, *ends: End, reveal: bool = True, or_ends: tuple[End, ...] = ()) -> Case:
        """Close the case."""
        revealed = tuple(self._made.items()) if reveal else ()
        return Case(
            name, self.company_id, self.number, tuple(self.messages), ends, revealed, tuple(self.truths), or_ends
        )
