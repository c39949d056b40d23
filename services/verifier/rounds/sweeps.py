"""Sweeps: now and then everything that is not in order is asked about again, by one runner across all instances.

A sweep asks nothing itself. It publishes `Retry` commands, batch by batch; the reconciler turns each into a question,
or refuses it. How far it has come lies in `sweeps`, so that whoever runs next goes on from there.

One connection holds the lock and does all reading and writing here: when it dies the lock is gone with it, and so is
every way to move a sweep on. What a runner that lost it may still do is to publish the batch that it had just read. The
next one publishes the same under the same ids, and the reconciler refuses what it has seen: a record that is asked
about has a newer version.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from msgspec import Struct

from schemas import topics
from schemas.commands import Retry
from schemas.envelope import Delivery
from services.plumbing import telemetry
from services.plumbing.clock import Clock
from services.plumbing.lifecycle import pause
from services.plumbing.postgres import Connection, Pool, columns
from services.verifier.gate.incidents import Kind
from services.verifier.rounds.schedule import SIX_HOURS, SweepKind, latest_slot, slot_id

LOCK_ID: Final = 7_302_114_908_332
#: Records of one batch of commands.
BATCH: Final = 100
#: Records that are looked at for one: what is not wanted among them is passed.
LOOKED_AT: Final = 500
#: No further batch while so many of the sweeps' questions wait.
WAITING_MAX: Final = 300
#: When nothing could be added for so long, the companies whose questions wait are left to the next sweep. For as long
#: the reconciler is waited for to decide about a batch.
PATIENCE: Final = timedelta(minutes=10)
#: How far back each goes; a flagged record waits for review however old it is.
_PAST: Final = {SweepKind.SIX_HOURS: timedelta(days=30)}
#: "Not tried for six hours", every six hours: what the last sweep had asked a little after its beginning counts, too.
_TRIED: Final = SIX_HOURS - timedelta(minutes=30)
_KEPT: Final = timedelta(days=30)
_UNABLE_KINDS: Final = [Kind.UNAUTHORISED.value, Kind.UNREACHABLE.value, Kind.WRONG_ADDRESS.value]
#: The poll asks every few minutes: an incident that was not seen for so long says nothing of now.
_STALE: Final = timedelta(hours=1)
_IDLE_SECONDS: Final = 2.0
_BUSY_SECONDS: Final = 0.25
_CONNECT_SECONDS: Final = 10.0
_PUBLISH_SECONDS: Final = 15.0
_SOURCE: Final = "reconcal/verifier"
_NIL: Final = UUID(int=0)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: Whoever holds it runs the sweeps. A holder that vanished without a word is noticed within a minute.
_LOCK: Final = """
SELECT pg_try_advisory_lock($1), set_config('tcp_keepalives_idle', '30', false),
  set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false)"""

#: Asks for a sweep that has fallen due; its id is its slot's, so that it is there once.
_REQUEST: Final = """
INSERT INTO sweeps (company_id, sweep_id, kind, requested_at, requested_by, since)
VALUES ('', $1, $2, $3, 'schedule', $4) ON CONFLICT DO NOTHING RETURNING true"""

#: Forgets what is over for long.
_FORGET: Final = "DELETE FROM sweeps WHERE finished_at < $1"

#: The sweep that is to go on: those that somebody waits for first, then those that have begun.
_NEXT: Final = """
SELECT company_id, sweep_id, kind, requested_at, since, started_at, after_company_id, after_record_id FROM sweeps
WHERE finished_at IS NULL ORDER BY kind <> 'company', started_at IS NULL, requested_at, sweep_id LIMIT 1"""

#: What the reconciler would ask about: of companies $1, seen or beginning since $2, tried before $3, flagged if $4.
#: It would refuse the rest: who is meant of two only a human knows, and what a human decided stays.
_WANTED: Final = """
company_id = ANY($1::text[])
  AND greatest(first_received_at, starts_at) >= $2
  AND ($3::timestamptz IS NULL OR last_sync_attempt_at IS NULL OR last_sync_attempt_at < $3)
  AND (requires_manual_review OR NOT $4::bool)
  AND sync_error_code IS DISTINCT FROM 'AMBIGUOUS_MATCH'
  AND decision -> 'resolution' IS NULL"""

#: What of it there is. A record whose own deadline ($5) comes before the next sweep is asked about then.
_COUNT: Final = f"""
SELECT count(*) FROM records WHERE (calcom_sync_status IN ('failed', 'orphaned_local', 'orphaned_calcom')
  OR calcom_sync_status = 'pending' AND deadline_at >= $5) AND {_WANTED}"""  # noqa: S608 - of this program's constants

_COLUMNS: Final = """company_id, record_id, version, first_received_at, starts_at, last_sync_attempt_at,
    requires_manual_review, sync_error_code, decision"""

#: The next records that are not in order, behind a place, and which are wanted. Two indexes, each read in its order.
_PAGE: Final = f"""
SELECT company_id, record_id, version, {_WANTED} AS wanted FROM (
  (SELECT {_COLUMNS} FROM records
  WHERE calcom_sync_status IN ('failed', 'orphaned_local', 'orphaned_calcom') AND (company_id, record_id) > ($6, $7)
  ORDER BY company_id, record_id LIMIT $8)
  UNION ALL
  (SELECT {_COLUMNS} FROM records
  WHERE calcom_sync_status = 'pending' AND deadline_at >= $5 AND company_id >= $6 AND (company_id, record_id) > ($6, $7)
  ORDER BY company_id, record_id LIMIT $8)
) AS looked_at ORDER BY company_id, record_id LIMIT $8"""  # noqa: S608 - made of this program's constants

#: Begins a sweep.
_BEGIN: Final = "UPDATE sweeps SET started_at = $3, found = $4 WHERE company_id = $1 AND sweep_id = $2"

#: Moves a sweep on, once what lies before the new place is in Kafka.
_MOVE: Final = """
UPDATE sweeps SET after_company_id = $3, after_record_id = $4, asked = asked + $5, finished_at = $6
WHERE company_id = $1 AND sweep_id = $2 RETURNING found, asked"""

#: Companies whose key, address or Cal.com is known not to answer.
_UNABLE: Final = "SELECT DISTINCT company_id FROM incidents WHERE kind = ANY($1::text[]) AND last_seen_at > $2"

#: Questions of sweeps that wait, by company.
_WAITING: Final = "SELECT company_id, count(*) AS n FROM verifications WHERE priority = 2 GROUP BY company_id"

#: Commands that the reconciler has not decided about.
_UNDECIDED: Final = """
SELECT c.company_id, c.command_id FROM unnest($1::text[], $2::text[]) AS c (company_id, command_id)
WHERE NOT EXISTS (SELECT FROM command_outcomes o WHERE o.company_id = c.company_id AND o.command_id = c.command_id)"""


class Sends(Protocol):
    """What publishes: `publisher.Publisher`."""

    async def publish_all(self, deliveries: Iterable[Delivery]) -> None:
        """Return when the broker has them all."""
        ...


class _Sweep(Struct, frozen=True, kw_only=True):
    """A row of `sweeps` that is not finished."""

    company_id: str
    sweep_id: UUID
    kind: SweepKind
    requested_at: datetime
    since: datetime
    started_at: datetime | None
    after_company_id: str
    after_record_id: UUID | None

    def tried_before(self, now: datetime) -> datetime | None:
        """Say before when a record must have been tried last; None: whenever."""
        if self.kind is SweepKind.COMPANY:
            return None
        return now - _TRIED if self.kind is SweepKind.SIX_HOURS else self.requested_at


class _Looked(Struct, frozen=True):
    company_id: str
    record_id: UUID
    version: int
    wanted: bool


class Sweeps:
    """Runs them, if no other process does."""

    def __init__(
        self,
        pool: Pool,
        publisher: Sends,
        companies: Callable[[datetime], Collection[str]],
        clock: Clock,
        zone: ZoneInfo,
    ) -> None:
        """`companies` says which can be asked for at a moment: they have an active key. `zone`: of the daily sweep.

        One of the pool's connections is held for as long as this process runs the sweeps.
        """
        self._pool, self._publisher, self._companies, self._clock, self._zone = pool, publisher, companies, clock, zone
        self._requested: dict[SweepKind, UUID] = {}
        self._undecided: list[tuple[str, str]] = []
        self._published_at = _LONG_AGO
        self._held_since: datetime | None = None
        self._passed_over: dict[UUID, set[str]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Run sweeps until `stop`; a loop for `lifecycle.keep`. Errors of PostgreSQL and Kafka go up as they are."""
        while not stop.is_set():
            async with self._pool.acquire(timeout=_CONNECT_SECONDS) as connection:
                if await connection.fetchval(_LOCK, LOCK_ID):  # the pool gives it back with the connection
                    telemetry.log().info(telemetry.SWEEPS_MINE)
                    await self._lead(connection, stop)
            await pause(_IDLE_SECONDS, stop)

    async def _lead(self, connection: Connection, stop: asyncio.Event) -> None:
        self._requested, self._undecided, self._held_since = {}, [], None
        while not stop.is_set():
            await self._request_due(connection)
            row = await connection.fetchrow(_NEXT)
            if row is None:
                await pause(_IDLE_SECONDS, stop)
            elif not await self._go_on(connection, msgspec.convert(dict(row), _Sweep)):
                await pause(_BUSY_SECONDS, stop)

    async def _request_due(self, connection: Connection) -> None:
        """Ask for what has fallen due, and forget what is over for long whenever there is something new."""
        now = self._clock.now()
        for kind in (SweepKind.SIX_HOURS, SweepKind.DAILY):
            slot = latest_slot(kind, now, self._zone)
            sweep_id = slot_id(kind, slot)
            if self._requested.get(kind) == sweep_id:
                continue
            since = slot - _PAST[kind] if kind in _PAST else _LONG_AGO
            if await connection.fetchval(_REQUEST, sweep_id, kind.value, slot, since):
                await connection.execute(_FORGET, now - _KEPT)
            self._requested[kind] = sweep_id

    async def _go_on(self, connection: Connection, sweep: _Sweep) -> bool:
        """Have the next batch asked about; False: something has to be waited for."""
        now = self._clock.now()
        if not await self._room(connection, sweep, now):
            return False
        companies = await self._willing(connection, sweep, now)
        asked_for = (companies, sweep.since, sweep.tried_before(now), sweep.kind is SweepKind.DAILY, now + SIX_HOURS)
        if sweep.started_at is None:
            await self._begin(connection, sweep, asked_for, now)
        place = (sweep.after_company_id or sweep.company_id, sweep.after_record_id or _NIL)
        rows = await connection.fetch(_PAGE, *asked_for, *place, LOOKED_AT)
        batch, place, over = _choose([_Looked(*row) for row in rows], sweep.company_id, place)
        await self._publish(sweep, batch, now)
        # What was published last has to be decided about first: `finished_at` says that all of it is.
        await self._move(connection, sweep, place, len(batch), now if over and not batch else None)
        return True

    async def _willing(self, connection: Connection, sweep: _Sweep, now: datetime) -> list[str]:
        """Give the companies that can be asked for now: records of others would wait, and come back as they were."""
        rows = await connection.fetch(_UNABLE, _UNABLE_KINDS, now - _STALE)
        unable = self._passed_over.get(sweep.sweep_id, set()) | {row["company_id"] for row in rows}
        return [name for name in self._companies(now) if name not in unable]

    async def _begin(self, connection: Connection, sweep: _Sweep, asked_for: Sequence[Any], now: datetime) -> None:
        companies = [name for name in self._companies(now) if sweep.company_id in ("", name)]
        try:
            found = await connection.fetchval(_COUNT, companies, *asked_for[1:])
        except asyncpg.QueryCanceledError:  # so many that counting takes too long; a sweep can do without
            found = 0
        await connection.execute(_BEGIN, sweep.company_id, sweep.sweep_id, now, found)
        telemetry.log().info(telemetry.SWEEP_BEGUN, kind=sweep.kind, company=sweep.company_id or None, found=found)

    async def _room(self, connection: Connection, sweep: _Sweep, now: datetime) -> bool:
        """Tell whether more may be asked now.

        A company whose key or Cal.com does not answer must not hold up the others for ever: see PATIENCE.
        """
        if self._undecided and now - self._published_at < PATIENCE:
            found = await connection.fetch(_UNDECIDED, *columns(self._undecided))
            self._undecided = [tuple(row) for row in found]
            if self._undecided:
                return False
        passed_over = self._passed_over.setdefault(sweep.sweep_id, set())
        waiting = {row["company_id"]: row["n"] for row in await connection.fetch(_WAITING)}
        if sum(n for company_id, n in waiting.items() if company_id not in passed_over) < WAITING_MAX:
            self._held_since = None
            return True
        self._held_since = self._held_since or now
        if now - self._held_since >= PATIENCE:
            self._held_since = None
            passed_over.update(waiting)
            telemetry.log().warning(telemetry.SWEEP_PASSED_OVER, kind=sweep.kind, companies=sorted(waiting))
        return False

    async def _publish(self, sweep: _Sweep, batch: list[_Looked], now: datetime) -> None:
        if not batch:
            return
        commands = [_command(sweep, record, now) for record in batch]
        async with asyncio.timeout(_PUBLISH_SECONDS):
            await self._publisher.publish_all(commands)
        self._undecided = [(command.company_id, command.ce_id) for command in commands]
        self._published_at = now
        telemetry.sweep_retries.labels(sweep.kind.value).inc(len(batch))

    async def _move(
        self, connection: Connection, sweep: _Sweep, place: tuple[str, UUID], asked: int, finished_at: datetime | None
    ) -> None:
        row = await connection.fetchrow(_MOVE, sweep.company_id, sweep.sweep_id, *place, asked, finished_at)
        if finished_at is not None and row is not None:
            self._passed_over.pop(sweep.sweep_id, None)
            telemetry.log().info(
                telemetry.SWEEP_FINISHED, kind=sweep.kind, company=sweep.company_id or None, found=row[0], asked=row[1]
            )


def _choose(
    looked_at: Sequence[_Looked], company_id: str, place: tuple[str, UUID]
) -> tuple[list[_Looked], tuple[str, UUID], bool]:
    """Give the batch of a page, the place up to which that goes, and whether nothing is left behind it.

    `company_id`: the company whose sweep it is; empty: it is for all. `place`: behind which the page begins.
    """
    batch: list[_Looked] = []
    for one in looked_at:
        if company_id and one.company_id != company_id:
            return batch, place, True
        if one.wanted:
            if len(batch) == BATCH:
                return batch, place, False
            batch.append(one)
        place = (one.company_id, one.record_id)
    return batch, place, len(looked_at) < LOOKED_AT


def _command(sweep: _Sweep, record: _Looked, now: datetime) -> Delivery:
    retry = Retry(
        id=f"{sweep.sweep_id}:{record.record_id}",
        record_id=record.record_id,
        version=record.version,
        actor=f"sweep:{sweep.kind}",
        issued_at=now,
        sweep=True,
    )
    return Delivery(
        topic=topics.SYNC_COMMANDS,
        company_id=record.company_id,
        ce_id=retry.id,
        ce_source=_SOURCE,
        ce_type=topics.TYPE_COMMAND,
        received_at=now,
        body=msgspec.json.encode(retry),
    )
