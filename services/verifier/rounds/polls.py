"""How far each company's changes were read: `api_polls`, and what the reconciler knows of them by then."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from schemas.topics import CALCOM_BOOKINGS
from services.companies import incidents
from services.plumbing import telemetry
from services.plumbing.postgres import Connection, Pool
from services.verifier.rounds.silence import Sample

#: Incidents of the lists; those of asking are the gateway's.
FILTER_IGNORED: Final = "calcom_filter_ignored"
LIST_INCOMPLETE: Final = "calcom_list_incomplete"
#: Envelopes of a partition, newest first, among which a booking is looked for that a list must have.
_LATEST: Final = 1000
_CANARIES: Final = 3

#: A company that is polled for the first time begins now.
_ENTER: Final = "INSERT INTO api_polls (company_id, began_at) VALUES ($1, $2) ON CONFLICT (company_id) DO NOTHING"
_OPEN: Final = "SELECT cursor_at, began_at, recent FROM api_polls WHERE company_id = $1"
_SAVE: Final = """
UPDATE api_polls SET cursor_at = $2, polled_at = coalesce($3, polled_at), rows_seen = rows_seen + $4,
  unseen = unseen + $5, recent = $6::json, error = $7
WHERE company_id = $1"""

#: Which of these bookings a webhook told of: what was only observed does not count, nor what only the app names.
_TOLD: Final = """
SELECT DISTINCT side->>0 AS uid FROM record_keys k JOIN records r USING (company_id, cluster_id),
  json_array_elements(coalesce(r.facts->'chain', '[]'::json)) side, json_array_elements(side->2) heard
WHERE k.company_id = $1 AND k.key = ANY($2::text[]) AND side->>0 = ANY($3::text[])
  AND heard->1->>'trigger' <> 'OBSERVED'"""

#: How far the reconciler has read the bookings of a partition.
_FRONTIER: Final = "SELECT (frontiers->>$2)::timestamptz FROM partitions WHERE kafka_partition = $1"

#: Bookings that a webhook told of within a time: a list of this time must have them.
_CANARY: Final = """
SELECT r.booking_uid AS uid FROM (SELECT company_id, record_id, kind, received_at FROM events
  WHERE topic = $2 AND kafka_partition = $3 ORDER BY kafka_offset DESC LIMIT $6) e
JOIN records r USING (company_id, record_id)
WHERE e.company_id = $1 AND e.received_at BETWEEN $4 AND $5 AND r.booking_uid IS NOT NULL
  AND e.kind IN ('BOOKING_CREATED', 'BOOKING_REQUESTED', 'BOOKING_RESCHEDULED', 'BOOKING_CANCELLED', 'BOOKING_REJECTED')
GROUP BY r.booking_uid ORDER BY max(e.received_at) DESC LIMIT $7"""

_samples: Final = msgspec.json.Decoder(tuple[Sample, ...])


class Known(Struct, frozen=True):
    """How far a company was read. `began_at`: since when it is polled."""

    cursor_at: datetime | None
    began_at: datetime
    recent: tuple[Sample, ...]


class Progress(Struct, frozen=True, kw_only=True):
    """What a poll came to. `polled_at` is None where it did not come to its end; `error` says why."""

    cursor_at: datetime | None
    polled_at: datetime | None
    rows: int
    unseen: int
    recent: tuple[Sample, ...]
    error: str | None = None


class Polls:
    """The statements. Errors of the database go up."""

    def __init__(self, pool: Pool) -> None:
        """The pool stays its owner's."""
        self._pool = pool

    async def open(self, company_id: str, now: datetime) -> Known:
        """Give how far a company was read."""
        await self._pool.execute(_ENTER, company_id, now)
        row = await self._pool.fetchrow(_OPEN, company_id)
        assert row is not None  # noqa: S101 - it was put in
        return Known(row["cursor_at"], row["began_at"], _samples.decode(row["recent"]))

    async def save(self, connection: Connection, company_id: str, made: Progress) -> None:
        """Write down what a poll came to, in the transaction in which the turn was seen to be ours."""
        recent = msgspec.json.encode(made.recent).decode()
        values = (made.cursor_at, made.polled_at, made.rows, made.unseen, recent, made.error)
        await connection.execute(_SAVE, company_id, *values)

    async def told(self, company_id: str, uids: Collection[str]) -> set[str]:
        """Give those bookings that a webhook told of."""
        found = await self._pool.fetch(_TOLD, company_id, [f"u:{uid}" for uid in uids], list(uids))
        return {row["uid"] for row in found}

    async def frontier(self, partition: int) -> datetime | None:
        """Give the moment up to which the bookings of a partition are known to be read; None: nothing is known."""
        at: datetime | None = await self._pool.fetchval(_FRONTIER, partition, CALCOM_BOOKINGS)
        return at

    async def canaries(self, company_id: str, partition: int, since: datetime, until: datetime) -> list[str]:
        """Give uids of bookings that webhooks told of within a time; few, the latest first."""
        places = (CALCOM_BOOKINGS, partition, since, until, _LATEST, _CANARIES)
        return [row["uid"] for row in await self._pool.fetch(_CANARY, company_id, *places)]

    async def trouble(self, company_id: str, kind: str, detail: str, now: datetime) -> None:
        """Open an incident, or say that it goes on."""
        if await incidents.seen(self._pool, company_id, kind, detail, now):
            telemetry.log().warning(telemetry.CALCOM_INCIDENT, company=company_id, kind=kind, detail=detail)

    async def over(self, company_id: str, kind: str) -> None:
        """End an incident."""
        if await incidents.over(self._pool, company_id, [kind]):
            telemetry.log().info(telemetry.CALCOM_INCIDENT_OVER, company=company_id, kind=kind)

    async def keep(self, company_ids: Collection[str]) -> None:
        """End the incidents of all other companies: removed, or without a key."""
        await incidents.keep(self._pool, [FILTER_IGNORED, LIST_INCOMPLETE], company_ids)
