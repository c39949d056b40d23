"""The relay: what was decided goes to Kafka, in order, at least once; ids make it once.

So does what was found on a partition that is not its own: the publisher puts it where it belongs.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import UTC
from typing import Any, Final

from schemas.envelope import Delivery
from services.plumbing import telemetry
from services.plumbing.postgres import Pool
from services.plumbing.publisher import Publisher
from services.reconciler.rows import SOURCE

#: Rows of one round.
ROWS_MAX: Final = 500
#: Bodies of one round, but for one row at least: what is sent on may be large.
BYTES_MAX: Final = 8 * 1024 * 1024
#: Rows that another process left behind are found within this time.
LOOK_SECONDS: Final = 2.0
#: An acknowledgement that takes longer is a failure: the rows stay and are sent again.
PUBLISH_SECONDS: Final = 10.0

#: The oldest decisions of the partitions that are ours.
_NEXT: Final = """
SELECT company_id, outbox_id, topic, ce_id, ce_source, ce_type, content_type, webhook_version, body, traceparent,
  created_at, received_at
FROM (SELECT *, sum(octet_length(body)) OVER (ORDER BY outbox_id) - octet_length(body) AS before FROM (
  SELECT * FROM outbox WHERE kafka_partition = ANY($1::int[]) ORDER BY outbox_id LIMIT $2) o) o
WHERE before < $3 ORDER BY outbox_id"""

#: Takes away what the broker has.
_SENT: Final = """
DELETE FROM outbox o USING unnest($1::text[], $2::bigint[]) AS s (company_id, outbox_id)
WHERE o.company_id = s.company_id AND o.outbox_id = s.outbox_id"""


class Relay:
    """Sends the outbox of our partitions. A process that lost them may send a row again: its id is the same."""

    def __init__(self, pool: Pool, publisher: Publisher, owned: Callable[[], Collection[int]]) -> None:
        """`owned` gives the partition numbers that are ours at the moment."""
        self._pool, self._publisher, self._owned = pool, publisher, owned
        self.wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`. Raises KafkaError, TimeoutError and the database's errors: begin again then."""
        while not stop.is_set():
            self.wake.clear()
            if await self.send_some():
                continue
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.wake.wait()
            except TimeoutError:
                continue

    async def send_some(self) -> int:
        """Send the oldest rows; gives how many."""
        found = await self._pool.fetch(_NEXT, sorted(self._owned()), ROWS_MAX, BYTES_MAX)
        if not found:
            return 0
        async with asyncio.timeout(PUBLISH_SECONDS):
            await self._publisher.publish_all(_delivery(row) for row in found)
        await self._pool.execute(_SENT, [row["company_id"] for row in found], [row["outbox_id"] for row in found])
        telemetry.outbox_published.inc(len(found))
        telemetry.log().info(telemetry.RELAY_PUBLISHED, rows=len(found))
        return len(found)


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(
        topic=row["topic"],
        company_id=row["company_id"],
        ce_id=row["ce_id"],
        ce_source=row["ce_source"] or SOURCE,
        ce_type=row["ce_type"],
        received_at=(row["received_at"] or row["created_at"]).astimezone(UTC),
        body=row["body"],
        content_type=row["content_type"] or "application/json",
        traceparent=row["traceparent"],
        webhook_version=row["webhook_version"],
    )
