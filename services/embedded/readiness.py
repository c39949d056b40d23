"""When a stack is ready, and where things are then."""

import asyncio
import re
from datetime import datetime
from typing import Final

import httpx
from msgspec import Struct, structs

from services.embedded import state
from services.embedded.furniture import Furnished, url
from services.plumbing import postgres
from services.plumbing.lifecycle import describe, pause
from services.plumbing.settings import Settings

#: From the start of the services until all of them are ready; the broker and the database have their own.
READY_SECONDS: Final = 60.0


class Addresses(Struct, frozen=True, kw_only=True):
    """Where things are: what `up --json` prints."""

    ingest: str
    console: str
    kafka: str
    postgres: str
    smtp: str
    mailbox: str | None

    def for_people(self) -> dict[str, str]:
        """Give them to be shown on a screen: without the database's password."""
        shown = {name: where or "-" for name, where in structs.asdict(self).items()}
        return shown | {"postgres": re.sub(r"(://[^:/@]*):[^/@]*@", r"\1:***@", self.postgres)}


_SERVICES: Final = ("ingest", "reconciler", "verifier", "notifier", "console")


async def await_all(furnished: Furnished, since: datetime, stop: asyncio.Event) -> Addresses:
    """Wait until every service says that it is ready and every partition has an owner; or until `stop`.

    `since`: a moment before the services began. Raises NotReady.
    """
    doors = {name: getattr(furnished, name) for name in _SERVICES}
    async with httpx.AsyncClient(timeout=5) as client:
        for name, door in doors.items():
            await _await_ready(client, name, url(door), stop)
        await _await_owned(furnished.settings, since, stop)
    return _addresses(furnished)


async def _await_ready(client: httpx.AsyncClient, name: str, where: str, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    until, said = loop.time() + READY_SECONDS, "no answer"
    while not stop.is_set():
        try:
            answer = await client.get(f"{where}/readyz")
            if answer.status_code == httpx.codes.OK:
                return
            said = answer.text
        except httpx.TransportError as error:
            said = describe(error)
        if loop.time() > until:
            raise state.NotReady(f"{name} is not ready after {READY_SECONDS:g} s: {said}")
        await pause(0.05, stop)


#: Tells whether every partition has been claimed or reported since a moment, by whomever.
_OWNED: Final = "SELECT bool_and(coalesce(greatest(claimed_at, reported_at) >= $1, false)) FROM partitions"


async def _await_owned(settings: Settings, since: datetime, stop: asyncio.Event) -> None:
    """Wait until no partition is without a reconciler: joining a group takes seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + READY_SECONDS
    pool = await postgres.connect(settings, name="up", size=1)
    try:
        while not stop.is_set() and not await pool.fetchval(_OWNED, since):
            if loop.time() > until:
                raise state.NotReady(f"the reconciler has not been given its partitions after {READY_SECONDS:g} s")
            await pause(0.05, stop)
    finally:
        await postgres.close(pool)


def _addresses(furnished: Furnished) -> Addresses:
    settings = furnished.settings
    return Addresses(
        ingest=url(furnished.ingest),
        console=url(furnished.console),
        kafka=settings.kafka_bootstrap_servers,
        postgres=settings.postgres_dsn,
        smtp=f"{settings.smtp_host}:{settings.smtp_port}",
        mailbox=url(furnished.mailbox) if furnished.mailbox else None,
    )
