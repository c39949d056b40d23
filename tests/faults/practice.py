"""A scene with a Cal.com in it: a company that has a key there, and what verifiers as processes make of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import msgspec

from schemas import topics
from schemas.commands import Retry
from schemas.envelope import Delivery
from schemas.observations import Check
from services.companies import admin
from services.companies.admin import NewCompany
from services.companies.model import Purpose
from services.embedded.calcom import Account, Booking, Calcom, Person
from services.plumbing.secrets import Vault
from tests.faults.scene import Scene
from tests.support import builders
from tests.support.calcom import KEY, running_calcom
from tests.support.live_view import read_all
from tests.support.load import delivery
from tests.support.processes import Service
from tests.support.wait import until

COMPANY: Final = "praxis"
WINDOW_SECONDS: Final = 1.0
#: Settings of a scene: a Cal.com on this machine, leases that a test may wait for, no polls beside the questions.
SETTINGS: Final = {
    "calcom_private_addresses": "allow",
    "verifier_lease_seconds": "6",
    "calcom_timeout_seconds": "3",
    "calcom_requests_per_minute": "6000",
    "calcom_poll_seconds": "1000000",
    "calcom_webhook_check_seconds": "1000000",
}

_LEFT: Final = """
SELECT (SELECT count(*) FROM verifications) AS waiting,
  (SELECT count(*) FROM records WHERE deadline_at IS NOT NULL) AS undecided"""
_STATUS: Final = "SELECT appointment_id, calcom_sync_status, sync_attempt_count FROM records WHERE company_id = $1"


class Practice:
    """One company, its account at Cal.com, and its appointments, named by number."""

    def __init__(self, stage: Scene, calcom: Calcom, base_url: str) -> None:
        """Made by `practice`."""
        self.stage, self.calcom, self._base_url = stage, calcom, base_url
        self.account: Account = calcom.join(COMPANY, KEY)
        self._vault = Vault(stage.settings.secret_key)

    async def enter(self, *, key: bool = True) -> None:
        """Add the company, and start a reconciler."""
        self.reconciler = self.stage.start("reconciler")
        new = NewCompany(
            company_id=COMPANY, name=COMPANY, window_seconds=WINDOW_SECONDS, calcom_base_url=self._base_url,
            calcom_api_key=KEY if key else None,
        )  # fmt: skip
        async with self.stage.pool.acquire() as connection:
            await admin.add(connection, self._vault, new)

    async def give_key(self) -> None:
        """Give the company its key."""
        async with self.stage.pool.acquire() as connection:
            await admin.rotate_secret(
                connection, self._vault, COMPANY, Purpose.CALCOM_API_KEY, keep_old_seconds=0, now=now(), given=KEY
            )

    async def book(self, numbers: Iterable[int]) -> dict[int, Booking]:
        """Let the guest of each number book at Cal.com; no webhook tells of it."""
        return {
            number: await self.calcom.book(self.account, _start(number), _guest(number), send=False)
            for number in numbers
        }

    async def tell(self, uids: dict[int, str]) -> None:
        """Let the app tell of appointments that name these bookings."""
        await self.stage.publish([_appointment(number, uid) for number, uid in uids.items()])

    async def retry(self, records: Sequence[Any], *, sweep: bool = False) -> list[str]:
        """Let a human, or a sweep, have Cal.com asked about records (record_id, version); gives the commands' ids."""
        commands = [
            Retry(
                id=f"retry-{uuid4()}", record_id=row["record_id"], version=row["version"], actor="Ada",
                issued_at=now(), sweep=sweep,
            )
            for row in records
        ]  # fmt: skip
        await self.stage.publish([_command(command) for command in commands])
        return [command.id for command in commands]

    async def ready(self, count: int = 1, **other: object) -> list[Service]:
        """Start verifiers, and wait until they are ready."""
        made = [self.stage.start("verifier", **other) for _ in range(count)]
        await asyncio.gather(*(one.ready() for one in made))
        return made

    async def asked(self, more_than: int, seconds: float = 30.0) -> int:
        """Wait until Cal.com was asked for bookings so often; gives how often."""

        async def enough() -> bool:
            return len(self.requests()) > more_than

        await until(enough, seconds)
        return len(self.requests())

    def requests(self) -> list[Any]:
        """Give all requests for single bookings, in order."""
        return self.calcom.requests.of(under="/v2/bookings/")

    async def checks(self) -> list[Check]:
        """Give all answers that were told, in order, repeats included."""
        envelopes = await read_all(self.stage.settings, (topics.CALCOM_BOOKINGS,))
        return [msgspec.json.decode(one.body, type=Check) for one in envelopes if one.ce_type == topics.TYPE_CHECK]

    async def quiet(self, seconds: float = 60.0) -> None:
        """Wait until nothing waits for Cal.com, nor for a deadline."""
        left: dict[str, int] = {}

        async def nothing() -> bool:
            row = await self.stage.pool.fetchrow(_LEFT)
            assert row is not None
            left.update(row)
            return not any(row)

        try:
            await until(nothing, seconds)
        except AssertionError:
            raise AssertionError(f"stuck: {left}") from None

    async def records(self) -> dict[int, tuple[str, int]]:
        """Give status and attempts of every appointment's record."""
        rows = await self.stage.pool.fetch(_STATUS, COMPANY)
        return {int(row["appointment_id"]): (row["calcom_sync_status"], row["sync_attempt_count"]) for row in rows}

    async def status(self, number: int, wanted: str, seconds: float = 30.0) -> None:
        """Wait until an appointment's record has a status."""

        async def there() -> bool:
            return (await self.records()).get(number, ("", 0))[0] == wanted

        await until(there, seconds)

    async def holds(self, seconds: float = 60.0) -> None:
        """Check every invariant once all is decided; the log folded anew, which asks nobody, gives the same records."""
        await self.quiet(seconds)
        await self.stage.holds(seconds=seconds)


@asynccontextmanager
async def practice(stage: Scene, *, requests_per_minute: int = 100_000) -> AsyncIterator[Practice]:
    """Run a Cal.com for a scene whose settings have SETTINGS. `requests_per_minute`: what it allows a key."""
    async with running_calcom(requests_per_minute=requests_per_minute) as (calcom, base_url):
        yield Practice(stage, calcom, base_url)


def now() -> datetime:
    """Give the present moment."""
    return datetime.now(UTC)


_FIRST: Final = now().replace(second=0, microsecond=0) + timedelta(days=1)


def _start(number: int) -> datetime:
    return _FIRST + timedelta(minutes=number)


def _guest(number: int) -> Person:
    return Person(name=f"Guest {number}", email=f"guest{number}@example.org")


def _appointment(number: int, uid: str) -> Delivery:
    customer = {"name": f"Guest {number}", "email": f"guest{number}@example.org", "phone": None}
    event = builders.appointment_event(
        appointment_id=f"{number}", starts_at=_start(number), calcom_booking_uid=uid, customer=customer,
        occurred_at=now(),
    )  # fmt: skip
    return delivery(topics.APP_APPOINTMENTS, COMPANY, f"evt-{number}", builders.body(event))


def _command(command: Retry) -> Delivery:
    return Delivery(
        topic=topics.SYNC_COMMANDS, company_id=COMPANY, ce_id=command.id, ce_source="tests",
        ce_type=topics.TYPE_COMMAND, received_at=command.issued_at, body=msgspec.json.encode(command),
    )  # fmt: skip
