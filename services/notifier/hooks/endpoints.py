"""The tables endpoints and endpoint_messages, as the notifier sees them: what waits, who tells it, how it went."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from schemas.flags import Flag, Kind
from services.companies.model import Format
from services.plumbing import telemetry
from services.plumbing.postgres import Connection, Pool

#: So many messages wait for an endpoint at most; beyond it the oldest are given up.
WAITING_MOST: Final = 10_000
#: What was told, or given up, is forgotten after this time.
KEEP: Final = timedelta(days=7)
_FORGET_AT_ONCE: Final = 5_000
_TOO_MANY: Final = f"more than {WAITING_MOST} were waiting"

#: One row a flag and endpoint that wants its kind; positions are given in the flags' order.
_QUEUE: Final = """
INSERT INTO endpoint_messages (company_id, endpoint_id, flag_id, flag, created_at)
SELECT f.company_id, e.endpoint_id, f.flag_id, f.flag, $5
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::json[])
  WITH ORDINALITY AS f (company_id, flag_id, kind, flag, number)
JOIN endpoints e ON e.company_id = f.company_id
WHERE e.format = 'standard' AND e.disabled_at IS NULL AND f.kind <> ALL(e.muted_kinds)
ORDER BY f.number, e.endpoint_id
ON CONFLICT DO NOTHING RETURNING company_id, endpoint_id"""

#: Gives up the oldest of endpoints for which too many wait.
_SPILL: Final = """
WITH last AS MATERIALIZED (
  SELECT e.company_id, e.endpoint_id, w.position
  FROM unnest($1::text[], $2::uuid[]) AS e (company_id, endpoint_id) CROSS JOIN LATERAL (
    SELECT position FROM endpoint_messages
    WHERE company_id = e.company_id AND endpoint_id = e.endpoint_id AND state = 'waiting'
    ORDER BY position DESC OFFSET $4 LIMIT 1) AS w)
UPDATE endpoint_messages m SET state = 'given_up', ended_at = $3, last_error = $5 FROM last
WHERE m.company_id = last.company_id AND m.endpoint_id = last.endpoint_id AND m.state = 'waiting'
  AND m.position <= last.position"""

_TARGET: Final = """e.company_id, e.endpoint_id, e.host, e.url_ciphertext, e.secret_ciphertext, e.attempts,
  e.failing_since, e.not_before"""

#: Takes endpoints for which something waits and that nobody else has.
_LEASE: Final = f"""
WITH due AS (
  SELECT e.company_id, e.endpoint_id FROM endpoints e JOIN companies c USING (company_id)
  WHERE e.format = 'standard' AND e.disabled_at IS NULL AND c.removed_at IS NULL AND e.not_before <= $1
    AND (e.leased_until IS NULL OR e.leased_until <= $1)
    AND EXISTS (SELECT FROM endpoint_messages m
      WHERE m.company_id = e.company_id AND m.endpoint_id = e.endpoint_id AND m.state = 'waiting')
  ORDER BY e.leased_until NULLS FIRST, e.not_before LIMIT $4 FOR UPDATE OF e SKIP LOCKED)
UPDATE endpoints e SET leased_by = $2, leased_until = $3 FROM due
WHERE e.company_id = due.company_id AND e.endpoint_id = due.endpoint_id RETURNING {_TARGET}"""  # noqa: S608 - constants

#: Gives an endpoint back; when it was had last decides whose turn is next.
_RELEASE: Final = """
UPDATE endpoints SET leased_by = NULL, leased_until = $3
WHERE leased_by = $1 AND ($2::uuid IS NULL OR endpoint_id = $2)"""

#: What waits for an endpoint that is still ours.
_NEXT: Final = """
SELECT m.flag_id, m.flag, m.attempts
FROM endpoint_messages m JOIN endpoints e USING (company_id, endpoint_id)
WHERE m.company_id = $1 AND m.endpoint_id = $2 AND m.state = 'waiting' AND e.leased_by = $3 AND e.disabled_at IS NULL
ORDER BY m.position LIMIT $4"""

_SENT: Final = """
UPDATE endpoint_messages SET state = 'sent', ended_at = $4, attempts = attempts + 1, last_error = NULL
WHERE company_id = $1 AND endpoint_id = $2 AND flag_id = $3"""
_NOT_SENT: Final = """
UPDATE endpoint_messages SET attempts = attempts + 1, last_error = $4
WHERE company_id = $1 AND endpoint_id = $2 AND flag_id = $3"""

_WELL: Final = """
UPDATE endpoints SET attempts = 0, failing_since = NULL, last_error = NULL, not_before = '-infinity'
WHERE company_id = $1 AND endpoint_id = $2 AND failing_since IS NOT NULL"""
#: `$6`: the failure is the endpoint's own, and counts.
_FAILED: Final = """
UPDATE endpoints SET attempts = attempts + $6::bool::int, last_error = $4, not_before = $5,
  failing_since = CASE WHEN $6 AND attempts = 0 THEN $3 ELSE coalesce(failing_since, $3) END
WHERE company_id = $1 AND endpoint_id = $2 AND disabled_at IS NULL RETURNING attempts, failing_since"""
_SWITCH_OFF: Final = """
UPDATE endpoints SET disabled_at = $3, disabled_reason = $4, leased_by = NULL, leased_until = NULL
WHERE company_id = $1 AND endpoint_id = $2 AND disabled_at IS NULL"""
_GIVE_UP: Final = """
UPDATE endpoint_messages SET state = 'given_up', ended_at = $3, last_error = $4
WHERE company_id = $1 AND endpoint_id = $2 AND state = 'waiting'"""

_SLACK: Final = f"""
SELECT {_TARGET} FROM endpoints e JOIN companies c USING (company_id)
WHERE e.company_id = $1 AND e.endpoint_id = $2 AND e.format = 'slack' AND e.disabled_at IS NULL
  AND c.removed_at IS NULL"""  # noqa: S608 - constants
_ANY: Final = f"""
SELECT {_TARGET}, e.format, e.language FROM endpoints e JOIN companies c USING (company_id)
WHERE e.company_id = $1 AND e.endpoint_id = $2 AND c.removed_at IS NULL"""  # noqa: S608

#: Whether an endpoint of the company's is off, or does not take what it is told.
_ILL: Final = """
SELECT DISTINCT company_id FROM endpoints
WHERE company_id = ANY($1::text[]) AND (failing_since IS NOT NULL OR disabled_at IS NOT NULL)"""
#: Open alerts of endpoints that are not off any more, or for another time. `generation` is when it was switched off.
_ON_AGAIN: Final = """
SELECT a.flag FROM alerts a WHERE a.kind = $1 AND a.resolved_at IS NULL AND NOT EXISTS (
  SELECT FROM endpoints e WHERE e.company_id = a.company_id AND e.endpoint_id::text = a.flag->'why'->>'cause'
    AND floor(extract(epoch FROM e.disabled_at)) = (a.flag->>'generation')::numeric)"""
#: What was queued for an endpoint at the moment at which it was removed.
_ORPHANED: Final = """
DELETE FROM endpoint_messages m WHERE m.state = 'waiting' AND NOT EXISTS (
  SELECT FROM endpoints e WHERE e.company_id = m.company_id AND e.endpoint_id = m.endpoint_id)"""
_FORGET: Final = """
DELETE FROM endpoint_messages WHERE (company_id, endpoint_id, flag_id) IN (
  SELECT company_id, endpoint_id, flag_id FROM endpoint_messages
  WHERE state <> 'waiting' AND ended_at < $1 ORDER BY ended_at LIMIT $2)"""
_COUNT: Final = "SELECT count(*) FROM endpoint_messages WHERE state = 'waiting'"


class Target(Struct, frozen=True, kw_only=True):
    """An endpoint to be told something. `attempts`: how many went wrong, by its own fault, since one went well."""

    company_id: str
    endpoint_id: UUID
    host: str
    url_ciphertext: bytes
    secret_ciphertext: bytes | None
    attempts: int
    failing_since: datetime | None
    not_before: datetime


class Message(Struct, frozen=True, kw_only=True):
    """A flag to be told; `flag`: its JSON as it was queued."""

    flag_id: UUID
    flag: str
    attempts: int


class Failing(Struct, frozen=True):
    """How an endpoint stands after a failure."""

    attempts: int
    since: datetime


async def queue(connection: Connection, flags: Sequence[Flag], at: datetime) -> int:
    """Queue flags, and resolutions of flags, for all endpoints that want their kind, in this order; counts the rows.

    Within the caller's transaction. For no endpoint more than WAITING_MOST wait then.
    """
    if not flags:
        return 0
    columns: list[list[Any]] = [
        [flag.company_id for flag in flags],
        [flag.id for flag in flags],
        [flag.kind.value for flag in flags],
        [msgspec.json.encode(flag).decode() for flag in flags],
    ]
    queued = await connection.fetch(_QUEUE, *columns, at)
    told = sorted({(row["company_id"], row["endpoint_id"]) for row in queued})
    if told:
        spilt = await connection.execute(_SPILL, *map(list, zip(*told, strict=True)), at, WAITING_MOST, _TOO_MANY)
        _count("given_up", spilt)
    return len(queued)


class Endpoints:
    """Endpoints and what waits for them. Errors of the database go up as they are."""

    def __init__(self, pool: Pool, holder: str) -> None:
        """The pool stays its owner's. `holder`: the name of whoever has leases, its own."""
        self._pool, self._holder = pool, holder

    async def lease(self, now: datetime, until: datetime, *, limit: int) -> list[Target]:
        """Take endpoints of format standard for which something waits, that nobody else has."""
        return [_target(row) for row in await self._pool.fetch(_LEASE, now, self._holder, until, limit)]

    async def release(self, now: datetime, endpoint_id: UUID | None = None) -> None:
        """Give back an endpoint, or all of this holder's."""
        await self._pool.execute(_RELEASE, self._holder, endpoint_id, now)

    async def next(self, target: Target, *, limit: int) -> list[Message]:
        """Give what waits, oldest first; nothing when the endpoint was switched off, removed or taken by another."""
        rows = await self._pool.fetch(_NEXT, target.company_id, target.endpoint_id, self._holder, limit)
        return [Message(**row) for row in rows]

    async def sent(self, target: Target, flag_id: UUID, at: datetime) -> None:
        """Note that a message was taken: it is never told again."""
        await self._pool.execute(_SENT, target.company_id, target.endpoint_id, flag_id, at)

    async def not_sent(self, target: Target, flag_id: UUID, reason: str) -> None:
        """Note an attempt that went wrong."""
        await self._pool.execute(_NOT_SENT, target.company_id, target.endpoint_id, flag_id, reason)


class Standings:
    """How endpoints stand, of either format. Errors of the database go up as they are."""

    def __init__(self, pool: Pool) -> None:
        """The pool stays its owner's."""
        self._pool = pool

    async def slack(self, company_id: str, endpoint_id: UUID) -> Target | None:
        """Give an endpoint of format slack that is on."""
        row = await self._pool.fetchrow(_SLACK, company_id, endpoint_id)
        return None if row is None else _target(row)

    async def find(self, company_id: str, endpoint_id: UUID) -> tuple[Target, Format, str] | None:
        """Give an endpoint, on or off, with its format and language."""
        row = await self._pool.fetchrow(_ANY, company_id, endpoint_id)
        return None if row is None else (_target(row), Format(row["format"]), row["language"])

    async def well(self, target: Target) -> None:
        """Note that an endpoint took what it was told."""
        await self._pool.execute(_WELL, target.company_id, target.endpoint_id)

    async def failed(
        self, target: Target, at: datetime, reason: str, not_before: datetime, *, its_own: bool
    ) -> Failing | None:
        """Note that it did not; `its_own`: by its fault. None when it is off or gone."""
        row = await self._pool.fetchrow(_FAILED, target.company_id, target.endpoint_id, at, reason, not_before, its_own)
        return None if row is None else Failing(row["attempts"], row["failing_since"])

    async def ill(self, company_ids: Collection[str]) -> set[str]:
        """Give those of the companies of which an endpoint is off or fails."""
        return {row["company_id"] for row in await self._pool.fetch(_ILL, list(company_ids))}

    async def on_again(self) -> list[Flag]:
        """Give what was raised when an endpoint was switched off that is on again, or removed."""
        rows = await self._pool.fetch(_ON_AGAIN, Kind.ENDPOINT_OFF.value)
        return [msgspec.json.decode(row["flag"], type=Flag) for row in rows]

    async def tidy(self, now: datetime) -> None:
        """Forget what was told long ago, and what waits for nobody; show how much waits."""
        await self._pool.execute(_ORPHANED)
        await self._pool.execute(_FORGET, now - KEEP, _FORGET_AT_ONCE)
        telemetry.endpoint_messages_waiting.set(await self._pool.fetchval(_COUNT))


async def switch_off(connection: Connection, target: Target, at: datetime, reason: str) -> bool:
    """Switch an endpoint off and give up what waits, within the caller's transaction; tells whether it was on."""
    ref = (target.company_id, target.endpoint_id)
    if await connection.execute(_SWITCH_OFF, *ref, at, reason) == "UPDATE 0":
        return False
    _count("given_up", await connection.execute(_GIVE_UP, *ref, at, reason))
    return True


def _target(row: Any) -> Target:  # noqa: ANN401 - asyncpg's rows have no types
    return Target(**{name: row[name] for name in Target.__struct_fields__})


def _count(state: str, command: str) -> None:
    """Count what a statement changed: "UPDATE 3"."""
    telemetry.endpoint_messages.labels(state).inc(int(command.rpartition(" ")[2]))
