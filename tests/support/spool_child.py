"""A process that spools message after message and says which of them were promised, until it is killed."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from schemas import topics
from schemas.envelope import Delivery
from services.ingest import slots
from services.ingest.spool import Spool

SENDERS: Final = 20


def delivery(ce_id: str, company_id: str = "acme", body: bytes = b"{}") -> Delivery:
    """Make a message that was received now."""
    return Delivery(
        topic=topics.CALCOM_BOOKINGS,
        company_id=company_id,
        ce_id=ce_id,
        ce_source="test",
        ce_type=topics.TYPE_CALCOM_WEBHOOK,
        received_at=datetime.now(UTC),
        body=body,
        traceparent="00-1-2-01",
    )


async def _run(directory: Path) -> None:
    slot = slots.take(directory)
    spool = await Spool.open(slot.path, max_bytes=1 << 30, now=lambda: datetime.now(UTC))

    async def send(sender: int) -> None:
        number = 0
        while True:
            ce_id = f"{sender}-{number}"
            await spool.append((topics.CALCOM_BOOKINGS, sender % 3), [delivery(ce_id, body=b"x" * 1500)])
            sys.stdout.write(f"{ce_id}\n")
            sys.stdout.flush()
            number += 1

    await asyncio.gather(*(send(sender) for sender in range(SENDERS)))


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1])))
