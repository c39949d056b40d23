"""What cannot be understood on a real broker: kept byte for byte, told of, and in nobody's way."""

from collections.abc import Sequence
from typing import Final

import pytest
from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from services.plumbing.settings import Settings
from tests.support import builders
from tests.support.running import Running, assignment, at_home, running, stranger
from tests.support.stand import stand
from tests.support.wait import until

CALCOM: Final = topics.CALCOM_BOOKINGS
FIRM: Final = at_home(0)
ELSEWHERE: Final = at_home(1)
GOOD: Final = builders.body(builders.booking_created("uid-9", booking_id=9))
#: A message that is understood and says nothing of a record: the log folded anew makes nothing of it either.
PING: Final = builders.body(builders.ping())


class Stray(Struct, frozen=True):
    """A record as it was written, and what it must be called."""

    reason: str
    body: bytes
    key: bytes | None = FIRM.encode()
    headers: Sequence[tuple[str, bytes]] = ()


STRAYS: Final = (
    Stray("invalid_json", b'{"triggerEvent":'),
    Stray("invalid_json", b""),
    Stray("too_large", b'"' + b"x" * (5 * 1024 * 1024) + b'"'),
    Stray("invalid_text", builders.body(builders.booking_created("uid\0"))),
    Stray("invalid_text", GOOD.replace(b"Nora", b"\\ud800")),
    Stray("invalid_text", b"\xff\xfe" + GOOD),
    Stray("no_envelope", b'{"hello": "world"}'),
    Stray("no_company", GOOD, key=None),
    Stray("no_company", GOOD, key=b"\xff"),
    Stray("unknown_company", PING, key=at_home(0).encode() + b"-gone"),
    Stray("too_large", b'"' + b"x" * (2 * 1024 * 1024) + b'"', key=ELSEWHERE.encode()),
)


@pytest.fixture
async def here(request: pytest.FixtureRequest, broker: str, dsn: str) -> Settings:
    """Give settings under which five dead letters in a row are too many."""
    return await stand(broker, dsn, dead_letter_brake_run="5", **assignment(request))


@pytest.fixture
async def patient(request: pytest.FixtureRequest, broker: str, dsn: str) -> Settings:
    """Give settings under which they are not."""
    return await stand(broker, dsn, **assignment(request))


async def firms(service: Running) -> None:
    """Add a company on partition 0 and one on partition 1."""
    await service.company(FIRM, window_seconds=600)
    await service.company(ELSEWHERE, window_seconds=600)


async def test_each_kind_is_kept_with_its_place_and_reason_and_the_partition_goes_on(patient: Settings) -> None:
    async with running(patient) as service, stranger(patient) as pen:
        await firms(service)
        for stray in STRAYS:
            await pen.send_and_wait(
                patient.kafka_topic_prefix + CALCOM, stray.body, key=stray.key, partition=0, headers=list(stray.headers)
            )
        await pen.send_and_wait(patient.kafka_topic_prefix + CALCOM, GOOD, key=FIRM.encode(), partition=0)
        await service.comes("SELECT true FROM records WHERE booking_uid = 'uid-9'")
        rows = await service.pool.fetch("SELECT * FROM dead_letters ORDER BY kafka_offset")
        assert [(r["topic"], r["kafka_partition"], r["kafka_offset"]) for r in rows] == [
            (CALCOM, 0, offset) for offset in range(len(STRAYS))
        ]
        assert [row["reason"] for row in rows] == [stray.reason for stray in STRAYS]
        assert [row["body"] for row in rows] == [stray.body for stray in STRAYS]
        assert all(row["detail"].endswith(".") for row in rows)
        await service.check()
        told = [(n.topic, n.partition, n.offset, n.reason, n.company_id) for n in await service.notices()]
        assert sorted(told) == [
            (r["topic"], r["kafka_partition"], r["kafka_offset"], r["reason"], r["company_id"]) for r in rows
        ]
        assert await service.readyz() == {}


async def test_a_message_without_headers_is_understood_by_its_topic_and_body(patient: Settings) -> None:
    async with running(patient) as service, stranger(patient) as pen:
        await firms(service)
        await pen.send_and_wait(patient.kafka_topic_prefix + CALCOM, GOOD, key=FIRM.encode(), partition=0)
        await service.comes("SELECT true FROM records WHERE booking_uid = 'uid-9'")
        assert await service.value("SELECT count(*) FROM dead_letters") == 0
        await service.check()


async def test_the_brake_stops_one_partition_says_so_and_nothing_is_lost(here: Settings) -> None:
    async with running(here) as service:
        await firms(service)
        for _ in range(12):
            await service.put(CALCOM, b"{", FIRM)
        await service.appointment(1, FIRM)
        await service.appointment(1, ELSEWHERE)
        await service.status(1, "pending", ELSEWHERE)
        reason = await service.comes("SELECT stopped_reason FROM partitions WHERE kafka_partition = 0")
        assert reason == "5 dead letters in a row"

        async def says_so() -> bool:
            return await service.readyz() == {"brake": "partition 0: 5 dead letters in a row"}

        await until(says_so, 10)
        assert await service.value("SELECT count(*) FROM dead_letters") == 5
        assert await service.value("SELECT count(*) FROM partitions WHERE stopped_reason IS NOT NULL") == 1
        await service.stop()
        service.settings = replace(here, dead_letter_brake_run=1000)
        service.start()
        await service.status(1, "pending", FIRM)
        await service.comes("SELECT true FROM dead_letters HAVING count(*) = 12")
        assert await service.value("SELECT count(*) FROM partitions WHERE stopped_reason IS NOT NULL") == 0
        await service.check()
