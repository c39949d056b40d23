"""Notifiers that are killed, paused and stopped, floods of flags, and servers that go away under them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from random import Random
from typing import Final

import pytest

from schemas.flags import Flag
from services.embedded.database import EmbeddedDatabase
from services.embedded.ports import free_port
from services.plumbing.migrate import migrate
from tests.faults.mailing import COMPANY, all_told, found, held, mailing, publish
from tests.faults.scene import Scene, scene
from tests.faults.storm import storm
from tests.support.kafka_server import KafkaServer
from tests.support.load import on_partition
from tests.support.notifying import a_flag, resolving
from tests.support.post_office import PostOffice, Step
from tests.support.processes import Service
from tests.support.wait import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PEOPLE: Final = ("mia", "max")
CROWD: Final = tuple(f"person{number}" for number in range(24))
WAIT_SECONDS, INTERVAL_SECONDS = 0.2, 0.5
STOP_SECONDS: Final = 10.0
#: With the shortest answers that settings allow: a letter that was taken and not heard of again is another's then.
IMPATIENT: Final = {"smtp_timeout_seconds": 1.0}
LEASE_SECONDS: Final = 13.0


@pytest.fixture
async def office() -> AsyncIterator[PostOffice]:
    async with PostOffice() as office:
        yield office


class Night:
    """A notifier or several, a post office, people to tell, and all flags that were raised and not resolved."""

    def __init__(self, stage: Scene, office: PostOffice) -> None:
        self.stage, self.office = stage, office
        self.flags: list[Flag] = []

    async def found(self, company_id: str = COMPANY, people: Collection[str] = PEOPLE) -> None:
        await found(self.stage, company_id, people, wait_seconds=WAIT_SECONDS, interval_seconds=INTERVAL_SECONDS)

    def notifier(self, **other: object) -> Service:
        return self.stage.start("notifier", smtp_port=self.office.smtp_port, **IMPATIENT | other)

    async def flag(self, count: int = 1, company_id: str = COMPANY) -> list[Flag]:
        """Raise so many."""
        first = len(self.flags) + 1
        flags = [a_flag(company_id, first + n, in_hours=1000) for n in range(count)]
        self.flags += flags
        await publish(self.stage, flags)
        return flags

    async def told(self, seconds: float = 40) -> None:
        """Wait until everybody was told of everything."""
        await all_told(self.stage, len(self.flags), seconds)

    async def holds(self, seconds: float = 40) -> None:
        """Check, once everybody was told of everything, that they were told of it once."""
        await self.told(seconds)
        await held(self.stage, self.office, self.flags)

    async def visited(self, step: Step) -> None:
        """Wait until the server was where it is to hang."""

        async def come() -> bool:
            return step in self.office.visits

        await until(come, 20)


async def _says(service: Service, part: str, words: str) -> None:
    """Wait until /readyz says what is wrong."""

    async def said() -> bool:
        return words in (await service.troubles()).get(part, "")

    await until(said, 20)


async def test_whatever_moment_a_notifier_is_killed_at_everybody_is_told_of_everything_once(
    faults: Scene, office: PostOffice
) -> None:
    """`python -m tests.faults.mailing --rounds 100` does it longer."""
    figures = await mailing(faults, office, rounds=6, random=Random(6))
    print(figures)  # noqa: T201
    assert figures.again >= 1, "a kill found a mail that the server had and had not answered"


async def test_thrice_five_thousand_orphans_at_once_are_few_mails_and_little_memory(
    faults: Scene, office: PostOffice
) -> None:
    """`python -m tests.faults.storm` is the bound as it stands, 5,000 in a minute."""
    print(await storm(faults, office, flags=15_000, seconds=0, interval_seconds=4))  # noqa: T201


async def test_a_mail_server_that_was_away_and_hung_gets_one_digest_to_each_when_it_is_back(
    faults: Scene, office: PostOffice
) -> None:
    night = Night(faults, office)
    await night.found()
    service = night.notifier()
    await night.flag()
    await night.told()
    await office.stop()
    mended = (await night.flag(3))[0]
    await _says(service, "smtp", "cannot be connected to")
    hanging = asyncio.Event()
    office.always[Step.GREETING] = hanging
    await office.start()
    await night.flag(3)
    await _says(service, "smtp", "did not answer")
    await publish(faults, [resolving(mended)])
    night.flags.remove(mended)
    await _resolved(faults, mended)
    office.always.clear()
    hanging.set()
    await night.holds()
    assert sorted(office.took()) == sorted(2 * [f"{name}@example.com" for name in PEOPLE])
    await service.ready()


async def _resolved(faults: Scene, flag: Flag) -> None:
    """Wait until the notifier knows that a flag is resolved."""

    async def known() -> bool:
        sql = "SELECT count(*) FROM alerts WHERE flag_id = $1 AND resolved_at IS NOT NULL"
        return bool(await faults.pool.fetchval(sql, flag.id))

    await until(known, 20)


@pytest.mark.parametrize("step", [Step.GREETING, Step.MAIL, Step.BODY, Step.KEPT])
async def test_while_the_mail_server_hangs_a_notifier_ends_when_told_to(
    faults: Scene, office: PostOffice, step: Step
) -> None:
    await _stopped_while_hanging(Night(faults, office), step, smtp_timeout_seconds=20.0)


async def test_what_a_notifier_had_in_hand_when_it_was_stopped_goes_out_as_it_was(
    faults: Scene, office: PostOffice
) -> None:
    night = Night(faults, office)
    await _stopped_while_hanging(night, Step.KEPT, smtp_timeout_seconds=5.0)
    night.notifier()
    await night.flag()
    await night.holds()
    assert len(office.mails) > len(set(office.message_ids()))


async def _stopped_while_hanging(night: Night, step: Step, *, smtp_timeout_seconds: float) -> None:
    """Stop a notifier while it waits for the server, which goes on afterwards."""
    await night.found()
    night.office.tell(step, hanging := asyncio.Event())
    service = night.notifier(smtp_timeout_seconds=smtp_timeout_seconds)
    await night.flag()
    await night.visited(step)
    service.tell_to_stop()
    await service.ended(STOP_SECONDS)
    assert service.exit_code == 0
    hanging.set()


async def test_what_is_flagged_while_kafka_is_away_for_the_notifier_is_told_once_when_it_is_back(
    fragile: Scene, fragile_kafka: KafkaServer, office: PostOffice
) -> None:
    night = Night(fragile, office)
    await night.found()
    services = [night.notifier(), night.notifier()]
    await night.flag(5)
    await night.told()
    await asyncio.to_thread(fragile_kafka.kill)
    for service in services:
        await _says(service, "flags", "")
    await asyncio.to_thread(fragile_kafka.start)
    await night.flag(5)
    for service in services:
        await service.ready(40)
    await night.flag(5)
    await night.holds(60)


async def test_what_is_flagged_while_the_database_is_stopped_or_killed_is_told_once_when_it_is_back(
    apache_kafka: str, office: PostOffice, tmp_path: Path
) -> None:
    database = EmbeddedDatabase(tmp_path / "postgres", free_port())
    await database.start()
    try:
        await migrate(database.dsn)
        async with scene(apache_kafka, database.dsn, tmp_path) as stage:
            night = Night(stage, office)
            await night.found()
            service = night.notifier()
            for go in (database.stop, lambda: _killed(database)):
                await _gone_with_a_mail_under_way(night, go)
                await night.flag(3)
                await _says(service, "mail", "")
                await database.start()
                await service.ready(40)
            await night.flag(3)
            await night.holds()
    finally:
        await database.stop()


async def _gone_with_a_mail_under_way(night: Night, go: Callable[[], Awaitable[None]]) -> None:
    """Take the database away while the server has a mail and has not said so."""
    night.office.visits.clear()
    night.office.tell(Step.KEPT, answering := asyncio.Event())
    await night.flag(3)
    await night.visited(Step.KEPT)
    await go()
    answering.set()


async def _killed(database: EmbeddedDatabase) -> None:
    """Kill -9 of the postmaster."""
    assert database._child is not None
    database._child.kill()


@pytest.mark.parametrize("step", [Step.DATA, Step.KEPT])
async def test_a_notifier_that_slept_through_its_lease_tells_nothing_under_another_message_id(
    faults: Scene, office: PostOffice, step: Step
) -> None:
    night = Night(faults, office)
    await night.found()
    sleeper = night.notifier()
    await sleeper.ready()
    office.tell(step, hanging := asyncio.Event())
    await night.flag()
    await night.visited(step)
    sleeper.pause()
    night.notifier()
    await night.flag()
    await night.told(LEASE_SECONDS + 20)
    await night.flag()
    await night.told()
    sleeper.resume()
    hanging.set()
    await night.flag()
    await sleeper.said("notifier.letter")
    await night.holds()


async def test_two_notifiers_share_and_when_one_is_killed_the_other_goes_on(faults: Scene, office: PostOffice) -> None:
    night = Night(faults, office)
    companies = [on_partition(number, 4) for number in range(4)]
    for number, company_id in enumerate(companies):
        await night.found(company_id, CROWD[6 * number : 6 * number + 6])
    one, other = night.notifier(), night.notifier()
    for service in (one, other):
        await service.ready()
    office.before_answer.append(_slowly)
    for company_id in companies:
        await night.flag(3, company_id)
    await one.said("notifier.letter")
    await other.said("notifier.letter")
    one.kill()
    for company_id in companies:
        await night.flag(3, company_id)
    await night.holds(LEASE_SECONDS + 40)


async def _slowly() -> None:
    """Take so long for a mail that nobody can send all alone before the other looks."""
    loop = asyncio.get_running_loop()
    slow = loop.create_future()
    loop.call_later(0.2, slow.set_result, None)
    await slow
