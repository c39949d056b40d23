"""A reconciler, verifiers and a Cal.com in one loop, over real HTTP: what is asked, and what comes of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
from msgspec.structs import replace

from schemas import topics
from schemas.commands import Retry
from schemas.envelope import Delivery
from schemas.observations import Check
from services.companies import admin
from services.companies.admin import Changes, NewCompany
from services.companies.model import Purpose
from services.embedded.calcom import Account, Booking, Calcom, Person
from services.plumbing import health, postgres
from services.plumbing.clock import Clock, WallClock
from services.plumbing.postgres import Pool
from services.plumbing.publisher import Publisher
from services.plumbing.secrets import Vault
from services.plumbing.settings import Settings
from services.reconciler.main import serve
from services.verifier.main import serve as verify
from tests.support import builders
from tests.support.calcom import NORA, running_calcom
from tests.support.fast_clock import FastClock
from tests.support.invariants import check
from tests.support.live_view import live_view, read_all
from tests.support.running import HOST, Running
from tests.support.stand import stand
from tests.support.wait import until

#: Of the fast clock: longer than what a busy machine needs to read what was written, short on the wall.
WINDOW_SECONDS: Final = 25.0
WAIT_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0
_DOOR: Final = "http://ingest.test/webhooks/calcom"

#: Lets so many seconds pass for all keys' budgets, which go by the database's clock.
_PASS: Final = """
UPDATE api_budgets SET refilled_at = refilled_at - $1::interval, blocked_until = blocked_until - $1::interval,
  opened_at = opened_at - $1::interval, refused_at = refused_at - $1::interval,
  probe_until = probe_until - $1::interval"""


class Verifier:
    """One verifier in this loop, from its making to `stop`."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Begin to serve."""
        listener = health.listen(HOST, 0)
        self._stop = asyncio.Event()
        self.serving = asyncio.create_task(verify(settings, self._stop, listener=listener, clock=clock))

    async def stop(self) -> None:
        """Tell it to stop, and wait for its end. Raises what it ended with."""
        self._stop.set()
        async with asyncio.timeout(_STOP_SECONDS):
            await self.serving


class Hooks:
    """Puts the stand-in's webhooks on their topic, as the door does; the address names the company."""

    def __init__(self) -> None:
        """`to` comes later."""
        self.to: Telephone | None = None

    async def __call__(self, url: str, body: bytes, _: dict[str, str]) -> int:
        """See `hooks.Post`."""
        assert self.to is not None
        await self.to.post(topics.CALCOM_BOOKINGS, body, url.rpartition("/")[2])
        return 202


class Telephone(Running):
    """What a test does to the world, and what it sees of it. All go by `clock`."""

    def __init__(
        self, settings: Settings, pool: Pool, publisher: Publisher, calcom: Calcom, base_url: str, clock: Clock
    ) -> None:
        """Made by `telephone`."""
        super().__init__(settings, pool, publisher)
        self.calcom, self.base_url, self.clock = calcom, base_url, clock
        self.vault = Vault(settings.secret_key)
        self._began = clock.now()
        self.verifiers: list[Verifier] = []

    def start(self) -> None:
        """Begin to reconcile."""
        listener = health.listen(HOST, 0)
        self._url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._stop = asyncio.Event()
        self._serving = asyncio.create_task(serve(self.settings, self._stop, listener=listener, clock=self.clock))

    def verify(self, **other: object) -> Verifier:
        """Start a verifier, with other settings if wanted."""
        made = Verifier(replace(self.settings, **other), self.clock)
        self.verifiers.append(made)
        return made

    async def stop(self) -> float:
        """Stop all; gives the seconds that the reconciler took."""
        try:
            await asyncio.gather(*(one.stop() for one in self.verifiers))
        finally:
            took = await super().stop()
        return took

    # --- what there is ------------------------------------------------------------------------------------------

    async def practice(
        self, company_id: str = "acme", *, key: bool = True, hears: bool = True, **rules: Any
    ) -> Account:
        """Add a company, and its account at Cal.com with the key that `key_of` gives; the company has it if `key`.

        `hears`: its webhook there is active.
        """
        account = self.calcom.join(company_id, key_of(company_id))
        self.calcom.subscribe(account, f"{_DOOR}/{company_id}", secret="any", active=hears)
        given: dict[str, Any] = {"window_seconds": WINDOW_SECONDS, "calcom_base_url": self.base_url} | rules
        new = NewCompany(
            company_id=company_id, name=company_id, calcom_api_key=key_of(company_id) if key else None, **given
        )
        async with self.pool.acquire() as connection:
            await admin.add(connection, self.vault, new)
        return account

    async def give_key(self, company_id: str, key: str) -> None:
        """Give a company a new API key; the old one counts no more."""
        async with self.pool.acquire() as connection:
            await admin.rotate_secret(
                connection, self.vault, company_id, Purpose.CALCOM_API_KEY, keep_old_seconds=0, now=WallClock().now(),
                given=key,
            )  # fmt: skip

    async def take_key(self, company_id: str) -> None:
        """Take a company's API key away."""
        await self.pool.execute(
            "DELETE FROM company_secrets WHERE company_id = $1 AND purpose = $2", company_id, Purpose.CALCOM_API_KEY
        )

    async def move_api(self, company_id: str, base_url: str) -> None:
        """Say where a company's Cal.com is."""
        async with self.pool.acquire() as connection:
            await admin.set_company(connection, company_id, Changes(calcom_base_url=base_url))

    def starts(self, hours: float = 24.0 * 7) -> datetime:
        """Give a start to come, so many hours after the beginning; the same each time."""
        return (self._began + timedelta(hours=hours)).replace(second=0, microsecond=0)

    async def booked(
        self, account: Account, start: datetime | None = None, person: Person = NORA, *, send: bool = False, **more: Any
    ) -> Booking:
        """Let somebody book at Cal.com; no webhook tells of it unless `send`."""
        return await self.calcom.book(account, start or self.starts(), person, send=send, **more)

    async def told(self, uid: str | None, number: int = 1, company_id: str = "acme", **over: Any) -> None:
        """Let the app tell of an appointment with Nora that names this booking (None: none)."""
        kind = over.pop("kind", "created")
        event = builders.appointment_event(
            kind,
            f"{number}",
            occurred_at=over.pop("occurred_at", None) or self.clock.now(),
            starts_at=over.pop("starts_at", None) or self.starts(),
            calcom_booking_uid=uid,
            **over,
        )
        await self.post(topics.APP_APPOINTMENTS, builders.body(event), company_id)

    async def retry(self, record_id: UUID, version: int, company_id: str = "acme", *, sweep: bool = False) -> str:
        """Let a human, or a sweep, have Cal.com asked; gives the command's id."""
        command = Retry(
            id=f"retry-{uuid4()}", record_id=record_id, version=version, actor="Ada", issued_at=self.clock.now(),
            sweep=sweep,
        )  # fmt: skip
        await self.post(topics.SYNC_COMMANDS, msgspec.json.encode(command), company_id)
        return command.id

    async def post(self, topic: str, body: bytes, company_id: str) -> None:
        """Put a message on its topic, received at this moment; returns when the broker has it."""
        delivery = Delivery(
            topic=topic, company_id=company_id, ce_id=uuid4().hex, ce_source="test", ce_type="test",
            received_at=self.clock.now(), body=body,
        )  # fmt: skip
        await self.publish([delivery])

    # --- what is seen -------------------------------------------------------------------------------------------

    async def row(self, number: int = 1, company_id: str = "acme") -> Any:
        """Give the record of an appointment."""
        found = await self.pool.fetchrow(
            "SELECT * FROM records WHERE company_id = $1 AND appointment_id = $2", company_id, f"{number}"
        )
        assert found is not None, f"no record of {number}"
        return found

    async def becomes(self, status: str, number: int = 1, company_id: str = "acme") -> Any:
        """Wait until an appointment's record has a status; gives it. Whatever ran must still run."""

        async def there() -> bool:
            self._alive()
            return bool(await self.value(
                "SELECT true FROM records WHERE company_id = $1 AND appointment_id = $2 AND calcom_sync_status = $3",
                company_id, f"{number}", status,
            ))  # fmt: skip

        try:
            await until(there, WAIT_SECONDS)
        except AssertionError:
            raise AssertionError(f"{number} is no {status}: {await self.picture()}") from None
        return await self.row(number, company_id)

    async def picture(self) -> str:
        """Say how things stand, for people."""
        records = await self.pool.fetch(
            "SELECT appointment_id, booking_uid, calcom_sync_status, sync_error_code, sync_attempt_count FROM records"
        )
        waiting = await self.pool.fetch("SELECT number, priority, not_before, leased_until FROM verifications")
        checks = [(one.number, one.verdict.value, one.reason) for one in await self.checks()]
        troubles = await self.troubles()
        asked = [repr(one) for one in self.calcom.requests.of(under="/v2/bookings/")][-6:]
        parts = [[tuple(row) for row in records], [tuple(row) for row in waiting], checks, troubles, asked]
        return "\n".join(map(str, parts))

    def _alive(self) -> None:
        served = [self._serving, *(one.serving for one in self.verifiers)]
        for one in served:
            if one is not None and one.done():
                one.result()
                raise AssertionError("a service has ended")

    async def waits(self, number: int = 1, company_id: str = "acme") -> None:
        """Wait until Cal.com is to be asked about an appointment."""
        await self.becomes("verification_pending", number, company_id)

    async def trouble(self, kind: str, company_id: str = "acme") -> str:
        """Wait for an incident of a company; gives what it says."""
        try:
            detail: str = await self.comes(
                "SELECT detail FROM incidents WHERE company_id = $1 AND kind = $2",
                company_id,
                kind,
                seconds=WAIT_SECONDS,
            )
        except AssertionError:
            raise AssertionError(f"{company_id} has no {kind}: {await self.picture()}") from None
        return detail

    async def troubles(self) -> list[tuple[str, str]]:
        """Give the open incidents: company and kind."""
        rows = await self.pool.fetch("SELECT company_id, kind FROM incidents ORDER BY 1, 2")
        return [tuple(row) for row in rows]

    async def checks(self) -> list[Check]:
        """Give all answers that were told, in order, repeats included."""
        envelopes = await read_all(self.settings, (topics.CALCOM_BOOKINGS,))
        return [msgspec.json.decode(one.body, type=Check) for one in envelopes if one.ce_type == topics.TYPE_CHECK]

    async def notes(self, number: int = 1, company_id: str = "acme") -> list[str]:
        """Give what the timeline notes of a record's changes, oldest first."""
        row = await self.row(number, company_id)
        rows = await self.pool.fetch(
            "SELECT note FROM transitions WHERE company_id = $1 AND record_id = $2 ORDER BY at, version",
            company_id, row["record_id"],
        )  # fmt: skip
        return [one["note"] for one in rows]

    def asked_for(self, uid: str) -> list[Any]:
        """Give the requests for one booking."""
        return self.calcom.requests.of(having=lambda one: one.path == f"/v2/bookings/{uid}")

    async def hasten(self, kind: str) -> None:
        """Have all companies polled, or their webhooks looked at, at once."""
        await self.pool.execute("UPDATE calcom_turns SET due_at = '-infinity' WHERE kind = $1", kind)

    async def pass_seconds(self, seconds: float) -> None:
        """Let time pass for the keys' budgets: blocks and breakers end, buckets fill."""
        await self.pool.execute(_PASS, timedelta(seconds=seconds))

    async def quiet(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until no window is open and nothing waits for Cal.com."""
        await self.comes(
            "SELECT (SELECT count(*) FROM records WHERE deadline_at IS NOT NULL) = 0"
            " AND (SELECT count(*) FROM verifications) = 0",
            seconds=seconds,
        )

    async def check(self) -> None:
        """Check every invariant; the log is folded anew and Cal.com is not asked again."""
        await self.quiet()
        check(replace(await live_view(self.settings, self.pool), until=self.clock.now()))


def key_of(company_id: str) -> str:
    """Give the API key of a company."""
    return f"cal_test_of_{company_id}"


@asynccontextmanager
async def telephone(
    bootstrap_servers: str,
    dsn: str,
    *,
    clock: Clock | None = None,
    verifiers: Iterable[dict[str, Any]] = ({},),
    **more: str,
) -> AsyncIterator[Telephone]:
    """Run a reconciler, a Cal.com and verifiers for a test, on a fast clock if none is given.

    `verifiers`: the settings in which each differs. `more`: settings of all. What still runs is stopped at the end.
    """
    clock = clock or FastClock()
    settings = await stand(bootstrap_servers, dsn, **_SETTINGS | more)
    async with AsyncExitStack() as stack:
        hooks = Hooks()
        calcom, base_url = await stack.enter_async_context(
            running_calcom(clock.now, post=hooks, requests_per_minute=settings.calcom_requests_per_minute)
        )
        pool = await postgres.connect(settings, name="tests", size=3)
        stack.push_async_callback(postgres.close, pool)
        publisher = await Publisher.open(settings)
        stack.push_async_callback(publisher.close)
        made = Telephone(settings, pool, publisher, calcom, base_url, clock)
        stack.push_async_callback(made.stop)
        hooks.to = made
        made.start()
        for other in verifiers:
            made.verify(**other)
        yield made


#: On a clock that runs ahead a stall, a lease and a poll would come at once.
_SETTINGS: Final = {
    "kafka_assignment": "all",
    "ingest_public_url": "http://ingest.test",
    "calcom_private_addresses": "allow",
    "calcom_timeout_seconds": "2",
    "stall_after_seconds": "120",
    "verifier_lease_seconds": "1500",
    "calcom_poll_seconds": "1000000",
    "calcom_webhook_check_seconds": "1000000",
    "calcom_requests_per_minute": "6000",
}
