"""Takes flags in: seen, alerts, the inbox, what endpoints are told, turns, and the offset, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from schemas.flags import Flag, FlagType
from services.notifier import alerts, inboxes
from services.notifier.hooks import endpoints
from services.notifier.people import households
from services.plumbing.postgres import Connection, Pool, columns

FlagRef = tuple[str, UUID]  # company, flag

#: Decides which flags are new. In order of the key, so that two notifiers cannot wait for each other.
_SEEN: Final = """
INSERT INTO seen_flags (company_id, ce_id, type, seen_at)
SELECT company_id, ce_id, type, $4 FROM unnest($1::text[], $2::uuid[], $3::text[]) AS f (company_id, ce_id, type)
ORDER BY company_id, ce_id
ON CONFLICT DO NOTHING RETURNING company_id, ce_id"""

#: Where to go on, as far as the offsets count in this log.
_POSITIONS: Final = """
SELECT kafka_partition, next_offset FROM notifier_offsets WHERE log_id = $1 AND kafka_partition = ANY($2::int[])"""

#: Notes the next offset of each partition.
_ADVANCE: Final = """
INSERT INTO notifier_offsets (kafka_partition, log_id, next_offset)
SELECT n, $1, o FROM unnest($2::int[], $3::bigint[]) AS u (n, o) ORDER BY n
ON CONFLICT (kafka_partition) DO UPDATE SET log_id = excluded.log_id, next_offset = excluded.next_offset"""


class Taken(Struct, frozen=True, kw_only=True):
    """What a batch of flags came to. `nobody`: companies with news of which nobody is mailed."""

    raised: int
    resolved: int
    queued: int  # for endpoints
    nobody: tuple[str, ...]

    @property
    def news(self) -> bool:
        """Tell whether there is anything new."""
        return bool(self.raised or self.resolved)


class Store:
    """Keeps what the notifier has taken in. Errors of the database go up as they are."""

    def __init__(self, pool: Pool, *, console_url: str) -> None:
        """The pool stays its owner's."""
        self._pool = pool
        self._console_url = console_url

    async def positions(self, log_id: str, numbers: Iterable[int]) -> dict[int, int]:
        """Give the next offset of the partitions for which one is known in this log."""
        return {row[0]: row[1] for row in await self._pool.fetch(_POSITIONS, log_id, list(numbers))}

    async def adopt(self, log_id: str, positions: Mapping[int, int]) -> None:
        """Note where reading begins."""
        await self._pool.execute(_ADVANCE, log_id, list(positions), list(positions.values()))

    async def take_in(self, flags: Sequence[Flag], log_id: str, positions: Mapping[int, int], at: datetime) -> Taken:
        """Take in the flags that are new, and move the offsets; all or nothing.

        In one batch the order of a flag and of what resolves it does not matter. A resolution that comes a batch
        before its flag is noted under the flag's id too, so that the flag, when it comes, finds itself seen.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            new = await self._new(connection, flags, at)
            raised = [flag for flag in new if flag.type is not FlagType.RESOLVED]
            resolved = [flag for flag in new if flag.resolves is not None]
            homes = await households(connection, {flag.company_id for flag in new})
            await alerts.note(connection, raised, resolved, at)
            await inboxes.put(connection, homes, raised, resolved, at, console_url=self._console_url)
            queued = await endpoints.queue(connection, new, at) if new else 0
            if positions:
                await connection.execute(_ADVANCE, log_id, list(positions), list(positions.values()))
        news = {flag.company_id for flag in raised}
        nobody = tuple(sorted(name for name in news if name not in homes or not homes[name].reached))
        return Taken(raised=len(raised), resolved=len(resolved), queued=queued, nobody=nobody)

    async def _new(self, connection: Connection, flags: Sequence[Flag], at: datetime) -> list[Flag]:
        by_id = {(flag.company_id, flag.id): flag for flag in flags}
        resolved = {(flag.company_id, flag.resolves): flag for flag in flags if flag.resolves is not None}
        fresh = await _see(connection, by_id, at)
        await _see(connection, {ref: flag for ref, flag in resolved.items() if ref not in by_id}, at)
        return [flag for ref, flag in by_id.items() if ref in fresh]


async def _see(connection: Connection, flags: Mapping[FlagRef, Flag], at: datetime) -> set[FlagRef]:
    if not flags:
        return set()
    rows = [(company_id, name, flag.type.value) for (company_id, name), flag in flags.items()]
    return {(row["company_id"], row["ce_id"]) for row in await connection.fetch(_SEEN, *columns(rows), at)}
