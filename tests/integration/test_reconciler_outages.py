"""Broker or database away for a while: decisions wait, nothing is lost, nobody is told of what was not so."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from services.embedded.broker import EmbeddedBroker
from services.embedded.database import EmbeddedDatabase
from services.embedded.ports import free_port
from services.plumbing.kafka import ensure_topics
from services.plumbing.migrate import migrate
from services.plumbing.settings import Settings
from tests.support.commit_cutter import CommitCutter
from tests.support.kafka_jars import NoKafkaError
from tests.support.kafka_server import KafkaServer
from tests.support.no_kafka import NO_KAFKA
from tests.support.running import Running, assignment, running
from tests.support.stand import stand
from tests.support.tcp_proxy import TcpProxy
from tests.support.wait import until


class Wire(Protocol):
    """A broker of the test's own, and how it goes away."""

    bootstrap_servers: str

    async def cut(self) -> None:
        """Let it answer nobody."""
        ...

    async def heal(self) -> None:
        """Let it answer again, as if nothing had been."""
        ...


class Paused:
    """The embedded broker: its process is stopped and continued, for what it keeps it keeps in memory."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        """It runs."""
        self.bootstrap_servers = broker.bootstrap_servers
        self._pid = broker.pid or 0

    async def cut(self) -> None:
        """See `Wire`."""
        os.kill(self._pid, signal.SIGSTOP)

    async def heal(self) -> None:
        """See `Wire`."""
        os.kill(self._pid, signal.SIGCONT)


class Cut:
    """Apache Kafka behind a wire that is cut: every connection is reset and new ones are refused."""

    def __init__(self, server: KafkaServer, proxy: TcpProxy) -> None:
        """Both run."""
        self.bootstrap_servers = server.bootstrap_servers
        self.cut, self.heal = proxy.cut, proxy.heal


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    """Give a broker that can be cut off."""
    if request.param == "embedded":
        async with EmbeddedBroker() as broker:
            paused = Paused(broker)
            yield paused
            await paused.heal()
        return
    proxy = TcpProxy("127.0.0.1", free_port())
    await proxy.start()
    server = KafkaServer(proxy.target[1], advertised_port=proxy.port)
    try:
        await asyncio.to_thread(server.start)
        yield Cut(server, proxy)
    except NoKafkaError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{NO_KAFKA} ({error})")
    finally:
        await proxy.stop()
        await asyncio.to_thread(server.close)


@pytest.fixture
async def cut_off(request: pytest.FixtureRequest, wire: Wire, dsn: str) -> Settings:
    """Give settings for a broker that can be cut off; a stall's grace is three seconds."""
    grouped = "group" if isinstance(wire, Cut) else "all"
    return await stand(wire.bootstrap_servers, dsn, kafka_assignment=grouped, stall_grace_seconds="3")


@pytest.mark.timeout(120)
async def test_while_the_broker_is_cut_off_decisions_are_held_and_after_the_grace_they_are_made(
    wire: Wire, cut_off: Settings
) -> None:
    """What waited in a spool meanwhile comes within the grace, and is in time."""
    async with running(cut_off) as service:
        await service.company(window_seconds=4)
        await service.appointment(1)
        await service.appointment(2)
        await service.comes("SELECT count(*) = 2 FROM records")
        await wire.cut()
        await service.comes("SELECT sum(held_decisions) = 2 FROM partitions", seconds=60)
        assert await service.value("SELECT count(*) FROM flags") == 0
        await wire.heal()
        await service.booking(2, waited_seconds=60)
        await service.status(1, "orphaned_local", seconds=60)
        await service.status(2, "synced")
        await service.check()
        (flag,) = await service.flags()
        assert flag.appointment is not None
        assert flag.appointment.appointment_id == "1"


@pytest.mark.timeout(120)
async def test_it_ends_in_time_while_the_broker_is_cut_off(wire: Wire, cut_off: Settings) -> None:
    async with running(cut_off) as service:
        await service.company(window_seconds=600)
        await service.appointment(1)
        await service.status(1, "pending")
        await wire.cut()
        assert await service.stop() < 10
        await wire.heal()


async def test_it_ends_in_time_when_the_broker_is_gone(dsn: str) -> None:
    async with EmbeddedBroker() as broker:
        settings = await stand(broker.bootstrap_servers, dsn, kafka_assignment="all")
        async with running(settings) as service:
            await service.company(window_seconds=600)
            await service.appointment(1)
            await service.status(1, "pending")
            await broker.stop()
            assert await service.stop() < 10


async def test_it_ends_in_time_when_there_never_was_a_broker_or_a_database(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database, EmbeddedBroker() as broker:
        settings = await stand(broker.bootstrap_servers, database.dsn)
        async with running(settings, started=False) as service:
            for nowhere in (
                replace(settings, kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"),
                replace(settings, postgres_dsn=f"postgresql://nobody@127.0.0.1:{free_port()}/none"),
            ):
                service.settings = nowhere
                service.start()

                async def says_what_is_missing() -> bool:
                    return bool(await service.readyz())

                await until(says_what_is_missing, 10)
                assert await service.stop() < 10


async def test_a_broker_that_comes_back_empty_as_another_one_is_read_from_its_beginning(dsn: str) -> None:
    """The embedded broker keeps nothing; offsets of the log that is gone mean nothing in the new one."""
    port = free_port()
    async with EmbeddedBroker(port) as broker:
        settings = await stand(broker.bootstrap_servers, dsn, kafka_assignment="all")
        async with running(settings) as service:
            await service.company(window_seconds=3)
            for number in (1, 2, 3):
                await service.appointment(number)
            await service.comes("SELECT count(*) = 3 FROM records")
            await service.stop()
    async with EmbeddedBroker(port):
        await ensure_topics(settings)
        async with running(settings) as service:
            await service.booking(2, waited_seconds=60)
            await service.status(2, "synced")
            await service.status(1, "orphaned_local")
            await service.status(3, "orphaned_local")
            assert await service.value("SELECT count(*) FROM events") == 4
            assert len(await service.flags()) == 2
            assert await service.value("SELECT count(DISTINCT log_id) FROM partitions") == 1


@pytest.mark.timeout(120)
async def test_a_database_that_stops_and_starts_again_costs_nothing(
    request: pytest.FixtureRequest, broker: str, tmp_path: Path
) -> None:
    database = EmbeddedDatabase(tmp_path, free_port())
    await database.start()
    try:
        await migrate(database.dsn)
        settings = await stand(broker, database.dsn, **assignment(request))
        async with running(settings) as service:
            await service.company(window_seconds=2)
            await service.appointment(1)
            await service.comes("SELECT count(*) = 1 FROM records")
            await database.stop()

            async def says_so() -> bool:
                return bool({"postgres", "store", "kafka"} & (await service.readyz()).keys())

            await until(says_so, 20)
            for number in (2, 3, 4):
                await service.appointment(number)
            await service.booking(2)
            await database.start()
            for number, status in ((1, "orphaned_local"), (2, "synced"), (3, "orphaned_local"), (4, "orphaned_local")):
                await service.status(number, status, seconds=60)
            await service.check()
            assert await service.value("SELECT count(*) FROM events") == 5
    finally:
        await database.stop()


# --- a database that answers and will not write -----------------------------------------------------------------


@asynccontextmanager
async def refusing(service: Running, how: str, *, undo: str) -> AsyncIterator[None]:
    """Let the database's new sessions refuse, and end those that there are, as a fail-over does."""
    await service.pool.execute(how)
    await service.pool.execute(_TO_ALL)
    try:
        yield
    finally:
        await service.pool.execute(undo)
        await service.pool.execute(_TO_ALL)


_TO_ALL: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'reconcal-reconciler'"""


async def test_53_while_the_database_is_read_only_it_waits_and_says_so(
    request: pytest.FixtureRequest, broker: str, dsn: str
) -> None:
    settings = await stand(broker, dsn, **assignment(request))
    name = urlsplit(dsn).path.removeprefix("/")
    async with running(settings) as service:
        await service.company(window_seconds=2)
        await service.appointment(1)
        await service.comes("SELECT count(*) = 1 FROM records")
        setting = f"ALTER DATABASE {name} SET default_transaction_read_only"
        async with refusing(service, f"{setting} = on", undo=f"{setting} = off"):

            async def says_so() -> bool:
                return any("read-only" in reason for reason in (await service.readyz()).values())

            await until(says_so, 20)
            for number in (2, 3):
                await service.appointment(number)
            await service.booking(2)
            await until(says_so, 20)
            assert await service.value("SELECT count(*) FROM events") == 1
            assert await service.value("SELECT count(*) FROM flags") == 0
        for number, status in ((1, "orphaned_local"), (2, "synced"), (3, "orphaned_local")):
            await service.status(number, status, seconds=60)
        await service.check()
        assert await service.value("SELECT count(*) FROM events") == 4


@pytest.mark.parametrize("error", ["serialization_failure", "deadlock_detected", "disk_full", "lock_not_available"])
async def test_54_what_the_database_refuses_for_now_is_tried_again_until_it_takes_it(
    embedded_settings: Settings, error: str
) -> None:
    """The third try of a batch is taken; nothing is set aside for it, and nothing is written twice."""
    settings = replace(embedded_settings, kafka_assignment="all")
    async with running(settings, started=False) as service:
        await service.pool.execute(f"""
            CREATE SEQUENCE tries;
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF nextval('tries') < 3 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{error}'; END IF;
              RETURN NULL;
            END $$;
            CREATE TRIGGER refuses AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse()""")
        service.start()
        await service.company(window_seconds=600)
        await service.appointment(1)
        await service.booking(1)
        await service.status(1, "synced")
        assert await service.value("SELECT nextval('tries')") > 3
        assert await service.value("SELECT count(*) FROM dead_letters") == 0
        await service.check()


async def test_52_a_connection_that_breaks_in_commit_is_looked_up_and_nothing_is_done_twice(
    embedded_settings: Settings,
) -> None:
    """In turn before PostgreSQL has heard of the commit and after it has committed: the offsets say which."""
    address = urlsplit(embedded_settings.postgres_dsn)
    assert address.port is not None
    async with CommitCutter("127.0.0.1", address.port, every=2) as wire:
        by_wire = address._replace(netloc=address.netloc.replace(f":{address.port}", f":{wire.port}")).geturl()
        settings = replace(embedded_settings, kafka_assignment="all", postgres_dsn=by_wire, batch_max_records=3)
        async with running(settings, started=False) as service:
            await service.company(window_seconds=600)
            service.settings = settings
            wire.armed = True
            service.start()
            for number in range(30):
                await service.appointment(number)
                await service.booking(number)

            async def often_enough() -> bool:
                return min(wire.unheard, wire.unanswered) >= 3

            await until(often_enough, 40)
            wire.armed = False
            await service.comes("SELECT count(*) = 30 FROM records WHERE calcom_sync_status = 'synced'")
            await service.check()
            assert await service.value("SELECT count(*) FROM events") == 60


async def test_70_a_company_that_changes_its_window_has_its_open_deadlines_moved(
    request: pytest.FixtureRequest, broker: str, dsn: str
) -> None:
    settings = await stand(broker, dsn, **assignment(request))
    async with running(settings) as service:
        await service.company(window_seconds=600)
        await service.company("bern", window_seconds=600)
        for number in range(3):
            await service.appointment(number)
            await service.appointment(number, "bern")
        await service.comes("SELECT count(*) = 6 FROM records")
        await service.comes("SELECT count(*) = 2 FROM applied_policies")
        await service.pool.execute("UPDATE companies SET window_seconds = 3600 WHERE company_id = 'acme'")
        moved = "deadline_at BETWEEN first_received_at + interval '1 hour' AND now() + interval '1 hour'"
        await service.comes(f"SELECT count(*) = 3 FROM records WHERE company_id = 'acme' AND {moved}")
        assert await service.value(f"SELECT count(*) FROM records WHERE company_id = 'bern' AND {moved}") == 0
        await service.pool.execute("UPDATE companies SET window_seconds = 1 WHERE company_id = 'acme'")
        for number in range(3):
            await service.status(number, "orphaned_local")
        await service.check()
        assert await service.value("SELECT count(*) FROM applied_policies WHERE after_record_id IS NULL") == 2
