"""A notifier in pieces, on a real database and a real mail server: the test says when what happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, cast
from uuid import UUID, uuid4

from msgspec.structs import replace

from schemas.flags import AppointmentFacts, Flag, FlagType, Kind, Measured, company_record_id
from services.notifier.couriers import Courier, MailCourier
from services.notifier.mail.smtp import Postman
from services.notifier.sender import Sender
from services.notifier.store import Store, Taken
from services.notifier.troubles import PostgresTroubles
from services.notifier.turns import Channel, Leased, Turns
from services.plumbing import postgres
from services.plumbing.health import Health
from services.plumbing.postgres import Pool
from services.plumbing.settings import Settings, load
from tests.support.hand_clock import HandClock
from tests.support.post_office import PostOffice

NOW: Final = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
WAIT: Final = timedelta(seconds=30)
INTERVAL: Final = timedelta(minutes=5)
REMINDER: Final = timedelta(hours=4)
LEASE_SECONDS: Final = 90.0


class Killed(BaseException):
    """The process ended here."""


class Mortal:
    """A pool whose owner is killed before its nth word to the database, or after a commit."""

    def __init__(self, pool: Pool, words: int) -> None:
        self._pool, self._left = pool, words

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["_MortalConnection"]:
        async with self._pool.acquire() as connection:
            yield _MortalConnection(connection, self)
        self.speak()

    def speak(self) -> None:
        if self._left == 0:
            raise Killed
        self._left -= 1


class _MortalConnection:
    def __init__(self, connection: Any, owner: Mortal) -> None:
        self._connection, self._owner = connection, owner
        self.transaction = connection.transaction

    async def execute(self, *words: Any) -> Any:
        self._owner.speak()
        return await self._connection.execute(*words)

    async def fetch(self, *words: Any) -> Any:
        self._owner.speak()
        return await self._connection.fetch(*words)

    async def fetchrow(self, *words: Any) -> Any:
        self._owner.speak()
        return await self._connection.fetchrow(*words)

    async def fetchval(self, *words: Any) -> Any:
        self._owner.speak()
        return await self._connection.fetchval(*words)


class Sleeper:
    """A courier that sleeps before it hands a letter over, or after, until it is woken."""

    channel = Channel.MAIL

    def __init__(self, courier: Courier, *, before: bool) -> None:
        self._courier, self._before = courier, before
        self.asleep, self.woken = asyncio.Event(), asyncio.Event()
        self.leased: Leased | None = None

    async def carry(self, leased: Leased) -> tuple[str, str | None]:
        self.leased = leased
        if self._before:
            await self._sleep()
        try:
            return await self._courier.carry(leased)
        finally:
            await self._sleep()

    async def _sleep(self) -> None:
        self.asleep.set()
        await self.woken.wait()

    async def rest(self) -> None:
        await self._courier.rest()


class Notifier:
    """Store, turns and sender, and a post office that takes the mails."""

    def __init__(self, settings: Settings, pool: Pool, office: PostOffice, clock: HandClock) -> None:
        self.clock, self.pool, self.office = clock, pool, office
        self.health, self.stop = Health(), asyncio.Event()
        self.settings = settings
        self.store = Store(pool, console_url="https://c.example")
        self.postman = Postman(settings)
        self.sender = self.another(self.postman)
        self.turns = self.new_turns()

    @classmethod
    async def open(cls, dsn: str, office: PostOffice, clock: HandClock | None = None) -> Self:
        environ = {
            "RECONCAL_POSTGRES_DSN": dsn,
            "RECONCAL_SMTP_PORT": str(office.smtp_port),
            "RECONCAL_SMTP_TIMEOUT_SECONDS": "3",
            "RECONCAL_CONSOLE_URL": "https://c.example",
        }
        settings = load(environ)
        return cls(settings, await postgres.connect(settings, name="test"), office, clock or HandClock(NOW))

    async def close(self) -> None:
        await self.postman.close()
        await postgres.close(self.pool)

    def new_turns(self, pool: "Pool | Mortal | None" = None) -> Turns:
        mail_from, holder = self.settings.mail_from, uuid4().hex
        pool = cast("Pool", pool or self.pool)
        return Turns(pool, Channel.MAIL, holder, mail_from=mail_from, lease_seconds=LEASE_SECONDS)

    def courier(self, postman: Postman) -> MailCourier:
        return MailCourier(self.settings, postman, self.clock)

    def another(self, by: Postman | Courier, pool: "Pool | Mortal | None" = None) -> Sender:
        """Give one more sender, with a connection and a name of its own."""
        courier = self.courier(by) if isinstance(by, Postman) else by
        troubles, news = PostgresTroubles(self.pool, self.clock), asyncio.Event()
        return Sender(courier, self.new_turns(pool), troubles, self.clock, self.health, news, self.stop)

    async def company(self, company: str = "praxis", **people: str) -> dict[str, UUID]:
        """Found a company; its people are given as name=role."""
        await self.pool.execute("INSERT INTO companies (company_id, name) VALUES ($1, $1)", company)
        return {person: await self.hire(person, role, company) for person, role in people.items()}

    async def hire(self, person: str, role: str, company: str = "praxis", **columns: Any) -> UUID:
        """Add a contact; `columns` are set as they are."""
        contact_id = uuid4()
        values = {
            "company_id": company,
            "contact_id": contact_id,
            "name": person.title(),
            "email": f"{person}@example.com",
            "role": role,
        } | columns
        names, places = ", ".join(values), ", ".join(f"${n}" for n, _ in enumerate(values, 1))
        await self.pool.execute(f"INSERT INTO contacts ({names}) VALUES ({places})", *values.values())
        return contact_id

    async def take_in(self, *flags: Flag) -> Taken:
        return await self.store.take_in(flags, "log", {0: 1}, self.clock.at)

    async def send(self) -> int:
        """Send what is due at this moment; gives how many attempts there were."""
        attempts = 0
        while await self.sender.send_one():
            attempts += 1
            if self.sender.away_seconds:
                break
        return attempts

    async def play(self, by: timedelta) -> None:
        """Let time pass, from one due moment to the next, as the loop would."""
        end = self.clock.at + by
        while True:
            await self.send()
            due = await self.turns.next_due()
            pause = timedelta(seconds=self.sender.away_seconds)
            due = None if due is None else max(due, self.clock.at + pause)
            if due is None or due > end:
                break
            self.clock.at = due
        self.clock.at = end

    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.office.mails]

    async def states(self) -> list[tuple[str, int, str]]:
        rows = await self.pool.fetch("SELECT recipient, number, state FROM letters ORDER BY 1, 2")
        return [(row[0].partition("@")[0], row[1], row[2]) for row in rows]

    async def inbox(self) -> list[tuple[str, str]]:
        rows = await self.pool.fetch(
            "SELECT c.email, n.type FROM notifications n JOIN contacts c USING (company_id, contact_id) ORDER BY 1, 2"
        )
        return [(row[0].partition("@")[0], row[1]) for row in rows]


def a_flag(company_id: str = "praxis", number: int = 4711, *, in_hours: float = 48, **over: Any) -> Flag:
    """Give an orphan of the booking app's, unless said otherwise."""
    appointment = AppointmentFacts(
        appointment_id=str(number),
        status="confirmed",
        starts_at=NOW + timedelta(hours=in_hours),
        customer_name="Mia P.",
    )
    flag = Flag(
        id=uuid4(),
        type=FlagType.ORPHANED_LOCAL,
        company_id=company_id,
        record_id=uuid4(),
        kind=Kind.ORPHANED_LOCAL,
        generation=1,
        decided_at=NOW,
        deadline_at=NOW,
        reason="no booking came",
        verdict="absent",
        appointment=appointment,
    )
    return replace(flag, **over)


def resolving(flag: Flag, *, by: str = "auto") -> Flag:
    return replace(flag, id=uuid4(), type=FlagType.RESOLVED, resolves=flag.id, resolved_by=by)


def of_company(kind: Kind, company_id: str = "praxis") -> Flag:
    """Give a flag about a company as a whole."""
    types = {
        Kind.WEBHOOK_SILENT: FlagType.WEBHOOK_SILENT,
        Kind.CALCOM_INCIDENT: FlagType.CALCOM_INCIDENT,
        Kind.ENDPOINT_OFF: FlagType.ENDPOINT_OFF,
    }
    kind_type = types.get(kind, FlagType.THRESHOLD)
    measured = Measured(value=6, limit=5, window_seconds=86_400) if kind_type is FlagType.THRESHOLD else None
    return Flag(
        id=uuid4(),
        type=kind_type,
        company_id=company_id,
        record_id=company_record_id(company_id),
        kind=kind,
        generation=1,
        decided_at=NOW,
        reason="Cal.com has switched the webhook off.",
        verdict="not_verified",
        measured=measured,
    )
