"""`reconcal retry RECORD_ID`: one command, its outcome, and what came of it."""

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from schemas import topics
from schemas.commands import Retry
from schemas.envelope import Delivery
from services.cli.company_work import NO_API_KEY
from services.cli.context import connected
from services.cli.failures import Failure
from services.plumbing.clock import WallClock
from services.plumbing.postgres import Connection
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings

#: What the reconciler refuses, for people; `command_outcomes.reason`.
REFUSALS: Final = {
    "newer_version": "the record changes all the time; try again",
    "unknown_record": "there is no such record any more",
    "nothing_to_check": "nothing is the matter with it that Cal.com could say something about",
    "no_api_key": NO_API_KEY,
}
#: A record that moved between our look at it and the reconciler's is looked at again.
_TRIES: Final = 3
_PUBLISH_SECONDS: Final = 15.0
#: The reconciler decides about a command within a batch or two; more means that it does not run, or lags.
_DECIDE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1
_SOURCE: Final = "reconcal/cli"

_RECORD: Final = """
SELECT r.record_id, version, calcom_sync_status, sync_error_code, sync_attempt_count, last_sync_attempt_at,
  sync_verified_at, requires_manual_review, deadline_at
FROM records r WHERE company_id = $1 AND record_id = coalesce(
  (SELECT merged_into FROM record_aliases a WHERE a.company_id = $1 AND a.record_id = $2), $2)"""
_OUTCOME: Final = "SELECT applied, reason, version FROM command_outcomes WHERE company_id = $1 AND command_id = $2"


class Asked(Struct, frozen=True, kw_only=True):
    """What became of a retry; the columns are those of the record afterwards.

    `applied`, `reason`: what the reconciler said to the command. `answered`: Cal.com's answers amounted to something.
    """

    company_id: str
    record_id: UUID
    command_id: str
    applied: bool
    reason: str
    answered: bool = False
    version: int | None = None
    calcom_sync_status: str | None = None
    sync_error_code: str | None = None
    sync_attempt_count: int = 0
    last_sync_attempt_at: datetime | None = None
    sync_verified_at: datetime | None = None
    requires_manual_review: bool = False
    deadline_at: datetime | None = None

    @property
    def well(self) -> bool:
        """Tell whether the record is in order now."""
        return self.answered and self.calcom_sync_status == "synced"


async def ask(settings: Settings, company_id: str, record_id: UUID, actor: str, *, seconds: float) -> Asked:
    """Have Cal.com asked about a record and wait for what comes of it, for `seconds` at most.

    Raises Failure when there is no such record, or the reconciler says nothing; KafkaError; asyncpg's errors.
    """
    ends_at = asyncio.get_running_loop().time() + seconds
    async with connected(settings) as connection:
        await _record(connection, company_id, record_id)
        publisher = await Publisher.open(settings)
        try:
            asked = await _command(connection, publisher, company_id, record_id, actor)
        finally:
            await publisher.close()
        return await _answered(connection, asked, ends_at) if asked.applied else asked


async def _record(connection: Connection, company_id: str, record_id: UUID) -> dict[str, object]:
    row = await connection.fetchrow(_RECORD, company_id, record_id)
    if row is None:
        raise Failure(f"{company_id!r} has no record {record_id}")
    return dict(row)


async def _command(
    connection: Connection, publisher: Publisher, company_id: str, record_id: UUID, actor: str, tries: int = _TRIES
) -> Asked:
    """Send the command, by the record's version of this moment; gives the reconciler's word."""
    command = await _issue(connection, company_id, record_id, actor)
    async with asyncio.timeout(_PUBLISH_SECONDS):
        await publisher.publish(_delivery(company_id, command))
    asked = await _decided(connection, company_id, command)
    if asked.reason == "newer_version" and tries > 1:
        return await _command(connection, publisher, company_id, record_id, actor, tries - 1)
    return asked


async def _issue(connection: Connection, company_id: str, record_id: UUID, actor: str) -> Retry:
    known = await _record(connection, company_id, record_id)
    return Retry(
        id=f"retry-{uuid4()}",
        record_id=UUID(str(known["record_id"])),
        version=int(str(known["version"])),
        actor=actor,
        issued_at=WallClock().now(),
    )


def _delivery(company_id: str, command: Retry) -> Delivery:
    return Delivery(
        topic=topics.SYNC_COMMANDS,
        company_id=company_id,
        ce_id=command.id,
        ce_source=_SOURCE,
        ce_type=topics.TYPE_COMMAND,
        received_at=command.issued_at,
        body=msgspec.json.encode(command),
    )


async def _decided(connection: Connection, company_id: str, command: Retry) -> Asked:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _DECIDE_SECONDS
    while (row := await connection.fetchrow(_OUTCOME, company_id, command.id)) is None:
        if loop.time() >= ends_at:
            raise Failure(
                f"no reconciler decided about it within {_DECIDE_SECONDS:g} s; it is in Kafka and will be decided on"
            )
        await asyncio.sleep(_LOOK_SECONDS)
    return Asked(company_id=company_id, record_id=command.record_id, command_id=command.id, **dict(row))


async def _answered(connection: Connection, asked: Asked, ends_at: float) -> Asked:
    """Wait until the record is not being asked about any more."""
    loop = asyncio.get_running_loop()
    while True:
        known = await _record(connection, asked.company_id, asked.record_id)
        answered = known["calcom_sync_status"] != "verification_pending"
        if answered or loop.time() >= ends_at:
            return msgspec.structs.replace(asked, answered=answered, **known)
        await asyncio.sleep(_LOOK_SECONDS)
