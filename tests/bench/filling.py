"""The two side topics, filled with pairs: half events of the app, half full-size webhooks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Final

from schemas import topics
from schemas.envelope import Delivery
from services.plumbing.publisher import Publisher
from services.plumbing.settings import Settings
from tests.bench import bodies

COMPANIES: Final = tuple(f"practice-{number:02d}" for number in range(50))
_PAIRS_AT_ONCE: Final = 500


async def fill(settings: Settings, events: int) -> None:
    """Publish so many events; both sides of a case within one chunk, either may come first."""
    publisher = await Publisher.open(settings)
    try:
        for chunk in _chunks(events // 2):
            await publisher.publish_all(chunk)
    finally:
        await publisher.close()


def _chunks(pairs: int) -> Iterator[list[Delivery]]:
    random = Random(17)
    for first in range(0, pairs, _PAIRS_AT_ONCE):
        numbers = range(first, min(first + _PAIRS_AT_ONCE, pairs))
        sides = [(topic, number) for topic in topics.SIDES for number in numbers]
        random.shuffle(sides)
        yield [_side(topic, number) for topic, number in sides]


def _side(topic: str, number: int) -> Delivery:
    company = COMPANIES[number % len(COMPANIES)]
    if topic == topics.APP_APPOINTMENTS:
        return delivery(topic, company, f"evt-{number}", bodies.appointment(company, number))
    return delivery(topic, company, f"hook-{number}", bodies.webhook(company, number))


def delivery(topic: str, company: str, ce_id: str, body: bytes) -> Delivery:
    """Give a message as the door keeps it, received now."""
    kind = topics.TYPE_APPOINTMENT if topic == topics.APP_APPOINTMENTS else topics.TYPE_CALCOM_WEBHOOK
    return Delivery(
        topic=topic,
        company_id=company,
        ce_id=ce_id,
        ce_source="tests/bench",
        ce_type=kind,
        received_at=datetime.now(UTC),
        body=body,
    )
